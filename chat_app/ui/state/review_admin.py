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
    """What the moderation page shows: a page of what waits, and one of what was decided."""

    waiting: list[ReviewLine] = []
    waiting_newer: str = ""
    """Names the page of newer ones; empty if there is none. So the three below."""
    waiting_older: str = ""
    decided: list[ReviewLine] = []
    decided_newer: str = ""
    decided_older: str = ""
    trouble: str = ""
    _waiting_at: str = ""
    _decided_at: str = ""

    @rx.event
    async def open(self) -> EventSpec | None:
        """Show what waits, and what was decided last."""
        self.trouble = self._waiting_at = self._decided_at = ""
        who = await self._enter("staff")
        if who is None:
            return None if self.denied else self._to_sign_in()
        await self._load()
        return None

    @rx.event
    async def show_waiting(self, at: str) -> None:
        """Show another page of what waits."""
        if await self._present_as("staff") is not None:
            self._waiting_at = _short(at)
            await self._load()

    @rx.event
    async def show_decided(self, at: str) -> None:
        """Show another page of what was decided."""
        if await self._present_as("staff") is not None:
            self._decided_at = _short(at)
            await self._load()

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
        reviews = parley().reviews
        waiting = await reviews.page(at=self._waiting_at)
        decided = await reviews.page(decided=True, at=self._decided_at)
        people = await parley().accounts.emails({review.decided_by or "" for review in decided.reviews})
        self.waiting = [self._line(review, "") for review in waiting.reviews]
        self.waiting_newer, self.waiting_older = waiting.newer, waiting.older
        self.decided = [
            self._line(review, people.get(review.decided_by or "", "somebody")) for review in decided.reviews
        ]
        self.decided_newer, self.decided_older = decided.newer, decided.older

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


def _short(at: str) -> str:
    """A page's name, whatever a client sent."""
    return at if isinstance(at, str) and len(at) <= 64 else ""
