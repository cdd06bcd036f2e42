"""The outbox of events, until they are exported to Parquet."""

from sqlalchemy import Index
from sqlalchemy import text as sql
from sqlmodel import Field, SQLModel

from chat_app.data.ids import new_id
from chat_app.data.tables.columns import big, text


class Event(SQLModel, table=True):
    """One content-free event. `exported_at` is null until it lies in a Parquet file."""

    __tablename__ = "event"
    __table_args__ = (
        Index(
            "event_waiting",
            "at",
            sqlite_where=sql("exported_at IS NULL"),
            postgresql_where=sql("exported_at IS NULL"),
        ),
    )

    id: str = Field(default_factory=new_id, primary_key=True)
    kind: str
    at: int = big()
    payload: str = text()
    exported_at: int | None = big(nullable=True)
