"""What is worth an entry in the audit trail, as whoever does it reports it.

Rooms take a `Recorder`, so that none has to know the room that keeps the trail. It knows no table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

from chat_app.data.db.base import Statement

Action = Literal[
    "sign_in",
    "sign_out",
    "sign_up",
    "identity_connect",
    "identity_disconnect",
    "account_create",
    "account_disable",
    "account_enable",
    "password_change",
    "password_proof",
    "name_change",
    "email_change",
    "factor_set_up",
    "factor_renew",
    "factor_remove",
    "account_close",
    "role_change",
    "plan_assign",
    "plan_save",
    "plan_archive",
    "key_create",
    "key_rotate",
    "key_revoke",
    "review_look",
    "review_decide",
    "chat_delete",
    "setup_code",
    "admin_request",
    "command",
]
ACTIONS: tuple[Action, ...] = get_args(Action)
"""All that is recorded; nothing else has an entry."""
Outcome = Literal["done", "failed", "refused"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
"""`failed`: what was given was wrong, a password for one; `refused`: they may not, or not now."""
Kind = Literal["", "account", "key", "plan", "review", "chat", "route", "page", "command"]

OPERATOR = "operator"
"""The actor of a command line: whoever has a shell where Parley runs."""
PROVIDER = "provider"
"""The actor where the groups of an identity provider give somebody a role or a plan."""
TENANT = "default"
"""The one tenant of an installation without tenants."""

Detail = str | int | bool | None | Sequence[str]
"""An id, a figure, a word of ours, or several of them; what reads like anything else is not kept."""


@dataclass(frozen=True, slots=True)
class By:
    """Who does something, and from which network address. Actor: a user's id, `OPERATOR`, `PROVIDER`,
    or empty for nobody known."""

    actor: str = ""
    address: str = ""


NOBODY = By()
BY_OPERATOR = By(OPERATOR)


@dataclass(frozen=True, slots=True)
class Act:
    """Who did what, to what, with which outcome. Nothing of what people say, call things, or are reached by."""

    action: Action
    by: By
    kind: Kind = ""
    id: str = ""
    """Of the object: an account's, a key's … The command or the route itself where it is one."""
    outcome: Outcome = "done"
    details: Mapping[str, Detail] = field(default_factory=dict)


OBJECT = "CAST($7 AS VARCHAR)"
"""The act's `id` in the condition of a `Recorder.statements`."""


class Recorder(Protocol):
    """Where acts are reported."""

    def statements(self, act: Act, when: str = "") -> tuple[Statement, ...]:
        """What records an act, for the transaction that does it: both happen, or neither. `when` is a condition in SQL
        as of that place in the transaction, fixed text in which `OBJECT` stands for the act's object."""
        ...

    async def record(self, act: Act) -> None:
        """Record an act that changes nothing. Raises `DatabaseUnavailable`."""
        ...

    async def has_room(self, source: str, per_minute: int) -> bool:
        """Whether one more refusal of this `source` is to be recorded now: so many are a minute, and a number of all
        together. Whoever is refused pays nothing else for it."""
        ...


class Unrecorded:
    """A recorder that keeps nothing: for whoever works on a room alone."""

    def statements(self, act: Act, when: str = "") -> tuple[Statement, ...]:
        return ()

    async def record(self, act: Act) -> None: ...

    async def has_room(self, source: str, per_minute: int) -> bool:
        return False
