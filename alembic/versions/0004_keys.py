"""API keys have scopes, models, limits, an expiry, and a secret that serves beside its successor."""

import sqlalchemy as sa

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_USUAL = "chat models generations"
_HAS_KEY = sa.text("api_key_id IS NOT NULL")


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=True)


def upgrade() -> None:
    with op.batch_alter_table("api_key") as key:
        key.add_column(sa.Column("former_digest", sa.String(), nullable=True))
        key.add_column(_number("former_until"))
        key.add_column(sa.Column("scopes", sa.String(), nullable=False, server_default=_USUAL))
        key.add_column(sa.Column("models", sa.Text(), nullable=False, server_default=""))
        for name in ("monthly_tokens", "requests_per_minute", "expires_at"):
            key.add_column(_number(name))
        key.create_unique_constraint(op.f("api_key_former_digest_unique"), ["former_digest"])
    # What a key could do so far: administration too if its owner had a role for it.
    op.execute(
        f"UPDATE api_key SET scopes = '{_USUAL} admin'"
        " WHERE user_id IN (SELECT id FROM users WHERE role IN ('staff', 'admin'))"
    )
    with op.batch_alter_table("generation") as generation:
        generation.add_column(sa.Column("api_key_id", sa.String(), nullable=True))
    op.create_index(
        "generation_by_key",
        "generation",
        ["api_key_id", "period"],
        sqlite_where=_HAS_KEY,
        postgresql_where=_HAS_KEY,
    )


def downgrade() -> None:
    op.drop_index("generation_by_key", "generation")
    with op.batch_alter_table("generation") as generation:
        generation.drop_column("api_key_id")
    with op.batch_alter_table("api_key") as key:
        key.drop_constraint(op.f("api_key_former_digest_unique"), type_="unique")
        for name in ("expires_at", "requests_per_minute", "monthly_tokens", "models", "scopes", "former_until"):
            key.drop_column(name)
        key.drop_column("former_digest")
