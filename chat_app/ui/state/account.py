"""The account page: the month's allowance, API keys, the password, who is signed in where."""

# ruff: noqa: RUF012 - Reflex copies a state's defaults for each page.

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import reflex as rx
from reflex.event import EventSpec

from chat_app.accounts.cookies import token_from
from chat_app.accounts.emails import normal_name
from chat_app.accounts.identity import AccountError, Identity
from chat_app.accounts.tokens import SHOWN, digest
from chat_app.accounts.user_agents import UNKNOWN
from chat_app.ui import words
from chat_app.ui.components.form import api
from chat_app.ui.key_form import HOUR_MS, OVERLAP_HOURS, rights_of
from chat_app.ui.state.login import words as login_words
from chat_app.ui.state.proof import proven
from chat_app.ui.state.visitor import Visitor, text_of
from chat_app.wiring import parley

MISMATCH = "The two new passwords are not the same."
FORM = "make-key"
"""The id of the form for a new key."""
CHANGED = "The password is changed. Other browsers have been signed out."


@dataclass
class KeyLine:
    """An API key as its owner sees it."""

    id: str = ""
    name: str = ""
    prefix: str = ""
    made: str = ""
    used: str = ""
    rights: str = ""


@dataclass
class SessionLine:
    """A browser that somebody is signed in with, as they see it."""

    id: str = ""
    browser: str = ""
    here: bool = False
    since: str = ""
    used: str = ""


