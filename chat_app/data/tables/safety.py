"""What the checks refused, and what a person decided about it."""

from sqlalchemy import Index
from sqlalchemy import text as sql
from sqlmodel import Field, SQLModel

from chat_app.data.ids import new_id
from chat_app.data.tables.columns import big, text

_WAITS = sql("decision IS NULL")


class Review(SQLModel, table=True):
    """One refusal that waits for, or has, a person's decision (`upheld` or `overturned`)."""

    __tablename__ = "review"
    __table_args__ = (
        Index("review_by_decision", "decision", "created_at"),
        Index("review_decided", "decided_at", "id"),
        Index("review_waiting", "user_id", "category", sqlite_where=_WAITS, postgresql_where=_WAITS),
    )

    id: str = Field(default_factory=new_id, primary_key=True)
    tenant_id: str
    user_id: str
    generation_id: str = Field(index=True)
    stage: str = Field(description="input or output")
    category: str
    rule: str
    content: str = text()
    created_at: int = big()
    decision: str | None = None
    decided_by: str | None = None
    decided_at: int | None = big(nullable=True)
    note: str = text()
    further: int = Field(
        default=0,
        sa_column_kwargs={"server_default": "0"},
        description="refusals of the same person and category since then, of which nothing is kept",
    )
