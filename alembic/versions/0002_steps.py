"""Steps, typed logs, holds in sequence; what grows is indexed where it is looked at."""

import sqlalchemy as sa

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ACTIVE = "status IN ('queued', 'streaming')"


def _big(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False, server_default="")


def upgrade() -> None:
    op.create_table(
        "step",
        sa.Column("generation_id", sa.String(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("input", sa.BigInteger(), nullable=False),
        sa.Column("output", sa.Text(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("prompt_micro", sa.BigInteger(), nullable=False),
        sa.Column("completion_micro", sa.BigInteger(), nullable=False),
        sa.Column("cost_micro", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("generation_id", "seq", name=op.f("step_pkey")),
    )
    op.create_table(
        "checkpoint",
        sa.Column("generation_id", sa.String(), nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("generation_id", "start", name=op.f("checkpoint_pkey")),
    )
    with op.batch_alter_table("generation") as generation:
        generation.add_column(_text("job"))
        generation.add_column(sa.Column("job_version", sa.Integer(), nullable=False, server_default="0"))
        generation.add_column(sa.Column("step", sa.Integer(), nullable=False, server_default="1"))
        generation.add_column(_big("held_micro"))
        generation.add_column(_big("log_length"))
        generation.drop_index("generation_by_status")
    op.execute("UPDATE generation SET job = prompt")
    op.execute(
        "INSERT INTO checkpoint (generation_id, start, text)"
        f" SELECT id, 0, checkpoint FROM generation WHERE checkpoint <> '' AND {_ACTIVE}"
    )
    with op.batch_alter_table("generation") as generation:
        generation.drop_column("prompt")
        generation.drop_column("checkpoint")
    where = sa.text(_ACTIVE)
    op.create_index(
        "generation_active", "generation", ["owner", "created_at"], sqlite_where=where, postgresql_where=where
    )
    with op.batch_alter_table("message") as message:
        message.add_column(_text("log"))
        message.add_column(sa.Column("depth", sa.Integer(), nullable=False, server_default="1"))
    op.execute(
        "WITH RECURSIVE branch AS ("
        " SELECT id, 1 AS depth FROM message WHERE parent_id IS NULL"
        " UNION ALL SELECT m.id, b.depth + 1 FROM message m JOIN branch b ON m.parent_id = b.id)"
        " UPDATE message SET depth = (SELECT depth FROM branch WHERE branch.id = message.id)"
        " WHERE parent_id IS NOT NULL"
    )
    with op.batch_alter_table("ledger") as ledger:
        ledger.add_column(sa.Column("seq", sa.Integer(), nullable=False, server_default="1"))
        ledger.drop_constraint("ledger_once", type_="unique")
        ledger.create_unique_constraint("ledger_once", ["generation_id", "kind", "seq"])
    with op.batch_alter_table("quota") as quota:
        for name in ("granted", "granted_micro", "used_micro", "held_micro"):
            quota.add_column(_big(name))
    where = sa.text("exported_at IS NULL")
    op.create_index("event_waiting", "event", ["at"], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    op.drop_index("event_waiting", "event")
    with op.batch_alter_table("quota") as quota:
        for name in ("granted", "granted_micro", "used_micro", "held_micro"):
            quota.drop_column(name)
    op.execute("DELETE FROM ledger WHERE seq > 1")
    with op.batch_alter_table("ledger") as ledger:
        ledger.drop_constraint("ledger_once", type_="unique")
        ledger.create_unique_constraint("ledger_once", ["generation_id", "kind"])
        ledger.drop_column("seq")
    with op.batch_alter_table("message") as message:
        message.drop_column("depth")
        message.drop_column("log")
    op.drop_index("generation_active", "generation")
    with op.batch_alter_table("generation") as generation:
        generation.add_column(_text("prompt"))
        generation.add_column(_text("checkpoint"))
        for name in ("job", "job_version", "step", "held_micro", "log_length"):
            generation.drop_column(name)
    op.create_index("generation_by_status", "generation", ["status"], unique=False)
    op.drop_table("checkpoint")
    op.drop_table("step")
