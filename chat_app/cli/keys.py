"""`keys …`: API keys."""

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chat_app.accounts.identity import AccountError
from chat_app.accounts.keys import Key
from chat_app.cli.database import Installation, run

commands = typer.Typer(no_args_is_help=True)

Email = Annotated[str, typer.Option(help="Whose keys.")]


@commands.command()
def create(email: Email, name: Annotated[str, typer.Option(help="What the key is for.")] = "") -> None:
    """Make a key and print it, alone: it cannot be shown again."""

    async def work(here: Installation) -> str:
        return await here.accounts.make_key((await here.account(email)).user_id, name)

    typer.echo(run(work))


@commands.command("list")
def list_(email: Email) -> None:
    """List a person's keys that are in force."""

    async def work(here: Installation) -> list[Key]:
        return await here.accounts.keys((await here.account(email)).user_id)

    table = Table("id", "begins with", "name")
    for key in run(work):
        table.add_row(key.id, key.prefix, escape(key.name))
    Console().print(table)


@commands.command()
def revoke(
    email: Email,
    key: Annotated[str, typer.Argument(help="The key's id or beginning as listed, or the key itself.")],
) -> None:
    """End a key; the next request with it is refused."""

    async def work(here: Installation) -> Key:
        owner = await here.account(email)
        mine = await here.accounts.keys(owner.user_id)
        meant = [line for line in mine if line.id == key or key.startswith(line.prefix)]
        if len(meant) != 1:
            raise AccountError("not_found", f"{len(meant)} keys of {email} are meant by that. See: keys list")
        await here.accounts.revoke_key(owner.user_id, meant[0].id)
        return meant[0]

    revoked = run(work)
    typer.echo(f"Revoked {revoked.prefix}… ({revoked.name}).")
