"""What each key has used in a month, as a running sum: adding up its calls takes longer with each of them."""

import sqlalchemy as sa

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "key_month",
        sa.Column("api_key_id", sa.String(), nullable=False),
        sa.Column("period", sa.String(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("api_key_id", "period", name=op.f("key_month_pkey")),
    )
    charged = (
        "SELECT SUM(CASE l.kind WHEN 'settle' THEN l.tokens ELSE -l.tokens END) FROM ledger l"
        " WHERE l.generation_id = g.id AND l.kind IN ('settle', 'void')"
    )
    op.execute(
        "INSERT INTO key_month (api_key_id, period, used, held)"
        f" SELECT g.api_key_id, g.period, SUM(COALESCE(({charged}), 0)), SUM(g.held_tokens)"
        " FROM generation g WHERE g.api_key_id IS NOT NULL GROUP BY g.api_key_id, g.period"
    )


def downgrade() -> None:
    op.drop_table("key_month")
