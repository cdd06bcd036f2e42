"""The audit trail, and the triggers that keep its entries as they are."""

import sqlalchemy as sa

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_WRITTEN = (
    "id", "at", "tenant_id", "actor", "action", "object_kind", "object_id", "outcome", "network", "details", "digest"
)  # fmt: skip
_NOT_SEALED = sa.text("seq IS NULL")
# An entry is sealed once: it gets its place in the chain, and keeps all else.
_SEALED = "OLD.seq IS NULL AND NEW.seq > 0 AND NEW.prev IS NOT NULL AND NEW.hash IS NOT NULL"
_ONWARD = "NEW.id = OLD.id AND NEW.seq > OLD.seq"
_NEVER, _HEAD = "an audit entry is never changed or removed", "the head of the audit trail only moves on"
_NEW = "an audit entry is added unsealed and under a new id"


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in _WRITTEN[2:9]),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column("prev", sa.String(), nullable=True),
        sa.Column("hash", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("audit_pkey")),
    )
    op.create_index("audit_seq", "audit", ["seq"], unique=True)
    op.create_index("audit_not_sealed", "audit", ["id"], sqlite_where=_NOT_SEALED, postgresql_where=_NOT_SEALED)
    for name, column in (("audit_by_actor", "actor"), ("audit_by_object", "object_id"), ("audit_by_action", "action")):
        op.create_index(name, "audit", [column, "id"])
    op.create_table(
        "audit_head",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("audit_head_pkey")),
    )
    op.execute(f"INSERT INTO audit_head (id, seq, hash) VALUES ('chain', 0, '{'0' * 64}')")
    if op.get_bind().dialect.name == "sqlite":
        _on_sqlite()
    else:
        _on_postgresql()


def _on_sqlite() -> None:
    same = " AND ".join(f"NEW.{column} IS OLD.{column}" for column in _WRITTEN)
    # A replacing insert removes a row without asking the trigger for removals.
    taken = "EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)"
    placed = "EXISTS (SELECT 1 FROM audit WHERE seq = NEW.seq)"
    for name, event, table, allowed, said in (
        ("audit_added", "INSERT", "audit", f"NEW.seq IS NULL AND NOT {taken}", _NEW),
        ("audit_kept", "UPDATE", "audit", f"{_SEALED} AND {same} AND NOT {placed}", _NEVER),
        ("audit_not_removed", "DELETE", "audit", "0", _NEVER),
        ("audit_head_alone", "INSERT", "audit_head", "0", _HEAD),
        ("audit_head_onward", "UPDATE", "audit_head", _ONWARD, _HEAD),
        ("audit_head_not_removed", "DELETE", "audit_head", "0", _HEAD),
    ):
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {event} ON {table} WHEN NOT ({allowed})"
            f" BEGIN SELECT RAISE(ABORT, '{said}'); END"
        )


def _on_postgresql() -> None:
    new, old = (", ".join(f"{row}.{column}" for column in _WRITTEN) for row in ("NEW", "OLD"))
    for function, allowed, said in (
        ("audit_added", "NEW.seq IS NULL", _NEW),
        ("audit_kept", f"TG_OP = 'UPDATE' AND {_SEALED} AND ({new}) IS NOT DISTINCT FROM ({old})", _NEVER),
        ("audit_head_kept", f"TG_OP = 'UPDATE' AND {_ONWARD}", _HEAD),
    ):
        op.execute(
            f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF {allowed} THEN RETURN NEW; END IF;"
            f" RAISE EXCEPTION '{said}' USING ERRCODE = 'check_violation'; END $$"
        )
    for function, event, table, each in (
        ("audit_added", "INSERT", "audit", "ROW"),
        ("audit_kept", "UPDATE OR DELETE", "audit", "ROW"),
        ("audit_kept", "TRUNCATE", "audit", "STATEMENT"),
        ("audit_head_kept", "INSERT OR UPDATE OR DELETE", "audit_head", "ROW"),
        ("audit_head_kept", "TRUNCATE", "audit_head", "STATEMENT"),
    ):
        name = f"{function}_{each.lower()}"
        op.execute(f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH {each} EXECUTE FUNCTION {function}()")


def downgrade() -> None:
    op.drop_table("audit_head")
    op.drop_table("audit")
    if op.get_bind().dialect.name == "postgresql":
        for function in ("audit_added", "audit_kept", "audit_head_kept"):
            op.execute(f"DROP FUNCTION {function}()")
