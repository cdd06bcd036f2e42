"""A transaction that has to happen, however often the database goes away, and whatever became of the last try.

When the connection breaks at the commit, nobody knows whether it took place. Then the same statements are run again:
they insert rows whose keys are this turn's own, so they cannot take place twice, and a refusal means: look.
"""

from collections.abc import Awaitable, Callable, Sequence

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, stop_never, wait_exponential_jitter

from chat_app.data.db.base import Conflict, Database, DatabaseUnavailable, OutcomeUnknown, Row, Statement, Unmet
from chat_app.data.log.base import StaleOwner
from chat_app.sessions.generations import NOT_OWNER

logger = structlog.get_logger(__name__)


async def commit(
    db: Database,
    statements: Sequence[Statement],
    was_committed: Callable[[], Awaitable[bool]],
    patience_s: float | None = None,
) -> list[list[Row]] | None:
    """The rows of each statement; None if an earlier try, whose outcome was unknown, turned out to have taken place.

    Waits for the database for ever. With `patience_s` it does not wait at all, except to find out what became of an
    unknown outcome, and for that so long at most. Raises `StaleOwner` where another owner has the job by now, `Unmet`
    for every other condition, `Conflict`, and when it does not wait any longer `DatabaseUnavailable` (nothing was
    written) or `OutcomeUnknown`.
    """
    try:
        return await _commit(db, statements, was_committed, patience_s)
    except Unmet as error:
        if error.name == NOT_OWNER:
            raise StaleOwner from error
        raise


async def _commit(
    db: Database,
    statements: Sequence[Statement],
    was_committed: Callable[[], Awaitable[bool]],
    patience_s: float | None,
) -> list[list[Row]] | None:
    try:
        return await db.batch(*statements)
    except OutcomeUnknown as error:
        unknown: OutcomeUnknown | None = error
    except DatabaseUnavailable:
        if patience_s is not None:
            raise
        unknown = None
    try:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(DatabaseUnavailable),
            wait=wait_exponential_jitter(multiplier=0.05, max=1.0, jitter=0.1),
            stop=stop_never if patience_s is None else stop_after_delay(patience_s),
            reraise=True,
        ):
            with attempt:
                try:
                    return await db.batch(*statements)
                except OutcomeUnknown as error:
                    unknown = error
                    raise
                except (Unmet, Conflict):
                    if unknown is not None and await was_committed():
                        return None
                    raise
    except DatabaseUnavailable as error:
        logger.warning("a commit was given up", error=str(error))
        raise unknown or error from None
    raise AssertionError("unreachable")
