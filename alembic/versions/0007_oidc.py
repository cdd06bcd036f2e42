"""Signing in through a provider of identities."""

import sqlalchemy as sa

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("browser_session", sa.Column("provider_session", sa.String(), nullable=True))
    op.create_index(op.f("browser_session_provider_session_index"), "browser_session", ["provider_session"])
    op.create_table(
        "external_identity",
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("external_identity_user_id_fkey")),
        sa.PrimaryKeyConstraint("issuer", "subject", name=op.f("external_identity_pkey")),
    )
    op.create_index(op.f("external_identity_user_id_index"), "external_identity", ["user_id"])
    op.create_table(
        "oidc_flow",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("nonce", sa.String(), nullable=False),
        sa.Column("verifier", sa.String(), nullable=False),
        sa.Column("onward", sa.String(), nullable=False),
        sa.Column("link", sa.String(), nullable=True),
        sa.Column("fresh", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("oidc_flow_pkey")),
    )


def downgrade() -> None:
    op.drop_table("oidc_flow")
    op.drop_table("external_identity")
    op.drop_index(op.f("browser_session_provider_session_index"), "browser_session")
    with op.batch_alter_table("browser_session") as table:
        table.drop_column("provider_session")
