"""A process of its own that writes and says on stdout what was acknowledged, until it is killed.

    python -m tests.data.writing database|log ADDRESS

ADDRESS is a PostgreSQL or Redis address, or the path of an SQLite file.
"""

import asyncio
import sys
from pathlib import Path

from chat_app.data.db.base import Database, Statement
from chat_app.data.db.postgres import PostgresDatabase
from chat_app.data.db.sqlite import SqliteDatabase
from chat_app.data.log.base import GenerationLog
from chat_app.data.log.sqlite import SqliteLog
from chat_app.data.log.valkey import ValkeyLog

STREAMS = 8


def word(stream: int, n: int) -> str:
    """The n-th piece of text of a stream, recognisable and not ASCII."""
    return f"«{stream}·{n}» 🎈"


async def write_database(address: str) -> None:
    database: Database = PostgresDatabase(address) if "://" in address else SqliteDatabase(Path(address))
    await database.start()

    async def stream(number: int) -> None:
        n = 0
        while True:
            await database.batch(
                Statement("INSERT INTO jar (id, n) VALUES ($1, $2)", (f"{number}-{n}", n)),
                Statement("UPDATE jar SET n = n + 1 WHERE id = $1", (f"sum-{number}",), must="sum"),
            )
            acknowledge(number, n)
            n += 1

    await asyncio.gather(*(stream(number) for number in range(STREAMS)))


async def write_log(address: str) -> None:
    log: GenerationLog = ValkeyLog(address) if "://" in address else SqliteLog(Path(address))
    await log.start()

    async def stream(number: int) -> None:
        length = len(await log.open(f"g{number}", 1))
        n = 0
        while True:
            text = word(number, n)
            await log.append(f"g{number}", 1, length, text)
            length += len(text)
            acknowledge(number, n)
            n += 1

    await asyncio.gather(*(stream(number) for number in range(STREAMS)))


def acknowledge(number: int, n: int) -> None:
    sys.stdout.write(f"{number} {n}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run({"database": write_database, "log": write_log}[sys.argv[1]](sys.argv[2]))
