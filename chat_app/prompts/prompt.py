"""The finished prompt of one model step: what the engine is given, to the byte.

It is kept with the job as JSON, so that another process can go on with exactly it. A release that does not know a part
of it leaves the job to one that does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from chat_app.prompts.measure import Count, Measure
from chat_app.prompts.parts import CONVERSATION, KINDS, PART_VERSION, Part, flattened
from chat_app.prompts.window import cut, starts
from inference.protocol import Message, Tool

VERSION = 1


class UnknownPart(Exception):
    """The prompt was made by a newer release: it has a part, or a version, that this one cannot read."""


class Damaged(ValueError):
    """This is not the JSON of a prompt."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Parts that fit the model's window. `tokens` is the engine's count if `counted`, else an upper bound.

    `kept` messages of the conversation are in it; `dropped` is the position in the conversation of the first one.
    """

    parts: tuple[Part, ...]
    tools: tuple[Tool, ...] = ()
    tokens: int = 0
    counted: bool = False
    kept: int = 0
    dropped: int = 0

    @property
    def messages(self) -> tuple[Message, ...]:
        return flattened(self.parts)

    def to_json(self) -> str:
        return orjson.dumps(_Stored(VERSION, self)).decode()

    @staticmethod
    def from_json(text: str) -> "Prompt":
        """Raises `UnknownPart` or `Damaged`."""
        try:
            _must_be_known(orjson.loads(text))
            return _STORED.validate_json(text, strict=True).prompt
        except (ValidationError, orjson.JSONDecodeError):
            # What they say quotes the text, and what people write stays out of logs.
            raise Damaged("this is not the JSON of a prompt") from None


@dataclass(frozen=True, slots=True)
class _Stored:
    version: int
    prompt: Prompt


_STORED = TypeAdapter(_Stored)


async def build(
    parts: Sequence[Part],
    *,
    context: int,
    answer: int,
    count: Count,
    measure: Measure,
    tools: Sequence[Tool] = (),
    positions: Sequence[int] | None = None,
    since: int | None = None,
) -> Prompt:
    """Fit the parts into `context` tokens, with room for an answer of `answer` tokens, or a quarter of the context.

    Only the one part of kind "history" is cut, at its beginning; of parts with a budget, messages at their end are left
    out. `positions` are the places of the history's messages in the whole conversation, from 0; without them it is
    whole. `since` is the `dropped` of the prompt of the turn before, None if unknown: while it fits, the prompt goes on
    beginning there. Raises `TooLong` if everything but the history does not fit, and what `count` raises.
    """
    parts = [part if part.kind in CONVERSATION else _within_budget(part, measure) for part in parts]
    at = next((index for index, part in enumerate(parts) if part.kind == "history"), None)
    history = parts[at] if at is not None else Part("history", ())
    places = range(len(history.messages)) if positions is None else positions

    def beginning(start: int) -> tuple[Part, ...]:
        kept = replace(history, messages=history.messages[start:])
        return tuple(kept if index == at else part for index, part in enumerate(parts))

    behind = flattened(part for part in parts if part.kind == "question")
    candidates = starts(history.messages, places, since, behind[0].role if behind else "user")
    if history.budget is not None:
        candidates = _affordable(candidates, history, measure)
    end = len(history.messages)
    fixed = flattened(beginning(end))
    found = await cut(
        history.messages,
        candidates,
        fixed_bound=measure.bound(fixed, tools),
        fixed_estimate=measure.base + sum(map(measure.estimate, fixed)) + measure.of_tools(tools),
        context=context,
        answer=answer,
        sticky=since is not None and candidates[0] < end and places[candidates[0]] == since,
        measure=measure,
        count=lambda start: count(flattened(beginning(start)), tools),
    )
    kept = end - found.start + len(behind)
    dropped = places[found.start] if found.start < end else (places[-1] + 1 if end else 0)
    return Prompt(beginning(found.start), tuple(tools), found.tokens, found.counted, kept, dropped)


async def exact(prompt: Prompt, count: Count) -> Prompt:
    """The same prompt, counted by the engine. Raises what `count` raises."""
    if prompt.counted:
        return prompt
    return replace(prompt, tokens=await count(prompt.messages, prompt.tools), counted=True)


async def followed_by(
    prompt: Prompt, messages: Sequence[Message], *, context: int, answer: int, count: Count, measure: Measure
) -> Prompt:
    """The prompt of the next model step: the same, and behind it an assistant's message and the results of its calls.

    Beginning and order stay as they are while it fits; else older history goes. Raises `TooLong`, and what `count`
    raises.
    """
    parts = (*prompt.parts, Part("tools", tuple(messages), source="turn"))
    tokens = prompt.tokens + sum(map(measure.of_message, messages))
    if tokens <= context - answer:
        return replace(prompt, parts=parts, tokens=tokens, counted=False)
    length = sum(len(part.messages) for part in parts if part.kind == "history")
    return await build(
        parts,
        context=context,
        answer=answer,
        count=count,
        measure=measure,
        tools=prompt.tools,
        positions=range(prompt.dropped, prompt.dropped + length),
        since=prompt.dropped,
    )


def _within_budget(part: Part, measure: Measure) -> Part:
    if part.budget is None:
        return part
    left, kept = part.budget, 0
    for message in part.messages:
        left -= measure.estimate(message)
        if left < 0:
            break
        kept += 1
    return replace(part, messages=part.messages[:kept])


def _affordable(candidates: Sequence[int], history: Part, measure: Measure) -> list[int]:
    left, start = history.budget or 0, len(history.messages)
    for message in reversed(history.messages):
        left -= measure.estimate(message)
        if left < 0:
            break
        start -= 1
    return [at for at in candidates if at >= start]


def _must_be_known(stored: Any) -> None:
    """Raises `UnknownPart`. What is no prompt at all is let through: to read it fails."""
    if not isinstance(stored, dict):
        return
    if _newer(stored.get("version"), VERSION):
        raise UnknownPart(f"version {stored['version']} of the prompt")
    prompt = stored.get("prompt")
    parts = prompt.get("parts") if isinstance(prompt, dict) else None
    for part in parts if isinstance(parts, list) else ():
        if not isinstance(part, dict):
            continue
        kind = part.get("kind")
        if isinstance(kind, str) and kind not in KINDS:
            raise UnknownPart(kind)
        if _newer(part.get("version"), PART_VERSION):
            raise UnknownPart(f"version {part['version']} of {kind}")


def _newer(version: Any, known: int) -> bool:
    return isinstance(version, int) and version > known