class Account(Visitor):
    """What the account page shows."""

    plan: str = ""
    used: str = ""
    limit: str = ""
    held: str = ""
    percent: float = 0.0
    resets: str = ""
    keep_calls_days: int = 0
    keys: list[KeyLine] = []
    sessions: list[SessionLine] = []
    sessions_said: str = ""
    trouble: str = ""
    password_said: str = ""
    password_changed: bool = False
    has_password: bool = True
    provider: str = ""
    """The name of the provider of identities; empty without one."""
    connected: bool = False
    provider_said: str = ""
    revoking: str = ""
    rotating: str = ""
    _shown: str = ""
    """The beginning of the key that the page was told last."""
    _in_force: int = 0

    @rx.event
    async def open(self) -> EventSpec | None:
        """Show the account of who is signed in."""
        self.trouble = self.password_said = self.revoking = self.rotating = self.sessions_said = ""
        who = await self._enter()
        if who is None:
            return self._to_sign_in()
        self.provider_said = login_words(self.router.url.query_parameters.get("error", ""))
        await self._load(who)
        return None

    @rx.event
    async def make_key(self, form: dict[str, Any]) -> AsyncIterator[EventSpec]:
        """Make an API key and show it this once: the page is told, its state never holds it."""
        who = await self._present()
        if who is None:
            return
        if not await proven(self, "make this key", Account.make_key, form=form):
            return
        self.trouble, name = "", text_of(form, "name")
        try:
            key = await parley().accounts.make_key(who.user_id, name, rights_of(form), by=self._by(who))
        except AccountError as error:
            self.trouble = error.message
            return
        # Shown before anything else can fail: nobody could see it again.
        self._shown = key[:SHOWN]
        yield _show(key, normal_name(name, "API key"), made_with=FORM)
        await self._load(who)

    @rx.event
    async def connect(self) -> EventSpec | None:
        """Go to the provider of identities, to be signed in through it from then on."""
        who = await self._present()
        if who is None or not await proven(self, "connect your account", Account.connect):
            return None
        # A page of the gateway: the browser has to ask for it.
        return rx.call_function(f"() => window.location.assign({json.dumps(api('/auth/oidc?link=1&next=/account'))})")

    @rx.event
    async def disconnect(self) -> None:
        """Be signed in through the provider no more."""
        who = await self._present()
        if who is None:
            return
        try:
            await parley().external.disconnect(who.user_id, address=self._network_address())
        except AccountError as error:
            self.provider_said = error.message
            return
        await self._load(who)

    @rx.event
    def ask_rotate(self, key_id: str) -> None:
        """Ask whether this key shall really get a new secret."""
        self.rotating, self.revoking = key_id, ""

    @rx.event
    async def rotate(self, key_id: str) -> AsyncIterator[EventSpec]:
        """Give a key a new secret, and show it this once; the former one serves for another day."""
        who = await self._present()
        if who is None:
            return
        if not await proven(self, "make a new secret for this key", Account.rotate, key_id=key_id):
            return
        self.rotating = self.trouble = ""
        try:
            overlap_ms = OVERLAP_HOURS * HOUR_MS
            key = await parley().accounts.rotate_key(who.user_id, key_id, overlap_ms, by=self._by(who))
        except AccountError as error:
            self.trouble = error.message
            return
        self._shown = key[:SHOWN]
        yield _show(key, next((line.name for line in self.keys if line.id == key_id), ""))
        await self._load(who)

    @rx.event
    def ask_revoke(self, key_id: str) -> None:
        """Ask whether this key shall really end."""
        self.revoking, self.rotating = key_id, ""

    @rx.event
    async def revoke(self, key_id: str) -> EventSpec | None:
        """End a key at once."""
        who = await self._present()
        if who is None:
            return None
        self.revoking = self.trouble = ""
        try:
            await parley().accounts.revoke_key(who.user_id, key_id, by=self._by(who))
        except AccountError as error:
            self.trouble = error.message
        await self._load(who)
        return self._hide_if_gone()

    @rx.event
    async def change_password(self, form: dict[str, Any]) -> EventSpec | None:
        """Set a new password; every other browser is signed out."""
        who = await self._present()
        if who is None:
            return None
        self.password_changed = False
        new = text_of(form, "new")
        if new != text_of(form, "again"):
            self.password_said = MISMATCH
            return None
        keep, current = token_from(self.router.headers.cookie) or "", text_of(form, "current")
        accounts, hit, end_keys = parley().accounts, parley().limits.hit, bool(text_of(form, "end_keys"))
        try:
            await accounts.change_password(
                who.user_id, current, new, keep=keep, end_keys=end_keys, hit=hit, address=self._network_address()
            )
        except AccountError as error:
            self.password_said = error.message
            return None
        self.password_changed, self.short_password = True, False
        await self._load(who)
        self.password_said = f"{CHANGED} {words.keys_left(self._in_force)}"
        return self._hide_if_gone()

    @rx.event
    async def end_session(self, session_id: str) -> None:
        """Sign another browser out."""
        who = await self._present()
        if who is None:
            return
        await parley().accounts.end_browser(who.user_id, session_id, address=self._network_address())
        self.sessions_said = "That browser is signed out."
        await self._load(who)

    @rx.event
    async def end_other_sessions(self) -> None:
        """Sign every other browser out."""
        who = await self._present()
        if who is None:
            return
        here, address = token_from(self.router.headers.cookie) or "", self._network_address()
        ended = await parley().accounts.end_other_browsers(who.user_id, here, address=address)
        self.sessions_said = words.signed_out(ended)
        await self._load(who)

    def _hide_if_gone(self) -> EventSpec | None:
        """Takes the key that the page shows from it, if it is none of the person's any more."""
        if not self._shown or any(line.prefix == self._shown for line in self.keys):
            return None
        self._shown = ""
        return _show("", "")

    async def _load(self, who: Identity) -> None:
        terms = await parley().plans.terms(who.plan_id)
        month = await parley().ledger.allowance(who.user_id, terms.monthly_tokens)
        self.plan, self.limit = terms.name, words.count(month.limit)
        self.used = words.count(month.used)
        self.held = words.count(month.held) if month.held else ""
        spent = month.used + month.held
        self.percent = 0.0 if month.limit is None else round(min(100.0, 100 * spent / max(1, month.limit)), 1)
        self.keep_calls_days = parley().settings.keep_calls_days
        self.has_password = who.has_password
        if parley().external.is_on:
            self.provider = parley().settings.oidc_name
            self.connected = await parley().external.connected(who.user_id)
        self.resets = words.next_month(datetime.now(UTC).date())
        tz, keys = self._zone(), await parley().accounts.keys(who.user_id)
        self._in_force = sum(not key.expired for key in keys)
        self.keys = [
            KeyLine(
                key.id,
                key.name,
                key.prefix,
                words.when(key.created_at, tz),
                words.when(key.last_used_at, tz),
                words.rights(key, tz),
            )
            for key in keys
        ]
        here = digest(token_from(self.router.headers.cookie) or "")
        self.sessions = [
            SessionLine(
                line.id,
                line.browser or UNKNOWN,
                line.id == here,
                words.when(line.created_at, tz),
                words.when(line.seen_at, tz),
            )
            for line in await parley().accounts.browsers(who.user_id)
        ]


def _show(key: str, name: str, made_with: str = "") -> EventSpec:
    """Has the page show a new key with its name, or none, and empty the form with the id `made_with`; see `NewKey` in
    `assets/parley.jsx`."""
    detail, form = json.dumps({"key": key, "name": name} if key else None), json.dumps(made_with)
    return rx.call_function(
        f"() => {{ document.getElementById({form})?.reset();"
        f" window.dispatchEvent(new CustomEvent('parley:key', {{detail: {detail}}})); }}"
    )
