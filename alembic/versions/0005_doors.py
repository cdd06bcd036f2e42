"""Devices that have signed in before, and the code that makes the first account."""

import sqlalchemy as sa

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "known_device",
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("network", sa.String(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("known_device_user_id_fkey")),
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("known_device_pkey")),
    )
    op.create_table(
        "setup_code",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("setup_code_pkey")),
    )


def downgrade() -> None:
    op.drop_table("setup_code")
    op.drop_table("known_device")
