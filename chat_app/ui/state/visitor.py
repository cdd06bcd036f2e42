"""Who looks at the page. Every event asks anew: its caller may be signed out by now, or be no browser at all.

Reflex makes every method of a state that has no underscore an event. Which of them a page may send, and with what, is
said in `ui/guard/events.py`; whose the state is, in `ui/guard/owner.py`.
"""

from datetime import tzinfo
from typing import Any
from urllib.parse import quote

import reflex as rx
from reflex.event import EventSpec

from chat_app.accounts.cookies import token_from
from chat_app.accounts.identity import Identity
from chat_app.data.acts import Act, By
from chat_app.ui import words
from chat_app.ui.sockets import NETWORK_ADDRESS
from chat_app.wiring import parley

SESSION_ENDED = "You are signed out: your session has ended."
FACTOR_MISSING = "Your account needs a second factor now."
REFUSALS = 30
"""Entries of the audit trail a minute about one person who is refused a page."""


class Visitor(rx.State):
    """The person behind this page, for display. Rights are never decided by these values."""

    name: str = ""
    email: str = ""
    is_admin: bool = False
    is_staff: bool = False
    ready: bool = False
    """Whether the page knows who looks at it and may show itself."""
    denied: str = ""
    """Why this person may not see this page."""
    gone: str = ""
    """Set once the session has ended under an open page."""
    door: str = "/login"
    """Where to sign in again, and come back from."""
    notice: str = ""
    """Something that went wrong, in plain words, until it is closed."""
    short_password: bool = False
    """Whether this person's password is from before today's rule."""
    tz: str = rx.LocalStorage("", name="parley.tz")

    async def _identity(self) -> Identity | None:
        """Who calls, as the database has it now; None for nobody, and for who has to set up a second factor before
        anything else."""
        who = await self._signed_in()
        return None if who is None or parley().accounts.must_set_up(who) else who

    async def _signed_in(self) -> Identity | None:
        """Whose session it is, whatever they still have to do; None for nobody."""
        token = token_from(self.router.headers.cookie)
        return await parley().accounts.by_cookie(token) if token else None

    async def _is_proven(self) -> bool:
        """Whether the password was shown in this session lately."""
        return await parley().accounts.is_proven(token_from(self.router.headers.cookie) or "")

    async def _present(self) -> Identity | None:
        """Who calls; for nobody the page says that the session has ended, and keeps what it shows."""
        who = await self._identity()
        if who is None:
            self._say_gone(FACTOR_MISSING if await self._signed_in() else SESSION_ENDED)
        else:
            self.gone = ""
        return who

    def _say_gone(self, why: str = SESSION_ENDED) -> None:
        """The session has ended under the open page, or is not enough any more."""
        self.gone, self.door = why, self._door()

    async def _enter(self, role: str = "user") -> Identity | None:
        """Who opens a page. None, with `denied` set, for a person without the role (user, staff, admin)."""
        who = await self._identity()
        self.ready = who is not None
        if who is None:
            return None
        self.gone = self.denied = self.notice = ""
        self.name, self.email = who.name, who.email
        self.is_admin, self.is_staff = who.is_admin, who.is_staff
        token = token_from(self.router.headers.cookie) or ""
        self.short_password = await parley().accounts.has_short_password(token)
        if not _has_role(who, role):
            needed = "administrators" if role == "admin" else "staff"
            self.denied = f"This page is for {needed}. You are signed in as {who.email}."
            await self._report_refusal(who, role)
            return None
        return who

    async def _present_as(self, role: str) -> Identity | None:
        """Who calls, if they have the role; else the page says so."""
        who = await self._present()
        if who is None or _has_role(who, role):
            return who
        self.denied = "You may not do this any more: your role has changed."
        await self._report_refusal(who, role)
        return None

    def _network_address(self) -> str:
        """Where the page is, as limits count it."""
        return str(self.router.headers.raw_headers.get(NETWORK_ADDRESS, ""))

    async def _report_refusal(self, who: Identity, role: str) -> None:
        by, asked = self._by(who), {"needed": role}
        act = Act("admin_request", by, "page", type(self).__name__, "refused", asked)
        if await parley().audit.has_room(f"admin:{who.user_id}", REFUSALS):
            await parley().audit.record(act)

    def _by(self, who: Identity) -> By:
        """Who does something on this page, and where from."""
        return By(who.user_id, self._network_address())

    def _to_sign_in(self) -> EventSpec:
        """Where somebody without a session goes; who has one and needs a second factor is led on from there."""
        return rx.redirect(self._door(), replace=True)

    def _door(self) -> str:
        here = self.router.url.path
        return f"/login?next={quote(here)}" if here not in ("", "/") else "/login"

    @rx.event
    def close_notice(self) -> None:
        """The person has read it."""
        self.notice = ""

    @rx.event
    def notify(self, message: str) -> None:
        """Show a message. Only the server sends this."""
        self.notice = message

    def _zone(self) -> tzinfo:
        return words.zone(self.tz)


def _has_role(who: Identity, role: str) -> bool:
    return {"user": True, "staff": who.is_staff, "admin": who.is_admin}[role]


def text_of(form: dict[str, Any], field: str) -> str:
    """A form's field as text, whatever a client sent."""
    value = form.get(field, "")
    return value if isinstance(value, str) else ""
