"""How Parley opens an SQLite file, and what its errors mean in plain words. Knows no table."""

import sqlite3
from contextlib import closing
from pathlib import Path

PATIENCE_S = 5.0
"""How long a statement waits for another connection's lock."""
WIPE_PATIENCE_S = 1.0

PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA journal_size_limit=67108864",
)
"""How every connection is set.

WAL with `synchronous=NORMAL`: a commit lies in the kernel's page cache when it is answered, so it survives
`kill -9` of every process. Power loss may take back the commits since the last checkpoint, never corrupt the file.
"""

_REASONS = {
    sqlite3.SQLITE_PERM: "the database file may not be opened",
    sqlite3.SQLITE_BUSY: "the database is locked by something else that writes to it",
    sqlite3.SQLITE_LOCKED: "the database is locked by something else that writes to it",
    sqlite3.SQLITE_NOMEM: "there is not enough memory for the database",
    sqlite3.SQLITE_READONLY: "the database file may not be written to",
    sqlite3.SQLITE_INTERRUPT: "the database was interrupted",
    sqlite3.SQLITE_IOERR: "the disk under the database does not read or write",
    sqlite3.SQLITE_CORRUPT: "the database file is damaged",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_CANTOPEN: "the database file cannot be opened",
    sqlite3.SQLITE_PROTOCOL: "the database is locked by something else that writes to it",
    sqlite3.SQLITE_NOTADB: "the database file is not a database",
}


class FileClosed(Exception):
    """The file is not open yet, or not any more; nothing was read or written."""


def open_file(path: Path, *, patience_s: float = PATIENCE_S) -> sqlite3.Connection:
    """A connection that any one thread at a time may use. It is in autocommit mode: the caller says BEGIN."""
    connection = sqlite3.connect(
        path, timeout=patience_s, isolation_level=None, check_same_thread=False, cached_statements=512
    )
    for pragma in PRAGMAS:
        connection.execute(pragma)
    return connection


def wipe(path: Path) -> None:
    """Have what was deleted leave the write-ahead log, which keeps it until it is overwritten: all of it goes into the
    file, and its own is cut to nothing. Undone while a read or a write takes longer than `WIPE_PATIENCE_S`; writers
    wait meanwhile. Raises `sqlite3.Error`."""
    with closing(open_file(path, patience_s=WIPE_PATIENCE_S)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def why_unavailable(error: BaseException) -> str | None:
    """Plain words if `error` means that SQLite cannot take or give anything now; None for any other error."""
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(error, sqlite3.Error) and code is not None:
        return _REASONS.get(code & 0xFF)
    return None
