"""Conversations: threads, their messages, and the generations that write the answers, with steps and checkpoints."""

from sqlalchemy import Index
from sqlalchemy import text as sql
from sqlmodel import Field, SQLModel

from chat_app.data.ids import new_id
from chat_app.data.tables.columns import big, text

QUEUED, STREAMING = ACTIVE = ("queued", "streaming")
"""Statuses of a generation that some process has to be working on."""
IS_ACTIVE = f"status IN {ACTIVE}"
"""The same in SQL, word for word the condition of the partial index `generation_active`."""

HAS_KEY = "api_key_id IS NOT NULL"


def in_deleted_thread(table: str) -> str:
    """Condition on a row of `table`, which has a `generation_id`: it is about an answer in a thread that was
    deleted."""
    return (
        "EXISTS (SELECT 1 FROM generation g JOIN thread t ON t.id = g.thread_id"
        f" WHERE g.id = {table}.generation_id AND t.deleted_at IS NOT NULL)"
    )


IN_DELETED_THREAD = in_deleted_thread("review")


class Thread(SQLModel, table=True):
    __tablename__ = "thread"
    __table_args__ = (
        Index("thread_by_user", "user_id", "deleted_at", "updated_at"),
        Index(
            "thread_deleted",
            "deleted_at",
            sqlite_where=sql("deleted_at IS NOT NULL"),
            postgresql_where=sql("deleted_at IS NOT NULL"),
        ),
    )

    id: str = Field(default_factory=new_id, primary_key=True)
    tenant_id: str = Field(foreign_key="tenant.id")
    user_id: str = Field(foreign_key="users.id")
    title: str = ""
    model: str = Field(default="", description="the person's choice; empty: the default model")
    head_id: str | None = Field(default=None, description="last message of the branch that is shown")
    created_at: int = big()
    updated_at: int = big()
    deleted_at: int | None = big(nullable=True)


class Message(SQLModel, table=True):
    """One message of the tree. An assistant's row gets its text when its generation has ended.

    `log` is the generation log of an answer that is more than text (reasoning, tools), else empty; `depth` counts the
    messages from the first one down to this one, so that nobody has to walk up to know how long a branch is.
    """

    __tablename__ = "message"
    __table_args__ = (Index("message_by_thread", "thread_id", "created_at"),)

    id: str = Field(default_factory=new_id, primary_key=True)
    thread_id: str = Field(foreign_key="thread.id")
    parent_id: str | None = Field(default=None, index=True, description="the message that this one answers or follows")
    role: str = Field(description="user or assistant")
    content: str = text()
    log: str = text()
    depth: int = 1
    generation_id: str | None = Field(default=None, index=True)
    created_at: int = big()


class Generation(SQLModel, table=True):
    """One answer as a durable job. `status`: queued, streaming, done, stopped, failed, refused.

    `job` is the JSON of all that another process needs to go on (`turn/job.py`), in the format `job_version`; it is
    emptied at the end. `held_tokens` and `held_micro` are what its open step `step` holds now.
    """

    __tablename__ = "generation"
    __table_args__ = (
        Index("generation_active", "owner", "created_at", sqlite_where=sql(IS_ACTIVE), postgresql_where=sql(IS_ACTIVE)),
        Index("generation_by_user", "user_id", "created_at"),
        Index("generation_by_key", "api_key_id", "period", sqlite_where=sql(HAS_KEY), postgresql_where=sql(HAS_KEY)),
        Index(
            "generation_of_calls",
            "finished_at",
            sqlite_where=sql("thread_id IS NULL"),
            postgresql_where=sql("thread_id IS NULL"),
        ),
    )

    id: str = Field(default_factory=new_id, primary_key=True)
    tenant_id: str
    user_id: str
    thread_id: str | None = Field(default=None, index=True, description="null for a call of the API")
    message_id: str | None = Field(default=None, description="the assistant's message; null for a call of the API")
    source: str = Field(default="chat", description="chat or api")
    api_key_id: str | None = Field(default=None, description="the key with which it was asked for")
    status: str
    owner: str = Field(default="", description="the process that works on it")
    fence: int = big(0)
    model: str
    plan_id: str
    job: str = text()
    job_version: int = 0
    step: int = 1
    period: str = Field(description="month of the quota that the hold is on, YYYY-MM")
    held_tokens: int = big(0)
    held_micro: int = big(0)
    prompt_tokens: int = big(0)
    completion_tokens: int = big(0)
    cached_tokens: int = big(0)
    cost_micro: int = big(0)
    attempts: int = 0
    error: str = text()
    receipt: str = text()
    log_length: int = big(0)
    created_at: int = big()
    first_token_at: int | None = big(nullable=True)
    finished_at: int | None = big(nullable=True)


class Step(SQLModel, table=True):
    """One step of a turn. `kind`: model, tool, retrieval, summary, check; `status`: running, done, stopped, refused,
    failed.

    `input` says where the step's input lies: an offset of the generation log, from whose beginning up to there a model
    read, or at which the tool call stands. `output` is what a step gave that the log may not hold yet (a tool's
    result); it is emptied at the end of the turn. `key` makes a tool's call recognisable when it is made again.
    Prices are in micro-units of the currency per million tokens, as they stood when the step began.
    """

    __tablename__ = "step"

    generation_id: str = Field(primary_key=True)
    seq: int = Field(primary_key=True)
    kind: str
    status: str
    model: str = ""
    name: str = Field(default="", description="of the tool")
    key: str = ""
    input: int = big(0)
    output: str = text()
    prompt_tokens: int = big(0)
    completion_tokens: int = big(0)
    cached_tokens: int = big(0)
    prompt_micro: int = big(0)
    completion_micro: int = big(0)
    cost_micro: int = big(0)
    started_at: int = big()
    finished_at: int | None = big(nullable=True)


class Checkpoint(SQLModel, table=True):
    """A piece of a running generation's log, beside a log that is not durable. Gone when the generation has ended."""

    __tablename__ = "checkpoint"

    generation_id: str = Field(primary_key=True)
    start: int = Field(primary_key=True, description="offset in the generation log")
    text: str = text()
