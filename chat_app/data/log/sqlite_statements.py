"""The generation log's two SQLite tables and every statement on them. Runs in the writer's and the readers' threads."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from chat_app.data.ids import now_ms
from chat_app.data.log.base import FORGOTTEN, Piece, StaleOwner, WrongOffset
from chat_app.data.log.flush import Append

CLOSED_MS = 3_600_000
"""How long a closed log keeps its text after its last write."""
ORPHAN_MS = 7 * 86_400_000
"""How long one that nobody closed is kept: its owner was killed between the database's commit and the log's end."""

_SCHEMA = (
    # The text lies in pieces in bytes: SQLite's own length() of a text ends at a NUL.
    """CREATE TABLE IF NOT EXISTS generation (
        id TEXT PRIMARY KEY, fence INTEGER NOT NULL, length INTEGER NOT NULL DEFAULT 0, status TEXT,
        stop INTEGER NOT NULL DEFAULT 0, touched_at INTEGER NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS piece (
        generation TEXT NOT NULL, start INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (generation, start)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS generation_by_age ON generation (touched_at)",
)


@dataclass(frozen=True, slots=True)
class Found:
    """A log as its owner finds it."""

    text: str
    status: str | None
    stop: bool


def prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA secure_delete=ON")  # what is forgotten is overwritten
    for statement in _SCHEMA:
        connection.execute(statement)


def open_log(connection: sqlite3.Connection, generation: str, fence: int, text: str, data: bytes) -> Found:
    row = connection.execute(
        "SELECT fence, length, status, stop FROM generation WHERE id = ?", (generation,)
    ).fetchone()
    known, length, status, stop = row or (0, 0, None, 0)
    if known > fence:
        raise StaleOwner
    restored = length < len(text) and status is None
    if restored:
        connection.execute("DELETE FROM piece WHERE generation = ?", (generation,))
        connection.execute("INSERT INTO piece (generation, start, data) VALUES (?, 0, ?)", (generation, data))
        length = len(text)
    connection.execute(
        "INSERT INTO generation (id, fence, length, touched_at) VALUES (?1, ?2, ?3, ?4)"
        " ON CONFLICT (id) DO UPDATE SET fence = ?2, length = ?3, touched_at = ?4",
        (generation, fence, length, now_ms()),
    )
    return Found(text if restored else _text(connection, generation), status, bool(stop))


@dataclass(frozen=True, slots=True)
class Stored:
    """What was stored begins at this offset (for an end: the log's length). `stop`: a new log was to stop already."""

    offset: int
    stop: bool = False


def store(connection: sqlite3.Connection, appends: Sequence[Append]) -> list[Stored | Exception]:
    """Write what may be written; returns for each, in order, where it lies or what refused it."""
    now = now_ms()
    return [_end(connection, a, now) if a.status is not None else _append(connection, a, now) for a in appends]


def read(connection: sqlite3.Connection, generation: str, offset: int) -> Piece:
    connection.execute("BEGIN")
    try:
        known = connection.execute("SELECT status FROM generation WHERE id = ?", (generation,)).fetchone()
        [first] = connection.execute(
            "SELECT coalesce(max(start), 0) FROM piece WHERE generation = ? AND start <= ?", (generation, offset)
        ).fetchone()
        text = _text(connection, generation, first)[offset - first :]
    finally:
        connection.execute("COMMIT")
    [status] = known or [None]
    return Piece(offset, text, status)


def request_stop(connection: sqlite3.Connection, generation: str) -> None:
    connection.execute(
        "INSERT INTO generation (id, fence, stop, touched_at) VALUES (?, 0, 1, ?)"
        " ON CONFLICT (id) DO UPDATE SET stop = 1",
        (generation, now_ms()),
    )


def forget(connection: sqlite3.Connection, generations: Sequence[str]) -> None:
    now = now_ms()
    for generation in generations:
        connection.execute("DELETE FROM piece WHERE generation = ?", (generation,))
        # Until it is swept, the row keeps out whoever still believes to be its writer.
        connection.execute(
            "INSERT INTO generation (id, fence, status, touched_at) VALUES (?1, ?2, 'gone', ?3)"
            " ON CONFLICT (id) DO UPDATE SET fence = ?2, length = 0, status = 'gone', touched_at = ?3",
            (generation, FORGOTTEN, now),
        )


def sweep(connection: sqlite3.Connection, now: int) -> None:
    old = "touched_at < ?1 AND (status IS NOT NULL OR touched_at < ?2)"
    ages = (now - CLOSED_MS, now - ORPHAN_MS)
    connection.execute(f"DELETE FROM piece WHERE generation IN (SELECT id FROM generation WHERE {old})", ages)
    connection.execute(f"DELETE FROM generation WHERE {old}", ages)


def _append(connection: sqlite3.Connection, append: Append, now: int) -> Stored | Exception:
    continued = connection.execute(
        "UPDATE generation SET length = length + ?, touched_at = ?"
        " WHERE id = ? AND fence = ? AND length = ? AND status IS NULL",
        (len(append.text), now, append.generation, append.fence, append.offset),
    ).rowcount
    stop = False
    if not continued:
        made = _make(connection, append, now) if append.begins else None
        if made is None:
            return _refusal(connection, append)
        [requested] = made
        stop = bool(requested)
    connection.execute(
        "INSERT INTO piece (generation, start, data) VALUES (?, ?, ?)", (append.generation, append.offset, append.data)
    )
    return Stored(append.offset, stop)


def _make(connection: sqlite3.Connection, append: Append, now: int) -> tuple[int] | None:
    """Make the log of a generation that was only begun; returns whether it is to stop, None if it may not be made."""
    made: tuple[int] | None = connection.execute(
        "INSERT INTO generation (id, fence, length, touched_at) VALUES (?1, ?2, ?3, ?4)"
        " ON CONFLICT (id) DO UPDATE SET fence = ?2, length = ?3, touched_at = ?4"
        " WHERE length = 0 AND fence <= ?2 AND status IS NULL RETURNING stop",
        (append.generation, append.fence, len(append.text), now),
    ).fetchone()
    return made


def _refusal(connection: sqlite3.Connection, append: Append) -> Exception:
    row = connection.execute(
        "SELECT fence, length, status FROM generation WHERE id = ?", (append.generation,)
    ).fetchone()
    if row is None:
        return WrongOffset(0)
    fence, length, status = row
    return StaleOwner() if fence > append.fence or status is not None else WrongOffset(length)


def _end(connection: sqlite3.Connection, end: Append, now: int) -> Stored | Exception:
    ended = connection.execute(
        "INSERT INTO generation (id, fence, status, touched_at) VALUES (?1, ?2, ?3, ?4)"
        " ON CONFLICT (id) DO UPDATE SET fence = ?2, status = coalesce(status, ?3), touched_at = ?4 WHERE fence <= ?2"
        " RETURNING length",
        (end.generation, end.fence, end.status, now),
    ).fetchone()
    if ended is None:
        return StaleOwner()
    [length] = ended
    return Stored(length)


def _text(connection: sqlite3.Connection, generation: str, first: int = 0) -> str:
    rows = connection.execute(
        "SELECT data FROM piece WHERE generation = ? AND start >= ? ORDER BY start", (generation, first)
    )
    return b"".join(data for (data,) in rows.fetchall()).decode()
