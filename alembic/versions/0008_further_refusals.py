"""Refusals beyond a person's bound are counted on the newest that waits."""

import sqlalchemy as sa

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_WAITS = sa.text("decision IS NULL")


def upgrade() -> None:
    with op.batch_alter_table("review") as review:
        review.add_column(sa.Column("further", sa.Integer(), nullable=False, server_default="0"))
    op.create_index("review_waiting", "review", ["user_id", "category"], sqlite_where=_WAITS, postgresql_where=_WAITS)


def downgrade() -> None:
    op.drop_index("review_waiting", "review")
    with op.batch_alter_table("review") as review:
        review.drop_column("further")
