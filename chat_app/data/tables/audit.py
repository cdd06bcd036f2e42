"""The audit trail: who did what to what. Triggers keep its rows from being changed or removed; see migration 0009."""

from sqlalchemy import Index
from sqlalchemy import text as sql
from sqlmodel import Field, SQLModel

from chat_app.data.ids import new_id
from chat_app.data.tables.columns import big, text

NOT_SEALED = "seq IS NULL"
"""An entry that is not in the chain yet; word for word the condition of the partial index `audit_not_sealed`."""


class AuditEntry(SQLModel, table=True):
    """One act. `digest` is over the columns above it; `seq`, `prev` and `hash` are its place in the chain, null until
    it is sealed, about a second after it was written."""

    __tablename__ = "audit"
    __table_args__ = (
        Index("audit_seq", "seq", unique=True),
        Index("audit_not_sealed", "id", sqlite_where=sql(NOT_SEALED), postgresql_where=sql(NOT_SEALED)),
        Index("audit_by_actor", "actor", "id"),
        Index("audit_by_object", "object_id", "id"),
        Index("audit_by_action", "action", "id"),
    )

    id: str = Field(default_factory=new_id, primary_key=True)
    at: int = big()
    tenant_id: str
    actor: str = Field(description="a user's id, `operator` for the command line, empty for nobody known")
    action: str
    object_kind: str
    object_id: str
    outcome: str
    network: str = Field(description="pseudonym of the network address; empty if there is none")
    details: str = text()
    digest: str
    seq: int | None = big(nullable=True)
    prev: str | None = None
    hash: str | None = None


class AuditHead(SQLModel, table=True):
    """Where the chain ends: one row, which only moves on."""

    __tablename__ = "audit_head"

    id: str = Field(primary_key=True, description="always `chain`")
    seq: int = big()
    hash: str
