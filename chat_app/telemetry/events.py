"""The events that Parley keeps about itself, and their outbox. The schema is described in docs/events.md.

An event says how a turn went: who (as a keyed hash), which model, how many tokens, how fast, how it ended. It never
says what was said. It is written in the transaction that ends the turn and exported to Parquet later (`parquet`).
It does not know files, nor who reads them.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, get_type_hints

import orjson

from chat_app.data.db.base import Database, Statement
from chat_app.settings import Settings
from chat_app.telemetry.pseudonyms import Pseudonyms

SCHEMA_VERSION = 1
"""Raised when a column changes its meaning. A new column that older files lack does not raise it."""

ColumnType = Literal["string", "int", "float"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEvent:
    """One turn that has ended, as the turn reports it. Times in milliseconds, money in micro-units of the currency.

    `user_id` is hashed before anything is stored. None means: not measured (the turn never came that far).
    """

    generation_id: str
    at_ms: int
    tenant: str
    user_id: str
    plan: str
    source: str
    model: str
    status: str
    finish: str
    route: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_micro: int = 0
    queue_ms: int | None = None
    ttft_ms: int | None = None
    total_ms: int | None = None
    tokens_per_s: float | None = None
    attempts: int = 1
    refused_stage: str = ""
    refused_category: str = ""
    refused_rule: str = ""


_ROW = tuple(name for name in TurnEvent.__dataclass_fields__ if name not in ("generation_id", "user_id"))
"""What is kept of an event as it is."""


def columns() -> dict[str, ColumnType]:
    """Columns of an exported turn, in order, with their types."""
    kinds: dict[object, ColumnType] = {str: "string", int: "int", float: "float"}
    found: dict[str, ColumnType] = {"event_id": "string", "at_ms": "int", "day": "string"}
    for name, hint in get_type_hints(TurnEvent).items():
        if name == "user_id":
            name = "user_hash"
        if name not in ("generation_id", "at_ms"):
            bare = next((kind for kind in kinds if hint in (kind, kind | None)), str)  # type: ignore[operator]
            found[name] = kinds[bare]
    return {**found, "app_version": "string", "schema_version": "int"}


def day_of(at_ms: int) -> str:
    """The day of a moment, `YYYY-MM-DD` in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d")


@lru_cache(maxsize=1)
def app_version() -> str:
    """The version of Parley that is installed, `0` in a bare checkout."""
    try:
        return version("parley")
    except PackageNotFoundError:
        return "0"


class Events:
    """The outbox. Its statements belong into the transaction that makes the event true."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db = db
        self._home = settings.home

    @cached_property
    def _pseudonyms(self) -> Pseudonyms:
        return Pseudonyms.of_home(self._home)

    def turn(self, event: TurnEvent) -> Statement:
        """Record the end of a turn. A generation has one event, however often its end is recorded."""
        row = {name: getattr(event, name) for name in _ROW}
        payload = row | {
            "user_hash": self._pseudonyms.of(event.user_id),
            "app_version": app_version(),
            "schema_version": SCHEMA_VERSION,
        }
        return Statement(
            "INSERT INTO event (id, kind, at, payload, exported_at) VALUES ($1, 'turn', $2, $3, NULL)"
            " ON CONFLICT (id) DO NOTHING",
            (event.generation_id, event.at_ms, orjson.dumps(payload).decode()),
        )

    async def waiting(self) -> int:
        """Events that do not lie in a Parquet file yet."""
        rows = await self._db.query("SELECT count(*) AS waiting FROM event WHERE exported_at IS NULL")
        return int(rows[0]["waiting"])
