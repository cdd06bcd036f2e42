"""A second factor for signing in, recovery codes, sign-ins that wait for their code, and accounts that were closed."""

import sqlalchemy as sa

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("users") as users:
        users.add_column(sa.Column("factor_seed", sa.String(), nullable=True))
        users.add_column(sa.Column("factor_key", sa.String(), nullable=True))
        users.add_column(sa.Column("factor_step", sa.BigInteger(), nullable=False, server_default="0"))
        users.add_column(sa.Column("factor_at", sa.BigInteger(), nullable=True))
        users.add_column(sa.Column("closed_at", sa.BigInteger(), nullable=True))
    op.create_table(
        "recovery_code",
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("recovery_code_user_id_fkey")),
        sa.PrimaryKeyConstraint("user_id", "digest", name=op.f("recovery_code_pkey")),
    )
    op.create_table(
        "half_sign_in",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("password", sa.String(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("half_sign_in_user_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("half_sign_in_pkey")),
    )
    op.create_index(op.f("half_sign_in_user_id_index"), "half_sign_in", ["user_id"])


def downgrade() -> None:
    op.drop_table("half_sign_in")
    op.drop_table("recovery_code")
    with op.batch_alter_table("users") as users:
        for name in ("closed_at", "factor_at", "factor_step", "factor_key", "factor_seed"):
            users.drop_column(name)
