"""What the purge and the pages of reviews look for is indexed."""

import sqlalchemy as sa

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_DELETED = sa.text("deleted_at IS NOT NULL")
_OF_CALLS = sa.text("thread_id IS NULL")


def upgrade() -> None:
    op.create_index("thread_deleted", "thread", ["deleted_at"], sqlite_where=_DELETED, postgresql_where=_DELETED)
    op.create_index(
        "generation_of_calls", "generation", ["finished_at"], sqlite_where=_OF_CALLS, postgresql_where=_OF_CALLS
    )
    op.create_index(op.f("review_generation_id_index"), "review", ["generation_id"], unique=False)
    op.create_index("review_decided", "review", ["decided_at", "id"], unique=False)


def downgrade() -> None:
    op.drop_index("review_decided", "review")
    op.drop_index(op.f("review_generation_id_index"), "review")
    op.drop_index("generation_of_calls", "generation")
    op.drop_index("thread_deleted", "thread")
