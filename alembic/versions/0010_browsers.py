"""A browser session knows its kind of browser, when it was last used, and when the password was last shown in it."""

import time

import sqlalchemy as sa

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_NUMBERS = ("seen_at", "proved_at", "short_password")


def upgrade() -> None:
    with op.batch_alter_table("browser_session") as session:
        session.add_column(sa.Column("browser", sa.String(), nullable=False, server_default=""))
        for name in _NUMBERS:
            session.add_column(sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    # When they were last used is not known: nobody is signed out by this.
    op.execute(f"UPDATE browser_session SET seen_at = {time.time_ns() // 1_000_000}")


def downgrade() -> None:
    with op.batch_alter_table("browser_session") as session:
        for name in (*reversed(_NUMBERS), "browser"):
            session.drop_column(name)
