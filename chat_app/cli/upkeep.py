"""`migrate` and `export`: what an installation's upkeep needs now and then."""

from pathlib import Path
from typing import Annotated

import typer

from chat_app.cli.database import Installation, fail, run
from chat_app.telemetry.parquet import ExportBusy, ExportReport
from chat_app.telemetry.parquet import export as export_events


def migrate() -> None:
    """Bring the database to the present schema. The server does so by itself when it starts."""

    async def nothing_more(here: Installation) -> str:
        return here.db.dialect

    typer.echo(f"The {run(nothing_more, recorded='migrate')} database is at the present schema.")


def export(
    directory: Annotated[Path | None, typer.Option(help="Where to; by default exports/ in PARLEY_HOME.")] = None,
) -> None:
    """Write the events that have not been exported yet to Parquet files, one folder a day."""

    async def work(here: Installation) -> ExportReport:
        return await export_events(here.db, directory or here.settings.exports)

    try:
        typer.echo(str(run(work, recorded="export")))
    except ExportBusy as error:
        fail(str(error))
