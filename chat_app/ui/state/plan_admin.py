"""The administrators' page for plans, and for who is on which. What is saved is in force with the next turn."""

# ruff: noqa: RUF012 - Reflex copies a state's defaults for each page.

from dataclasses import dataclass
from typing import Any

import reflex as rx
from reflex.event import EventSpec

from chat_app.accounts.identity import AccountError
from chat_app.billing.plans import PlanError, Terms
from chat_app.ui import words
from chat_app.ui.state.proof import proven
from chat_app.ui.state.visitor import Visitor, text_of
from chat_app.wiring import parley

MOST_PEOPLE = 100
NEW = "+"


@dataclass
class PlanLine:
    """A plan as the page shows it, and as its form is filled."""

    id: str = ""
    name: str = ""
    tokens: str = ""
    monthly_tokens: str = ""
    requests_per_minute: str = "60"
    concurrent_streams: str = "4"
    max_output_tokens: str = ""
    weight: str = "1"
    position: str = "0"
    members: int = 0
    archived: bool = False


@dataclass
class PersonLine:
    """A person in the list."""

    id: str = ""
    name: str = ""
    email: str = ""
    role: str = ""
    plan: str = ""
    disabled: bool = False


class PlanAdmin(Visitor):
    """What the plans page shows."""

    plans: list[PlanLine] = []
    people: list[PersonLine] = []
    search: str = ""
    editing: str = ""
    """Id of the plan in the form; `+` for a new one; empty when the form is closed."""
    draft: PlanLine = PlanLine()
    trouble: str = ""
    people_trouble: str = ""
    said: str = ""

    @rx.event
    async def open(self) -> EventSpec | None:
        """Show every plan and the first people."""
        self.editing = self.search = self.trouble = self.people_trouble = self.said = ""
        who = await self._enter("admin")
        if who is None:
            return None if self.denied else self._to_sign_in()
        await self._load()
        return None

    @rx.event
    def edit(self, plan_id: str) -> None:
        """Open the form for a plan, or for a new one."""
        self.trouble, self.said, self.editing = "", "", plan_id
        self.draft = next((plan for plan in self.plans if plan.id == plan_id), PlanLine())

    @rx.event
    def close_form(self) -> None:
        """Leave everything as it was."""
        self.editing = self.trouble = ""

    @rx.event
    async def save(self, form: dict[str, Any]) -> None:
        """Make or change the plan of the form."""
        who = await self._present_as("admin")
        if who is None:
            return
        if not await proven(self, "save this plan", PlanAdmin.save, form=form):
            return
        new = self.editing == NEW
        self.trouble = self.said = ""
        try:
            await parley().plans.save(
                text_of(form, "id") if new else self.editing,
                text_of(form, "name"),
                _number(form, "monthly_tokens", "The monthly tokens"),
                _number(form, "requests_per_minute", "The requests per minute") or 0,
                _number(form, "concurrent_streams", "The answers at once") or 0,
                _number(form, "max_output_tokens", "The longest answer in tokens"),
                _number(form, "weight", "The weight") or 0,
                _number(form, "position", "The position") or 0,
                new=new,
                by=self._by(who),
            )
        except PlanError as error:
            self.trouble = error.message
            return
        self.editing = ""
        self.said = "Saved. It is in force from the next message on."
        await self._load()

    @rx.event
    async def archive(self, plan_id: str) -> None:
        """Take a plan out of use."""
        who = await self._present_as("admin")
        if who is None:
            return
        if not await proven(self, "archive this plan", PlanAdmin.archive, plan_id=plan_id):
            return
        self.trouble = self.said = ""
        try:
            await parley().plans.archive(plan_id, by=self._by(who))
            self.editing, self.said = "", "Archived."
        except PlanError as error:
            self.trouble = error.message
        await self._load()

    @rx.event
    async def find(self, form: dict[str, Any]) -> None:
        """List the people whose name or address contains a text."""
        if await self._present_as("admin") is None:
            return
        self.search = text_of(form, "search")
        await self._load_people()

    @rx.event
    async def assign(self, user_id: str, plan_id: str) -> None:
        """Move a person to another plan."""
        who = await self._present_as("admin")
        if who is None:
            return
        purpose = "move this person to another plan"
        if not await proven(self, purpose, PlanAdmin.assign, user_id=user_id, plan_id=plan_id):
            return
        self.people_trouble = ""
        try:
            await parley().accounts.set_plan(user_id, plan_id, by=self._by(who))
        except AccountError as error:
            self.people_trouble = error.message
        await self._load()

    @rx.event
    async def set_role(self, user_id: str, role: str) -> None:
        """Make a person user, staff or administrator."""
        who = await self._present_as("admin")
        if who is None:
            return
        if not await proven(self, "change this person's role", PlanAdmin.set_role, user_id=user_id, role=role):
            return
        self.people_trouble = ""
        try:
            await parley().accounts.set_role(user_id, role, by=self._by(who))
        except AccountError as error:
            self.people_trouble = error.message
        await self._load_people()

    async def _load(self) -> None:
        room = parley().plans
        self.plans = [_line(terms, await room.members(terms.id)) for terms in await room.all(archived=True)]
        await self._load_people()

    async def _load_people(self) -> None:
        found = await parley().accounts.people(self.search, MOST_PEOPLE)
        self.people = [
            PersonLine(
                person.identity.user_id,
                person.identity.name,
                person.identity.email,
                person.identity.role,
                person.identity.plan_id,
                person.disabled,
            )
            for person in found
        ]


def _line(terms: Terms, members: int) -> PlanLine:
    def text(number: int | None) -> str:
        return "" if number is None else str(number)

    return PlanLine(
        terms.id,
        terms.name,
        words.count(terms.monthly_tokens),
        text(terms.monthly_tokens),
        text(terms.requests_per_minute),
        text(terms.concurrent_streams),
        text(terms.max_output_tokens),
        text(terms.weight),
        text(terms.position),
        members,
        terms.archived,
    )


def _number(form: dict[str, Any], name: str, label: str) -> int | None:
    """A field's number; None if it is empty. Raises `PlanError`."""
    text = text_of(form, name).replace(",", "").replace(" ", "")
    if not text:
        return None
    if not text.isdecimal() or len(text) > 15:
        raise PlanError(f"{label} must be a whole number.")
    return int(text)
