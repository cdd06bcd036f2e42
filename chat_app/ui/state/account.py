"""The account page: the month's allowance, API keys, the password."""

# ruff: noqa: RUF012 - Reflex copies a state's defaults for each page.

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import reflex as rx
from reflex.event import EventSpec

from chat_app.accounts.cookies import token_from
from chat_app.accounts.identity import AccountError, Identity
from chat_app.ui import words
from chat_app.ui.key_form import HOUR_MS, OVERLAP_HOURS, rights_of
from chat_app.ui.state.visitor import Visitor, text_of
from chat_app.wiring import parley

MISMATCH = "The two new passwords are not the same."
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
    trouble: str = ""
    password_said: str = ""
    password_changed: bool = False
    revoking: str = ""

    @rx.event
    async def open(self) -> EventSpec | None:
        """Show the account of who is signed in."""
        self.trouble = self.password_said = self.revoking = ""
        who = await self._enter()
        if who is None:
            return self._to_sign_in()
        await self._load(who)
        return None

    @rx.event
    async def make_key(self, form: dict[str, Any]) -> EventSpec | None:
        """Make an API key and show it this once: the page is told, its state never holds it."""
        who = await self._present()
        if who is None:
            return None
        self.trouble, key = "", ""
        try:
            key = await parley().accounts.make_key(who.user_id, text_of(form, "name"), rights_of(form))
        except AccountError as error:
            self.trouble = error.message
        await self._load(who)
        return _show(key)

    @rx.event
    async def rotate(self, key_id: str) -> EventSpec | None:
        """Give a key a new secret, and show it this once; the former one serves for another day."""
        who = await self._present()
        if who is None:
            return None
        self.trouble, key = "", ""
        try:
            key = await parley().accounts.rotate_key(who.user_id, key_id, OVERLAP_HOURS * HOUR_MS)
        except AccountError as error:
            self.trouble = error.message
        await self._load(who)
        return _show(key)

    @rx.event
    def ask_revoke(self, key_id: str) -> None:
        """Ask whether this key shall really end."""
        self.revoking = key_id

    @rx.event
    async def revoke(self, key_id: str) -> None:
        """End a key at once."""
        who = await self._present()
        if who is None:
            return
        self.revoking = self.trouble = ""
        try:
            await parley().accounts.revoke_key(who.user_id, key_id)
        except AccountError as error:
            self.trouble = error.message
        await self._load(who)

    @rx.event
    async def change_password(self, form: dict[str, Any]) -> None:
        """Set a new password; every other browser is signed out."""
        who = await self._present()
        if who is None:
            return
        self.password_changed = False
        new = text_of(form, "new")
        if new != text_of(form, "again"):
            self.password_said = MISMATCH
            return
        keep, current = token_from(self.router.headers.cookie) or "", text_of(form, "current")
        accounts, hit, end_keys = parley().accounts, parley().limits.hit, bool(text_of(form, "end_keys"))
        try:
            await accounts.change_password(who.user_id, current, new, keep=keep, end_keys=end_keys, hit=hit)
        except AccountError as error:
            self.password_said = error.message
            return
        self.password_changed = True
        await self._load(who)
        self.password_said = f"{CHANGED} {words.keys_left(len(self.keys))}"

    async def _load(self, who: Identity) -> None:
        terms = await parley().plans.terms(who.plan_id)
        month = await parley().ledger.allowance(who.user_id, terms.monthly_tokens)
        self.plan, self.limit = terms.name, words.count(month.limit)
        self.used = words.count(month.used)
        self.held = words.count(month.held) if month.held else ""
        spent = month.used + month.held
        self.percent = 0.0 if month.limit is None else round(min(100.0, 100 * spent / max(1, month.limit)), 1)
        self.keep_calls_days = parley().settings.keep_calls_days
        self.resets = words.next_month(datetime.now(UTC).date())
        tz = self._zone()
        self.keys = [
            KeyLine(
                key.id,
                key.name,
                key.prefix,
                words.when(key.created_at, tz),
                words.when(key.last_used_at, tz),
                words.rights(key, tz),
            )
            for key in await parley().accounts.keys(who.user_id)
        ]


def _show(key: str) -> EventSpec:
    """Has the page show a new key, or none; see `NewKey` in `assets/parley.jsx`."""
    return rx.call_function(f"() => window.dispatchEvent(new CustomEvent('parley:key', {{detail: {json.dumps(key)}}}))")
