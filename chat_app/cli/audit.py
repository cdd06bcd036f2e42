"""`audit …`: the audit trail from the command line, also while the server runs."""

import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from chat_app.audit.chain import Head
from chat_app.audit.reading import Wanted, everything, read_page
from chat_app.audit.verification import Finding
from chat_app.audit.verification import verify as verified
from chat_app.cli.database import Installation, fail, run
from chat_app.data.acts import ACTIONS, OUTCOMES

commands = typer.Typer(no_args_is_help=True)

WAITING_MS = 60_000
"""How long an entry waits to be sealed before that is worth a word: a server that runs seals within about a second."""

Who = Annotated[str, typer.Option("--actor", help="Who did it: an e-mail address, a user's id, or `operator`.")]
What = Annotated[str, typer.Option("--action", help=f"One of {', '.join(ACTIONS)}.")]
To = Annotated[str, typer.Option("--object", help="To whom or what: an e-mail address, or an id.")]
How = Annotated[str, typer.Option("--outcome", help=f"One of {', '.join(OUTCOMES)}.")]
Since = Annotated[datetime | None, typer.Option(help="From this day on, UTC.", formats=["%Y-%m-%d"])]
Until = Annotated[datetime | None, typer.Option(help="Before this day, UTC.", formats=["%Y-%m-%d"])]


@commands.command()
def verify(
    head: Annotated[str, typer.Option(help="A head that an earlier run printed: the chain must pass through it.")] = "",
) -> None:
    """Check that nobody has changed, removed, moved or added an entry. Ends with code 1 and the first one if so."""
    try:
        noted = Head.parsed(head) if head else None
    except ValueError as error:
        fail(str(error))
    found = run(lambda here: verified(here.db, noted))
    if found.broken:
        fail(f"The trail is broken{f' at entry {found.at:,}' if found.at else ''}: {found.broken}.")
    entries = "1 entry" if found.head.seq == 1 else f"{found.head.seq:,} entries"
    typer.echo(f"✓ {entries}, none changed, missing or out of place.{_waiting(found)}")
    typer.echo(f"Head: {found.head}")
    if noted:
        typer.echo("The chain passes through the head that you gave: up to there nothing was cut off or rewritten.")
    else:
        typer.echo(
            "Entries missing at the end are found while the head in the database still counts them. Whoever removes"
            " both, or writes the whole chain anew, is found only by a head noted elsewhere: keep this one, and give"
            " it with --head next time."
        )


@commands.command("list")
def list_(
    actor: Who = "",
    action: What = "",
    object: To = "",
    outcome: How = "",
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
) -> None:
    """Print the latest entries as JSON lines, the newest first."""

    async def work(here: Installation) -> list[Any]:
        wanted = await _wanted(here, actor, action, object, outcome, since, until)
        return list((await read_page(here.db, wanted, limit=limit)).entries)

    for entry in run(work, recorded="audit.list"):
        typer.echo(orjson.dumps(entry).decode())


@commands.command()
def export(
    file: Annotated[Path | None, typer.Argument(help="Where to; by default standard output.", dir_okay=False)] = None,
    actor: Who = "",
    action: What = "",
    object: To = "",
    outcome: How = "",
    since: Since = None,
    until: Until = None,
) -> None:
    """Write entries as JSON lines, the oldest first, with what it takes to check the chain elsewhere."""

    async def work(here: Installation) -> int:
        entries = everything(here.db, await _wanted(here, actor, action, object, outcome, since, until))
        return await _written(entries, file)

    count = run(work, recorded="audit.export")
    if file is not None:
        typer.echo(f"Wrote {count:,} entries to {file}.")


async def _written(entries: AsyncIterator[Any], file: Path | None) -> int:
    count = 0
    with ExitStack() as stack:
        out = stack.enter_context(file.open("wb")) if file is not None else sys.stdout.buffer
        async for entry in entries:
            out.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))
            count += 1
    return count


async def _wanted(
    here: Installation,
    actor: str,
    action: str,
    object: str,
    outcome: str,
    since: datetime | None,
    until: datetime | None,
) -> Wanted:
    """What was asked for. Raises `AccountError` for an e-mail address that nobody has."""
    if action and action not in ACTIONS:
        fail(f"There is no action {action}; there are: {', '.join(ACTIONS)}.")
    if outcome and outcome not in OUTCOMES:
        fail(f"There is no outcome {outcome}; there are: {', '.join(OUTCOMES)}.")
    who, whom = [(await here.account(one)).user_id if "@" in one else one for one in (actor, object)]
    return Wanted(who, whom, action, outcome, _ms(since), _ms(until))


def _ms(day: datetime | None) -> int | None:
    return None if day is None else int(day.replace(tzinfo=UTC).timestamp() * 1_000)


def _waiting(found: Finding) -> str:
    if not found.waiting:
        return ""
    said = f" {found.waiting:,} more not sealed yet."
    if found.oldest_ms > WAITING_MS:
        said += f" The oldest has waited for {found.oldest_ms // 1_000:,} s: is no server running?"
    return said
