"""What the ledger says after a disaster, read straight from the database file or server."""

import sqlite3
from pathlib import Path

import asyncpg


def of_sqlite(home: Path, generation: str) -> list[tuple[str, int]]:
    """Kind and tokens of the generation's ledger entries, in order."""
    with sqlite3.connect(home / "parley.db") as database:
        rows = database.execute(
            "SELECT kind, tokens FROM ledger WHERE generation_id = ? ORDER BY created_at, kind", (generation,)
        )
        return [(str(kind), int(tokens)) for kind, tokens in rows]


async def of_postgres(url: str, generation: str) -> list[tuple[str, int]]:
    """The same from PostgreSQL."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT kind, tokens FROM ledger WHERE generation_id = $1 ORDER BY created_at, kind", generation
        )
        return [(str(row["kind"]), int(row["tokens"])) for row in rows]
    finally:
        await connection.close()
