"""Conversations: threads, their messages, and the generations that write the answers."""

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from chat_app.data.ids import new_id
from chat_app.data.tables.columns import big, text

ACTIVE = ("queued", "streaming")
"""Statuses of a generation that some process has to be working on."""


class Thread(SQLModel, table=True):
    __tablename__ = "thread"
    __table_args__ = (Index("thread_by_user", "user_id", "deleted_at", "updated_at"),)

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
    """One message of the tree. An assistant's row gets its text when its generation has ended."""

    __tablename__ = "message"
    __table_args__ = (Index("message_by_thread", "thread_id", "created_at"),)

    id: str = Field(default_factory=new_id, primary_key=True)
    thread_id: str = Field(foreign_key="thread.id")
    parent_id: str | None = Field(default=None, index=True, description="the message that this one answers or follows")
    role: str = Field(description="user or assistant")
    content: str = text()
    generation_id: str | None = Field(default=None, index=True)
    created_at: int = big()


class Generation(SQLModel, table=True):
    """One answer as a durable job. `status`: queued, streaming, done, stopped, failed, refused.

    `prompt` is the JSON of exactly what the engine was given, so that another process can continue it;
    `checkpoint` the text so far where the generation log alone is not durable. Both are emptied at the end.
    """

    __tablename__ = "generation"
    __table_args__ = (
        Index("generation_by_status", "status"),
        Index("generation_by_user", "user_id", "created_at"),
    )

    id: str = Field(default_factory=new_id, primary_key=True)
    tenant_id: str
    user_id: str
    thread_id: str | None = Field(default=None, index=True, description="null for a call of the API")
    message_id: str | None = Field(default=None, description="the assistant's message; null for a call of the API")
    source: str = Field(default="chat", description="chat or api")
    status: str
    owner: str = ""
    fence: int = big(0)
    model: str
    plan_id: str
    prompt: str = text()
    checkpoint: str = text()
    period: str = Field(description="month of the quota that the hold is on, YYYY-MM")
    held_tokens: int = big(0)
    prompt_tokens: int = big(0)
    completion_tokens: int = big(0)
    cached_tokens: int = big(0)
    cost_micro: int = big(0)
    attempts: int = 0
    error: str = text()
    receipt: str = text()
    created_at: int = big()
    first_token_at: int | None = big(nullable=True)
    finished_at: int | None = big(nullable=True)
