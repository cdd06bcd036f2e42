"""Plans, prices, what is held and used against a quota, and the append-only ledger."""

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel

from chat_app.data.ids import new_id
from chat_app.data.tables.columns import big


class Plan(SQLModel, table=True):
    """A tier as data. Null means: no limit."""

    __tablename__ = "plan"

    id: str = Field(primary_key=True, description="short name, e.g. free")
    name: str
    monthly_tokens: int | None = big(nullable=True)
    requests_per_minute: int = 60
    concurrent_streams: int = 4
    max_output_tokens: int | None = None
    weight: int = Field(default=1, description="share in the fair queue")
    position: int = Field(default=0, description="order on pages")
    created_at: int = big()
    archived_at: int | None = big(nullable=True)


class Price(SQLModel, table=True):
    """What a model costs, in micro-units of the currency per million tokens. No row: nothing."""

    __tablename__ = "price"

    model: str = Field(primary_key=True)
    prompt_micro: int = big(0)
    completion_micro: int = big(0)


class Quota(SQLModel, table=True):
    """One account's month: what was granted beside the plan, what is used, and what running answers hold.

    Tokens, and money in micro-units of the currency.
    """

    __tablename__ = "quota"

    user_id: str = Field(primary_key=True)
    period: str = Field(primary_key=True, description="YYYY-MM, UTC")
    granted: int = big(0)
    used: int = big(0)
    held: int = big(0)
    granted_micro: int = big(0)
    used_micro: int = big(0)
    held_micro: int = big(0)


class KeyMonth(SQLModel, table=True):
    """One API key's month, in tokens: what its calls have used, and what those that run hold."""

    __tablename__ = "key_month"

    api_key_id: str = Field(primary_key=True)
    period: str = Field(primary_key=True, description="YYYY-MM, UTC")
    used: int = big(0)
    held: int = big(0)


class LedgerEntry(SQLModel, table=True):
    """Never changed, never deleted. A step has one `hold` and one `settle`: that makes it charged once.

    A `grant` adds to an account's month, a `void` takes a settled charge back.
    """

    __tablename__ = "ledger"
    __table_args__ = (UniqueConstraint("generation_id", "kind", "seq", name="ledger_once"),)

    id: str = Field(default_factory=new_id, primary_key=True)
    tenant_id: str
    user_id: str = Field(index=True)
    generation_id: str = Field(description="of a grant: whatever makes it one and no other")
    kind: str = Field(description="hold, settle, grant or void")
    seq: int = Field(default=1, description="the step")
    period: str
    tokens: int = big(0)
    cost_micro: int = big(0)
    created_at: int = big()
