"""The parts of a prompt: where each message comes from and how much room it may take.

It does not know the model's window, nor how an engine's template puts messages together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from inference.protocol import Message

PartKind = Literal["system", "instructions", "tools", "memory", "documents", "summary", "history", "question"]
KINDS: frozenset[str] = frozenset(get_args(PartKind))
CONVERSATION = frozenset({"history", "question"})
"""Kinds whose messages keep their place, whatever their role. Of the others, system messages are merged at the top."""

PART_VERSION = 1


@dataclass(frozen=True, slots=True)
class Part:
    """Messages of one kind. `budget` is the most tokens they may take, None for as many as there is room for.

    `source` says where they come from: "deployment", "person", "thread", "request" and so on.
    """

    kind: PartKind
    messages: tuple[Message, ...]
    budget: int | None = None
    source: str = ""
    version: int = PART_VERSION


def flattened(parts: Iterable[Part]) -> tuple[Message, ...]:
    """The messages in order, all that guides the model merged into one system message at the top."""
    guidance: list[str] = []
    rest: list[Message] = []
    for part in parts:
        for message in part.messages:
            if message.role != "system" or part.kind in CONVERSATION:
                rest.append(message)
            elif message.content:
                guidance.append(message.content)
    return (Message("system", "\n\n".join(guidance)), *rest) if guidance else tuple(rest)


def conversation(messages: Sequence[Message], system_prompt: str, source: str) -> list[Part]:
    """The parts of a conversation, a thread's or one that a program sends whole; `source` says which.

    A system prompt at its beginning takes the place of the deployment's. Tool results at its end stay with the message
    that called for them: together they are the question.
    """
    head = Part("system", (Message("system", system_prompt),), source="deployment")
    if messages and messages[0].role == "system":
        head, messages = Part("system", (messages[0],), source=source), messages[1:]
    last = max(0, len(messages) - 1)
    while last > 0 and messages[last].role == "tool":
        last -= 1
    return [
        head,
        Part("history", tuple(messages[:last]), source=source),
        Part("question", tuple(messages[last:]), source=source),
    ]
