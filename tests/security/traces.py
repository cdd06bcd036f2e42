"""Where an installation holds some words: every table, every generation log, every file that was exported."""

import sqlite3
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import polars
import redis.asyncio as redis

from chat_app.wiring import Parley


async def traces(parley: Parley, *words: str) -> list[str]:
    """Names of all places that hold any of these words."""
    found = [f"{place}: {word}" async for place, text in everything(parley) for word in words if word in text]
    return sorted(set(found))


async def everything(parley: Parley) -> AsyncIterator[tuple[str, str]]:
    """Every place in which text may lie, with what lies there."""
    for name in await tables(parley):
        for row in await parley.db.query(f"SELECT * FROM {name}"):
            yield f"table {name}", _text(dict(row).values())
    url = parley.settings.redis_url.get_secret_value()
    async for place in _valkey(url) if url else _log_file(parley.settings.home / "log.db"):
        yield place
    for path in sorted(parley.settings.exports.rglob("*.parquet")):
        yield "export", polars.read_parquet(path).write_json()


async def tables(parley: Parley) -> list[str]:
    """The names of all tables that there are, known to the schema or not."""
    if parley.db.dialect == "sqlite":
        rows = await parley.db.query("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
    else:
        rows = await parley.db.query("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'")
    names = sorted(str(row["name"]) for row in rows)
    assert {"message", "thread", "generation", "review", "event", "checkpoint", "step"} <= set(names)
    return names


async def _log_file(path: Path) -> AsyncIterator[tuple[str, str]]:
    connection = sqlite3.connect(path)
    try:
        texts: dict[str, bytes] = {}
        for generation, data in connection.execute("SELECT generation, data FROM piece ORDER BY generation, start"):
            texts[generation] = texts.get(generation, b"") + data
        for data in texts.values():
            yield "log", data.decode()
    finally:
        connection.close()


async def _valkey(url: str) -> AsyncIterator[tuple[str, str]]:
    async with redis.from_url(url) as client:
        async for key in client.scan_iter():
            match (await client.type(key)).decode():
                case "string":
                    value: Any = [await client.get(key)]
                case "hash":
                    value = (await client.hgetall(key)).values()
                case "stream":
                    value = [part for _, fields in await client.xrange(key) for part in fields.values()]
                case "zset" | "set" | "list" as kind:
                    value = [str(kind)]
                case "none":
                    continue  # It has run out since it was listed.
                case other:
                    raise AssertionError(f"{key!r} is of kind {other}")
            yield f"valkey {key.decode()}", _text(value)


def _text(values: Iterable[Any]) -> str:
    return "\n".join(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values)
