"""Devices keep no plain digest of a network address any more: there are so few addresses that all can be tried."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("UPDATE known_device SET network = ''")


def downgrade() -> None:
    """What was emptied stays so: then the addresses are as good as new ones."""
