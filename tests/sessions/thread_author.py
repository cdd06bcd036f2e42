"""Writes threads straight into a database, as a turn would, for two people who own them."""

import json
from dataclasses import dataclass, field

from chat_app.data.db.base import Database, Row, Statement, Value
from chat_app.data.ids import new_id
from chat_app.sessions.threads import Exchange, Threads, branched


@dataclass(frozen=True)
class Person:
    """An owner of threads."""

    user_id: str
    tenant_id: str = "acme"


ADA, EVE = Person("ada"), Person("eve")


async def add_people(database: Database) -> None:
    """Two people of one tenant."""
    await database.batch(
        Statement("INSERT INTO tenant (id, name, created_at) VALUES ('acme', 'Acme', 0)"),
        Statement(
            "INSERT INTO plan (id, name, requests_per_minute, concurrent_streams, weight, position, created_at)"
            " VALUES ('any', 'Any', 60, 4, 1, 0, 0)"
        ),
    )
    for who in (ADA, EVE):
        await database.batch(
            Statement(
                "INSERT INTO users (id, tenant_id, email, name, password_hash, role, plan_id, created_at)"
                " VALUES ($1, 'acme', $2, '', '', 'user', 'any', 0)",
                (who.user_id, f"{who.user_id}@example.org"),
            )
        )


@dataclass
class Watched:
    """A database that keeps what was asked of it, and how many rows came back."""

    inner: Database
    rows: list[int] = field(default_factory=list)

    async def query(self, sql: str, *params: Value) -> list[Row]:
        rows = await self.inner.query(sql, *params)
        self.rows.append(len(rows))
        return list(rows)


@dataclass
class Author:
    """Writes threads as a turn does, and the answers into them."""

    db: Database
    who: Person = ADA

    @property
    def threads(self) -> Threads:
        return Threads(self.db)

    async def commit(self, exchange: Exchange, seen_head: str | None, model: str = "m") -> bool:
        """Add the exchange; whether it stands beside the shown branch."""
        results = await self.db.batch(
            *self.threads.add(self.who, exchange, f"g-{exchange.answer_id}", model, seen_head)
        )
        return branched(results, exchange)

    async def say(self, text: str, thread_id: str | None = None, said: str = "yes") -> Exchange:
        """A question at the thread's end, in a new thread if none is named, and its answer."""
        head = (await self.threads.head(self.who, thread_id))[0] if thread_id else None
        exchange = Exchange(thread_id or new_id(), new_id(), head, new_id(), text, thread_id is None)
        await self.commit(exchange, head)
        await self.write(exchange.answer_id, said)
        return exchange

    async def end(
        self, answer_id: str, status: str, error: str, receipt: dict[str, object] | None, model: str = "m"
    ) -> None:
        """Give an answer the row of its generation."""
        await self.db.batch(
            Statement(
                "INSERT INTO generation (id, tenant_id, user_id, message_id, source, status, owner, fence, model,"
                " plan_id, period, held_tokens, prompt_tokens, completion_tokens, cached_tokens, cost_micro, attempts,"
                " error, receipt, created_at)"
                " VALUES ($1, $2, $3, $4, 'chat', $5, '', 1, $6, 'any', '2026-11', 0, 0, 0, 0, 0, 1, $7, $8, 0)",
                (
                    f"g-{answer_id}",
                    self.who.tenant_id,
                    self.who.user_id,
                    answer_id,
                    status,
                    model,
                    error,
                    json.dumps(receipt) if receipt is not None else "",
                ),
            )
        )

    async def write(self, answer_id: str, text: str) -> None:
        await self.db.batch(Statement("UPDATE message SET content = $2 WHERE id = $1", (answer_id, text)))

    async def long_thread(self, exchanges: int, text: str = "word ") -> str:
        """A thread of so many questions and answers, written without the product."""
        thread_id = (await self.say("0 " + text, said="1 " + text)).thread_id
        parent = (await self.threads.head(self.who, thread_id))[0]
        insert = "INSERT INTO message (id, thread_id, parent_id, role, content, created_at, depth) VALUES "
        row = "('{}', '{}', '{}', '{}', '{}', 0, {})"
        rows = []
        for at in range(2, exchanges * 2):
            id = f"{thread_id}-{at}"
            rows.append(row.format(id, thread_id, parent, "assistant" if at % 2 else "user", f"{at} {text}", at + 1))
            parent = id
        for start in range(0, len(rows), 500):
            await self.db.batch(Statement(insert + ", ".join(rows[start : start + 500])))
        await self.db.batch(Statement("UPDATE thread SET head_id = $2 WHERE id = $1", (thread_id, parent)))
        return thread_id
