"""An export that is killed at a given moment: `python killed_export.py HOME MOMENT [DATABASE_URL]`.

The product has no switch for this: the moment is reached by wrapping what the export calls.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from chat_app.data.db import open_database
from chat_app.settings import Settings
from chat_app.telemetry import parquet


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def main(home: Path, moment: str, url: str = "") -> None:
    settings = Settings(home=home, database_url=SecretStr(url))
    db = open_database(settings)
    await db.start()
    mark, replace, fsync = parquet._mark, Path.replace, os.fsync

    def killed_fsync(descriptor: int) -> None:
        fsync(descriptor)
        die()

    def killed_replace(self: Path, target: Path) -> Path:
        replace(self, target)
        die()
        return target

    async def killed_mark(db: Any, ids: Any) -> None:
        await mark(db, ids[: len(ids) // 2])
        die()

    if moment == "written":
        os.fsync = killed_fsync
    elif moment == "renamed":
        Path.replace = killed_replace  # type: ignore[method-assign,assignment]
    else:
        parquet._mark = killed_mark
    await parquet.export(db, settings.exports)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
