"""The commands, put together."""

from typing import Annotated

import typer

from chat_app.cli import audit, keys, upkeep, users
from chat_app.cli.doctor import doctor

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # They may hold passwords.
    help="Administer a Parley installation. Settings are read from PARLEY_… variables, as the server reads them.",
)
app.add_typer(users.commands, name="users", help="Accounts: who may sign in, with which role and plan.")
app.add_typer(keys.commands, name="keys", help="API keys: how programs ask.")
app.add_typer(audit.commands, name="audit", help="The audit trail: who did what to what.")
app.command()(users.setup_code)
app.command()(upkeep.migrate)
app.command()(upkeep.export)
app.command()(doctor)


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="Port to listen on.", envvar="PORT", min=1, max=65_535)] = 3000,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every one (PARLEY_HOST).")] = "",
    workers: Annotated[int, typer.Option(help="Worker processes; more than one needs Redis.")] = 1,
    setup_only: Annotated[bool, typer.Option("--setup-only", help="Prepare everything, start nothing.")] = False,
) -> None:
    """Start Parley: build the page if need be, migrate, verify the model, and serve."""
    from chat_app.serve import serve as start  # Brings Reflex along, which no other command needs.

    start(port, host, workers, setup_only=setup_only)
