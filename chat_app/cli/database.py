"""The installation's database, opened beside the server's own connections; and how a command fails in plain words."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import typer
from pydantic import ValidationError

from chat_app.accounts.identity import AccountError, Identity
from chat_app.accounts.people import Accounts
from chat_app.audit.sealing import Sealer
from chat_app.audit.trail import Trail
from chat_app.billing.plans import PlanError, Plans
from chat_app.data.acts import BY_OPERATOR, Act
from chat_app.data.db import open_database
from chat_app.data.db.base import Database, DatabaseUnavailable
from chat_app.data.migrations import migrate
from chat_app.settings import Settings, settings, wrong

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Installation:
    """What commands work on."""

    settings: Settings
    db: Database
    accounts: Accounts
    audit: Trail

    async def account(self, email: str) -> Identity:
        """The account with this e-mail address. Raises `AccountError` (not_found)."""
        found = await self.accounts.by_email(email.strip().lower())
        if found is None:
            raise AccountError("not_found", f"There is no account {email}.")
        return found


def chosen_settings() -> Settings:
    """The settings. One that makes no sense ends the program with its name and the reason."""
    try:
        return settings()
    except ValidationError as error:
        fail(wrong(error))


@asynccontextmanager
async def installation() -> AsyncIterator[Installation]:
    """The installation that the settings name, migrated and with its first plans. Raises `DatabaseUnavailable`."""
    chosen = chosen_settings()
    await asyncio.to_thread(migrate, chosen)
    db = open_database(chosen)
    await db.start()
    try:
        await Plans(db, chosen.default_plan).seed()
        audit = Trail(db)
        yield Installation(chosen, db, Accounts(db, chosen, audit=audit), audit)
    finally:
        with suppress(DatabaseUnavailable, LookupError):  # Then a server seals, or `audit verify` says what is wrong.
            await Sealer(db).seal()
        await db.close()


def run(work: Callable[[Installation], Awaitable[T]], *, recorded: str = "") -> T:
    """Do `work` on the installation; an error that a person can mend ends the program with its message and code 1. A
    command whose work leaves no trace of its own is `recorded` under this name before it is done."""

    async def opened() -> T:
        async with installation() as here:
            if recorded:
                await here.audit.record(Act("command", BY_OPERATOR, "command", recorded))
            return await work(here)

    try:
        return asyncio.run(opened())
    except (AccountError, PlanError) as error:
        fail(error.message)
    except DatabaseUnavailable as error:
        fail(f"The database cannot be used: {error}")
    except OSError as error:
        fail(f"{error.filename or chosen_settings().home}: {error.strerror}")


def fail(message: str) -> NoReturn:
    """End the program: the message goes to standard error."""
    typer.echo(f"✗ {message}", err=True)
    raise typer.Exit(1)
