"""What really happened: what engines were asked and sent, which seals were stored, who had a place. Judged later."""

import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.faults.schedule import Plan
from inference.protocol import Message, Request, Tool

if TYPE_CHECKING:
    from bench.faults.viewing import View


DIED = "died"
"""Instead of a refusal's code: the process that was asked died meanwhile."""


class Killed(Exception):
    """The process that was asked has died."""


@dataclass(frozen=True, slots=True)
class Place:
    """An answer that was admitted, at a time of the system clock (ms) when it certainly was."""

    generation_id: str
    user_id: str
    at_ms: float


@dataclass(slots=True, eq=False)
class Turn:
    """One turn as its client knows it. `fired`: its fault has happened; `passes`: how often its moment came by."""

    plan: Plan
    user_id: str = ""
    fired: bool = False
    passes: int = 0
    admitted: list[str] = field(default_factory=list)
    """Generations that were begun for it, whatever its client heard of them."""
    generation_id: str = ""
    refused: str = ""
    """The code of a refusal, `DIED`, or in Python's words an error that no client should meet."""
    unknown: bool = False
    """Its client cannot know what became of it."""
    late: bool = False
    views: list["View"] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Asked:
    """One request to the engine for a model step (`number` 0 is the first), and the text that came back."""

    generation_id: str
    number: int
    at_ms: float
    begun: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    sent: str = ""


@dataclass(slots=True)
class Witness:
    """The record of one column's run."""

    turns: dict[str, Turn] = field(default_factory=dict)
    """By the generation that was admitted for it."""
    asked: dict[str, list[Asked]] = field(default_factory=dict)
    sealed: dict[tuple[str, int], float] = field(default_factory=dict)
    """When a seal (generation, number of its model step) was known to be stored, system clock, ms."""
    places: list[Place] = field(default_factory=list)

    def request(self, request: Request) -> Asked:
        """An engine is asked."""
        behind = request.messages
        asked_at = max((at for at, message in enumerate(behind) if message.role == "user"), default=0)
        number = sum(message.role == "tool" for message in behind[asked_at:])
        asked = Asked(request.request_id, number, now(), request.continue_from, request.messages, request.tools)
        self.asked.setdefault(request.request_id, []).append(asked)
        return asked

    def seal(self, generation_id: str, seq: int) -> None:
        """A seal was seen in the log, or its append acknowledged. Model steps are 1, 3, 5 of turns that call one
        tool a round."""
        self.sealed.setdefault((generation_id, seq // 2), now())


CURRENT: ContextVar[Turn | None] = ContextVar("turn", default=None)
"""The turn that the running task belongs to: its client's, and the job that this began."""


def now() -> float:
    """Milliseconds since 1970, with fractions."""
    return time.time() * 1000
