"""`doctor`: is everything there that Parley needs, and if not, what to do."""

import asyncio
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chat_app.cli import checks
from chat_app.cli.database import chosen_settings


def doctor(
    port: Annotated[int, typer.Option(help="Port that it is to listen on.", envvar="PORT", min=1, max=65_535)] = 3000,
    host: Annotated[str, typer.Option(help="Address that it is to listen on (PARLEY_HOST).")] = "",
) -> None:
    """Check everything that Parley needs, and say what to do. Ends with code 1 if something is not well."""
    findings = asyncio.run(_examine(port, host))
    table = Table("", "part", "found", "what to do", show_lines=False)
    for finding in findings:
        mark = "[green]✓[/]" if finding.well else "[red]✗[/]"
        table.add_row(mark, finding.part, escape(finding.found), escape(finding.advice))
    Console().print(table)
    if not all(finding.well for finding in findings):
        raise typer.Exit(1)


async def _examine(port: int, host: str) -> list[checks.Finding]:
    settings = chosen_settings()
    return [
        checks.home(settings),
        await checks.database(settings),
        await checks.redis(settings),
        checks.model(settings),
        *await checks.engines(settings),
        checks.port(host or settings.host, port),
        checks.proxy(settings),
    ]
