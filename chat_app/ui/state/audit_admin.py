"""The administrators' page for the audit trail: who did what to what, the newest first."""

# ruff: noqa: RUF012 - Reflex copies a state's defaults for each page.

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any

import reflex as rx
from reflex.event import EventSpec

from chat_app.accounts.emails import normal_email
from chat_app.accounts.identity import AccountError
from chat_app.audit.reading import Wanted
from chat_app.ui import audit_words, words
from chat_app.ui.state.visitor import Visitor, text_of
from chat_app.wiring import parley

NOBODY_HAS = "There is no account {address}. For one that is gone, give its id."
BAD_DAY = "A day looks like 2026-11-30."


@dataclass
class AuditLine:
    """An entry as the page shows it."""

    id: str = ""
    at: str = ""
    actor: str = ""
    action: str = ""
    target: str = ""
    outcome: str = ""
    network: str = ""
    details: str = ""
    place: str = ""


class _Unclear(Exception):
    """What somebody looks for cannot be looked for; the message is for them."""


class AuditAdmin(Visitor):
    """What the audit page shows: a page of entries, and what was asked for."""

    entries: list[AuditLine] = []
    newer: str = ""
    """Names the page of newer ones; empty if there is none. So the next one."""
    older: str = ""
    trouble: str = ""
    _asked: dict[str, str] = {}
    """The fields of the form as they were sent last."""
    _at: str = ""

    @rx.event
    async def open(self) -> EventSpec | None:
        """Show the newest entries."""
        self.trouble, self._asked, self._at = "", {}, ""
        who = await self._enter("admin")
        if who is None:
            return None if self.denied else self._to_sign_in()
        await self._load()
        return None

    @rx.event
    async def find(self, form: dict[str, Any]) -> None:
        """Show the newest entries of those that are asked for."""
        if await self._present_as("admin") is None:
            return
        fields = ("actor", "object", "action", "outcome", "since", "until")
        self._asked, self._at = {name: text_of(form, name).strip() for name in fields}, ""
        await self._load()

    @rx.event
    async def show(self, at: str) -> None:
        """Show another page."""
        if await self._present_as("admin") is not None:
            self._at = at
            await self._load()

    async def _load(self) -> None:
        self.trouble = ""
        try:
            wanted = await self._wanted()
        except _Unclear as error:
            self.trouble, self.entries, self.newer, self.older = str(error), [], "", ""
            return
        page = await parley().audit.page(wanted, self._at)
        people = await parley().accounts.emails(_ids(page.entries))
        self.entries = [_line(entry, people, self._zone()) for entry in page.entries]
        self.newer, self.older = page.newer, page.older

    async def _wanted(self) -> Wanted:
        asked, tz = self._asked, self._zone()
        return Wanted(
            await _id(asked.get("actor", "")),
            await _id(asked.get("object", "")),
            asked.get("action", ""),
            asked.get("outcome", ""),
            _moment(asked.get("since", ""), tz),
            _moment(asked.get("until", ""), tz, days=1),
        )


async def _id(said: str) -> str:
    """Whose e-mail address this is; an id as it is. Raises `_Unclear`."""
    if "@" not in said:
        return said
    try:
        found = await parley().accounts.by_email(normal_email(said))
    except AccountError:
        found = None
    if found is None:
        raise _Unclear(NOBODY_HAS.format(address=said))
    return found.user_id


def _moment(day: str, tz: tzinfo, days: int = 0) -> int | None:
    """The beginning of a day where the browser is, or of one so many days later, in milliseconds UTC. Raises
    `_Unclear`."""
    try:
        begun = datetime.strptime(day, "%Y-%m-%d") + timedelta(days=days) if day else None
        return None if begun is None else int(begun.replace(tzinfo=tz).timestamp() * 1_000)
    except (ValueError, OverflowError):
        raise _Unclear(BAD_DAY) from None


def _ids(entries: Iterable[Mapping[str, Any]]) -> set[str]:
    """Everybody whom these entries are about."""
    found: set[str] = set()
    for entry in entries:
        found.update((entry["actor"], entry["object_id"]))
        for value in entry["details"].values():
            found.update(one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str))
    return found


def _line(entry: Mapping[str, Any], people: Mapping[str, str], tz: tzinfo) -> AuditLine:
    return AuditLine(
        id=entry["id"],
        at=words.when(entry["at"], tz),
        actor=audit_words.actor(entry, people),
        action=audit_words.ACTIONS.get(entry["action"], entry["action"]),
        target=audit_words.target(entry, people),
        outcome=entry["outcome"],
        network=entry["network"][:8],
        details=audit_words.details(entry, people),
        place="not sealed yet" if entry["seq"] is None else f"{entry['seq']:,}",
    )
