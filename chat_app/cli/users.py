"""`users …`: accounts."""

import sys
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chat_app.cli.database import Installation, fail, run
from chat_app.data.acts import BY_OPERATOR

commands = typer.Typer(no_args_is_help=True)

Email = Annotated[str, typer.Option(help="The account's e-mail address.")]
Role = Literal["user", "staff", "admin"]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


@commands.command()
def create(
    email: Email,
    role: Annotated[Role, typer.Option(help="The very first account is an administrator's anyway.")] = "user",
    name: Annotated[str, typer.Option(help="Shown on pages; by default the beginning of the address.")] = "",
    password_stdin: FromStdin = False,
) -> None:
    """Make an account on the default plan."""
    password = _password(password_stdin)

    async def work(here: Installation) -> str:
        made = await here.accounts.create(email, password, name, role, by=BY_OPERATOR)
        return f"{made.email} ({made.role}, plan {made.plan_id})"

    typer.echo(f"Made {run(work)}.")


@commands.command("list")
def list_(search: Annotated[str, typer.Argument(help="Part of a name or address.")] = "", limit: int = 1_000) -> None:
    """List accounts, oldest first."""
    people = run(lambda here: here.accounts.people(search, limit), recorded="users.list")
    table = Table("e-mail", "name", "role", "plan", "")
    for person in people:
        who = person.identity
        table.add_row(escape(who.email), escape(who.name), who.role, who.plan_id, "disabled" if person.disabled else "")
    Console().print(table)


@commands.command()
def password(
    email: Email,
    password_stdin: FromStdin = False,
    end_keys: Annotated[bool, typer.Option("--end-keys", help="Revoke the person's API keys too.")] = False,
) -> None:
    """Set a new password and sign the person out everywhere."""
    new = _password(password_stdin)

    async def work(here: Installation) -> None:
        await here.accounts.set_password((await here.account(email)).user_id, new, end_keys=end_keys)

    run(work)
    typer.echo("The password is changed.")


@commands.command()
def role(email: Email, role: Annotated[Role, typer.Argument()]) -> None:
    """Make a person user, staff or admin."""

    async def work(here: Installation) -> None:
        await here.accounts.set_role((await here.account(email)).user_id, role, by=BY_OPERATOR)

    run(work)
    typer.echo(f"{email} is {role} now.")


@commands.command()
def plan(email: Email, plan: Annotated[str, typer.Argument(help="The plan's short name, e.g. pro.")]) -> None:
    """Move a person to another plan, in force at once."""

    async def work(here: Installation) -> None:
        await here.accounts.set_plan((await here.account(email)).user_id, plan, by=BY_OPERATOR)

    run(work)
    typer.echo(f"{email} is on the plan {plan} now.")


@commands.command()
def disable(email: Email) -> None:
    """Lock a person out at once, everywhere."""

    async def work(here: Installation) -> None:
        await here.accounts.disable((await here.account(email)).user_id, by=BY_OPERATOR)

    run(work)
    typer.echo(f"{email} is locked out.")


@commands.command()
def enable(email: Email) -> None:
    """Let a person in again."""

    async def work(here: Installation) -> None:
        await here.accounts.enable((await here.account(email)).user_id, by=BY_OPERATOR)

    run(work)
    typer.echo(f"{email} can sign in again.")


@commands.command("remove-second-factor")
def remove_second_factor(email: Email) -> None:
    """Have a person sign in without codes again: their phone is lost, and the recovery codes too."""

    async def work(here: Installation) -> None:
        await here.accounts.remove_second_factor((await here.account(email)).user_id)

    run(work)
    typer.echo(f"{email} signs in with the password alone now.")


def setup_code() -> None:
    """Print the code that the page asks for when the first account is made."""
    code = run(lambda here: here.accounts.setup_code.current())
    if code is None:
        fail("There is an account already. Make others with: python -m chat_app users create")
    typer.echo(code)


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        fail("There is no terminal to ask for the password at. Use --password-stdin.")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
