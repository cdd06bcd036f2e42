"""Asking for the password again, before what a session that lies open should not be enough for.

A handler asks `proven` first. If the password was not shown lately, its event is put aside, the page asks, and once the
password is right the event comes again, as the server's own: it asks anew who calls and what they may.
"""

# ruff: noqa: RUF012 - Reflex copies a state's defaults for each page.

from typing import Any
from urllib.parse import urlencode

import reflex as rx
from reflex.event import Event
from reflex_base.utils.format import format_event_handler

from chat_app.accounts.cookies import token_from
from chat_app.accounts.identity import AccountError
from chat_app.ui.components.form import api
from chat_app.ui.state.visitor import Visitor, text_of
from chat_app.wiring import parley


class Proof(Visitor):
    """The dialog that asks, on whichever page."""

    asked: str = ""
    """What the password is for, for the end of a sentence; empty while nothing is asked."""
    trouble: str = ""
    elsewhere: str = ""
    """Where somebody without a password proves who they are: the way through the provider of identities."""
    _event: str = ""
    _arguments: dict[str, Any] = {}

    @rx.event
    async def confirm(self, form: dict[str, Any]) -> Event | None:
        """Show the password; then what it was asked for is done."""
        if await self._present() is None:
            return None
        if not self.asked:
            return None
        token = token_from(self.router.headers.cookie) or ""
        try:
            await parley().accounts.prove(
                token, text_of(form, "password"), address=self._network_address(), hit=parley().limits.hit
            )
        except AccountError as error:
            self.trouble = error.message
            return None
        event = Event(name=self._event, payload=self._arguments)
        self._forget()
        return event

    @rx.event
    def cancel(self) -> None:
        """Leave everything as it is."""
        self._forget()

    def _ask(self, purpose: str, event: str, arguments: dict[str, Any]) -> None:
        self.asked, self.trouble, self._event, self._arguments = purpose, "", event, arguments
        self.elsewhere = ""

    def _forget(self) -> None:
        self._ask("", "", {})


async def proven(page: Visitor, purpose: str, event: Any, **arguments: Any) -> bool:
    """Whether the session of this page showed the password lately. If not, the page asks for it, and `event` comes
    again with these arguments. `purpose` ends a sentence that begins with “Enter it to”."""
    if await page._is_proven():
        return True
    proof = await page.get_state(Proof)
    proof._ask(purpose, format_event_handler(event), arguments)
    who = await page._identity()
    if who is not None and not who.has_password:
        proof.elsewhere = api(f"/auth/oidc?{urlencode({'fresh': 1, 'next': page.router.url.path})}")
    return False
