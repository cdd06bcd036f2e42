"""The staff's page for what the checks refused: a person says whether each refusal was right, and why."""

# ruff: noqa: RUF012 - Reflex copies a state's defaults for each page.

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import tzinfo
from typing import Any

import reflex as rx
from reflex.event import EventSpec

from chat_app.accounts.identity import Identity
from chat_app.data.tables import Review
from chat_app.safety.excerpt_view import view
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
    head: str = ""
    """What was refused: this and the next four joined; see `ExcerptView`."""
    before: str = ""
    finding: str = ""
    after: str = ""
    tail: str = ""
    by: str = ""
    at: str = ""
    further: str = ""
    """How many more of the kind came from the same person; empty for none."""
    decision: str = ""
    note: str = ""
    decided: str = ""

    @property
    def content(self) -> str:
        """All that is kept of what was refused."""
        return self.head + self.before + self.finding + self.after + self.tail


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
        await self._load(who)
        return None

    @rx.event
    async def show_waiting(self, at: str) -> None:
        """Show another page of what waits."""
        who = await self._present_as("staff")
        if who is not None:
            self._waiting_at = _short(at)
            await self._load(who)

    @rx.event
    async def show_decided(self, at: str) -> None:
        """Show another page of what was decided."""
        who = await self._present_as("staff")
        if who is not None:
            self._decided_at = _short(at)
            await self._load(who)

    @rx.event
    async def decide(self, form: dict[str, Any]) -> None:
        """Record a decision with its note."""
        who = await self._present_as("staff")
        if who is None:
            return
        self.trouble = ""
        review_id, decision = text_of(form, "review_id"), text_of(form, "decision")
        try:
            note, address = text_of(form, "note"), self._network_address()
            await parley().reviews.decide(review_id, decision, who.user_id, note, address=address)
        except ReviewError as error:
            self.trouble = error.message
        await self._load(who)

    async def _load(self, who: Identity) -> None:
        reviews = parley().reviews
        waiting = await reviews.page(at=self._waiting_at)
        decided = await reviews.page(decided=True, at=self._decided_at)
        reviews_shown = [*waiting.reviews, *decided.reviews]
        await reviews.looked(reviews_shown, self._by(who))
        people = await parley().accounts.emails(
            {review.user_id for review in reviews_shown} | {review.decided_by or "" for review in decided.reviews}
        )
        sources = await parley().generations.sources([review.generation_id for review in reviews_shown])
        self.waiting = [_line(review, people, sources, self._zone()) for review in waiting.reviews]
        self.waiting_newer, self.waiting_older = waiting.newer, waiting.older
        self.decided = [_line(review, people, sources, self._zone()) for review in decided.reviews]
        self.decided_newer, self.decided_older = decided.newer, decided.older


def _line(review: Review, people: Mapping[str, str], sources: Mapping[str, str], tz: tzinfo) -> ReviewLine:
    """A refusal as it is shown. `people`: e-mail addresses by id; `sources`: where generations came from, by id."""
    decided_by = people.get(review.decided_by or "", "somebody")
    return ReviewLine(
        id=review.id,
        stage=review.stage,
        category=review.category.replace("_", " "),
        rule=review.rule,
        **asdict(view(review.content, review.stage, review.category)),
        by=words.refused_text_of(
            review.stage, people.get(review.user_id, "somebody"), sources.get(review.generation_id, "")
        ),
        at=words.when(review.created_at, tz),
        further=f"and {review.further:,} more like it from the same person" if review.further else "",
        decision=review.decision or "",
        note=review.note,
        decided=f"{decided_by}, {words.when(review.decided_at, tz)}" if review.decision else "",
    )


def _short(at: str) -> str:
    """A page's name, whatever a client sent."""
    return at if isinstance(at, str) and len(at) <= 64 else ""
