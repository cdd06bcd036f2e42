"""The page of the second factor. Whoever has to set one up before anything else gets this far and no further.

The app's secret and the recovery codes go to the page as events, this once, and are never in a state.
"""

import json
from typing import Any

import reflex as rx
import segno
from reflex.event import EventSpec

from chat_app.accounts.cookies import token_from
from chat_app.accounts.identity import AccountError, Identity
from chat_app.accounts.second_factor import Setup
from chat_app.ui.state.login import onward
from chat_app.ui.state.visitor import Visitor, text_of
from chat_app.wiring import parley


class SecondFactor(Visitor):
    """What the page shows. `mode`: off, confirming, on."""

    mode: str = ""
    required: bool = False
    """Whether the settings want this person to have one."""
    codes_left: int = 0
    trouble: str = ""
    said: str = ""
    next: str = "/account"
    """Where the page leads when all is done."""

    @rx.event
    async def open(self) -> EventSpec | None:
        """Show how it stands; nobody is sent to sign in."""
        who = await self._signed_in()
        self.ready = who is not None
        if who is None:
            return self._to_sign_in()
        self.trouble = self.said = self.gone = ""
        self.next = onward(self.router.url.query_parameters.get("next", "")) or "/account"
        self.name, self.email = who.name, who.email
        await self._load(who)
        return None

    @rx.event
    async def begin(self, form: dict[str, Any]) -> list[EventSpec]:
        """Show a new secret for the person's app, once they have given their password."""
        who = await self._caller()
        if who is None:
            return []
        accounts, hit = parley().accounts, parley().limits.hit
        try:
            setup = await accounts.set_up_second_factor(
                who, text_of(form, "password"), address=self._network_address(), hit=hit
            )
        except AccountError as error:
            self.trouble = error.message
            return []
        self.mode = "confirming"
        return [_tell("codes", None), _tell("factor", shown(setup))]

    @rx.event
    async def confirm(self, form: dict[str, Any]) -> list[EventSpec]:
        """Ask for codes from now on, once the app has shown a right one; show the recovery codes."""
        who = await self._caller()
        if who is None:
            return []
        try:
            codes = await parley().accounts.confirm_second_factor(
                who.user_id,
                text_of(form, "code"),
                keep=token_from(self.router.headers.cookie) or "",
                address=self._network_address(),
                hit=parley().limits.hit,
            )
        except AccountError as error:
            self.trouble = error.message
            return []
        self.mode, self.codes_left, self.said = "on", len(codes), "Your second factor is on."
        return [_tell("factor", None), _tell("codes", codes)]

    @rx.event
    async def renew(self, form: dict[str, Any]) -> list[EventSpec]:
        """Show new recovery codes; the earlier ones end."""
        who = await self._caller()
        if who is None:
            return []
        password, code = text_of(form, "password"), text_of(form, "code")
        try:
            codes = await parley().accounts.renew_recovery_codes(
                who.user_id, password, code, address=self._network_address(), hit=parley().limits.hit
            )
        except AccountError as error:
            self.trouble = error.message
            return []
        self.codes_left, self.said = len(codes), "The earlier recovery codes have ended."
        return [_tell("codes", codes)]

    @rx.event
    async def turn_off(self, form: dict[str, Any]) -> list[EventSpec]:
        """Ask for no codes any more."""
        who = await self._caller()
        if who is None:
            return []
        password, code = text_of(form, "password"), text_of(form, "code")
        try:
            await parley().accounts.turn_off_second_factor(
                who.user_id, password, code, address=self._network_address(), hit=parley().limits.hit
            )
        except AccountError as error:
            self.trouble = error.message
            return []
        self.mode, self.said = "off", "Your second factor is off."
        return [_tell("codes", None)]

    async def _caller(self) -> Identity | None:
        """Who calls, also somebody who has to set one up; nobody is told that the session has ended."""
        self.trouble = self.said = ""
        who = await self._signed_in()
        if who is None:
            self._say_gone()
        return who

    async def _load(self, who: Identity) -> None:
        accounts = parley().accounts
        self.mode = "on" if who.has_second_factor else "off"
        self.required = accounts.needs_second_factor(who)
        self.codes_left = await accounts.second_factor.recovery_codes_left(who.user_id)


def shown(setup: Setup) -> dict[str, str]:
    """A new secret as the page shows it: in groups of four, and as a picture (SVG) of its address."""
    secret = " ".join(setup.secret[at : at + 4] for at in range(0, len(setup.secret), 4))
    picture = segno.make(setup.address, error="m").svg_inline(scale=4, border=3, light="#fff", omitsize=True)
    return {"secret": secret, "picture": picture}


def _tell(name: str, detail: object) -> EventSpec:
    """Has the page show this, or nothing (None) in its place; see `NewFactor` and `RecoveryCodes` in
    `assets/parley.jsx`."""
    event = f"new CustomEvent('parley:{name}', {{detail: {json.dumps(detail)}}})"
    return rx.call_function(f"() => {{ window.dispatchEvent({event}); }}")
