"""The unit of work for ordinary pages, the same on both databases: SQLModel's session over an engine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel.ext.asyncio.session import AsyncSession

from chat_app.data.db.base import Conflict, DatabaseUnavailable, OutcomeUnknown
from chat_app.data.db.sqlite_file import why_unavailable

LOST = "the database does not answer"

_STATES = {
    "08": LOST,
    "53": "the database has run out of disk, memory or connections",
    "55": "the database is locked by something else that writes to it",
    "57": LOST,
}
"""Classes of SQLSTATE that mean: not now."""


@asynccontextmanager
async def unit_of_work(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Commits when the block ends well, else rolls back. Raises as `Database.session` says."""
    committing = False
    try:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            yield session
            committing = True
            await session.commit()
    except exc.IntegrityError as error:
        raise Conflict(str(error.orig)) from error
    except exc.TimeoutError as error:
        raise DatabaseUnavailable("all connections to the database are in use") from error
    except exc.DBAPIError as error:
        reason = why_not_now(error.orig) or (LOST if error.connection_invalidated else None)
        if reason is None:
            raise
        raise (OutcomeUnknown if committing and reason is LOST else DatabaseUnavailable)(reason) from error


def why_not_now(error: Any) -> str | None:
    """Plain words if the driver's error means that the database cannot take this now, else None."""
    state = str(getattr(error, "sqlstate", None) or "")
    return why_unavailable(error) or _STATES.get(state[:2])
