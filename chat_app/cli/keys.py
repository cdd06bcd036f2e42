"""`keys …`: API keys."""

import re
from datetime import UTC, datetime
from typing import Annotated

import typer

from chat_app.accounts.grant import DAY_MS, SCOPES, USUAL, Rights
from chat_app.accounts.identity import AccountError
from chat_app.accounts.keys import Key
from chat_app.cli.database import Installation, run
from chat_app.data.acts import BY_OPERATOR
from chat_app.data.ids import now_ms

commands = typer.Typer(no_args_is_help=True)

HOUR_MS = 3_600_000

Email = Annotated[str, typer.Option(help="Whose keys.")]
Which = Annotated[str, typer.Argument(help="The key's id or beginning as listed, or the key itself.")]


def _moment(text: str) -> int:
    """Milliseconds UTC of `30d`, `12h` or `2027-01-31`. Raises `typer.BadParameter`."""
    if match := re.fullmatch(r"(\d{1,5})([dh])", text):
        return now_ms() + int(match[1]) * (DAY_MS if match[2] == "d" else HOUR_MS)
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        raise typer.BadParameter("write 30d, 12h or a date such as 2027-01-31") from None


def _day(at_ms: int | None) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d}" if at_ms else "never"


def _about(key: Key) -> str:
    """What a key may, until when, and when it was last used (days are UTC's)."""
    rights = key.rights
    said = [" ".join(rights.scopes)]
    if rights.models:
        said.append(f"only {', '.join(rights.models)}")
    if rights.monthly_tokens is not None:
        said.append(f"{rights.monthly_tokens:,} tokens a month")
    if rights.requests_per_minute is not None:
        said.append(f"{rights.requests_per_minute:,} calls a minute")
    said.append(f"{'expired' if key.expired else 'expires'} {_day(rights.expires_at)}")
    said.append(f"last used {_day(key.last_used_at)}")
    return " · ".join(said)


@commands.command()
def create(
    email: Email,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    scope: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(SCOPES)}; may be repeated.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="A model; may be repeated. By default all.")] = None,
    expires: Annotated[str, typer.Option(help="When it ends: 30d, 12h or a date. By default never.")] = "",
    monthly_tokens: Annotated[int | None, typer.Option(help="Most tokens a month, prompt and answer.")] = None,
    per_minute: Annotated[int | None, typer.Option(help="Most calls a minute.")] = None,
) -> None:
    """Make a key and print it, alone: it cannot be shown again."""
    ends = _moment(expires) if expires else None
    rights = Rights(tuple(scope or USUAL), tuple(model or ()), monthly_tokens, per_minute, ends)

    async def work(here: Installation) -> str:
        return await here.accounts.make_key((await here.account(email)).user_id, name, rights, by=BY_OPERATOR)

    typer.echo(run(work))


@commands.command("list")
def list_(email: Email) -> None:
    """List a person's keys that were not revoked."""

    async def work(here: Installation) -> list[Key]:
        return await here.accounts.keys((await here.account(email)).user_id)

    for key in run(work, recorded="keys.list"):  # Not a table: one that is too wide is cut, and an id has to be whole.
        typer.echo(f"{key.id}  {key.prefix}…  {key.name}\n    {_about(key)}")


@commands.command()
def rotate(
    email: Email,
    key: Which,
    overlap: Annotated[int, typer.Option(min=0, max=720, help="Hours that the former secret still serves.")] = 24,
    end_former: Annotated[bool, typer.Option(help="End at once an older secret that still serves.")] = False,
) -> None:
    """Print a new secret for a key; all else about the key stays."""

    async def work(here: Installation) -> str:
        owner, meant = await _meant(here, email, key)
        overlap_ms = overlap * HOUR_MS
        return await here.accounts.rotate_key(owner, meant.id, overlap_ms, end_former=end_former, by=BY_OPERATOR)

    typer.echo(run(work))


@commands.command()
def revoke(email: Email, key: Which) -> None:
    """End a key; the next request with it is refused, and what it runs ends within a second."""

    async def work(here: Installation) -> Key:
        owner, meant = await _meant(here, email, key)
        await here.accounts.revoke_key(owner, meant.id, by=BY_OPERATOR)
        return meant

    revoked = run(work)
    typer.echo(f"Revoked {revoked.prefix}… ({revoked.name}).")


async def _meant(here: Installation, email: str, key: str) -> tuple[str, Key]:
    """The owner's id, and the one key that is meant. Raises `AccountError`."""
    owner = await here.account(email)
    mine = await here.accounts.keys(owner.user_id)
    meant = [line for line in mine if line.id == key or key.startswith(line.prefix)]
    if len(meant) != 1:
        raise AccountError("not_found", f"{len(meant)} keys of {email} are meant by that. See: keys list")
    return owner.user_id, meant[0]
