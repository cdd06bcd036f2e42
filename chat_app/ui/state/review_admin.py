"""The staff's page for what the checks refused: a person says whether each refusal was right, and why."""

# ruff: noqa: RUF012 - Reflex copies a state's defaults for each page.

from dataclasses import dataclass
from typing import Any

import reflex as rx
from reflex.event import EventSpec

from chat_app.data.tables import Review
from chat_app.safety.review import ReviewError
from chat_app.ui import words
from chat_app.ui.state.visitor import Visitor, text_of
from chat_app.wiring import parley

SHOWN = 50


@dataclass
class ReviewLine:
    """A refusal as the page shows it."""

    id: str = ""
    stage: str = ""
    category: str = ""
    rule: str = ""
    content: str = ""
    at: str = ""
    decision: str = ""
    note: str = ""
    decided: str = ""


class ReviewAdmin(Visitor):
    """What the moderation page shows."""

    waiting: list[ReviewLine] = []
    decided: list[ReviewLine] = []
    trouble: str = ""

    @rx.event
    async def open(self) -> EventSpec | None:
        """Show what waits, and what was decided last."""
        self.trouble = ""
        who = await self._enter("staff")
        if who is None:
            return None if self.denied else self._to_sign_in()
        await self._load()
        return None

    @rx.event
    async def decide(self, form: dict[str, Any]) -> None:
        """Record a decision with its note."""
        who = await self._present_as("staff")
        if who is None:
            return
        self.trouble = ""
        review_id, decision = text_of(form, "review_id"), text_of(form, "decision")
        try:
            await parley().reviews.decide(review_id, decision, who.user_id, text_of(form, "note"))
        except ReviewError as error:
            self.trouble = error.message
        await self._load()

    async def _load(self) -> None:
        reviews, people = parley().reviews, {}
        self.waiting = [self._line(review, "") for review in await reviews.waiting(SHOWN)]
        decided = await reviews.decided(SHOWN)
        if decided:
            found = await parley().accounts.people("", 1_000)
            people = {person.identity.user_id: person.identity.email for person in found}
        self.decided = [self._line(review, people.get(review.decided_by or "", "somebody")) for review in decided]

    def _line(self, review: Review, by: str) -> ReviewLine:
        tz = self._zone()
        return ReviewLine(
            review.id,
            review.stage,
            review.category.replace("_", " "),
            review.rule,
            review.content,
            words.when(review.created_at, tz),
            review.decision or "",
            review.note,
            f"{by}, {words.when(review.decided_at, tz)}" if review.decision else "",
        )
