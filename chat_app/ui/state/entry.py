"""What the chat page shows of messages and threads: plain data, ready to be displayed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from typing import Any

from chat_app.sessions.threads import MessageView, ThreadLine
from chat_app.sessions.viewer import Gone
from chat_app.ui import words
from chat_app.ui.markdown import blocks
from chat_app.ui.parts import Part, parts

RUNNING = frozenset({"queued", "streaming"})
GONE = "gone"
"""The page's own status of an answer that has ended and whose text is not kept any more."""
EMPTY = "empty"
"""The page's own status of an answer that has ended well without a word."""


@dataclass
class Fact:
    """A labelled line of a receipt."""

    label: str = ""
    value: str = ""


@dataclass
class Entry:
    """A message: a question has `text`, an answer `parts`. An empty `id` is no message."""

    id: str = ""
    role: str = "assistant"
    text: str = ""
    parts: list[Part] = field(default_factory=list)
    status: str = "done"
    error: str = ""
    receipt: list[Fact] = field(default_factory=list)
    steps: list[Fact] = field(default_factory=list)
    generation_id: str = ""

    @property
    def running(self) -> bool:
        return self.status in RUNNING


@dataclass
class ThreadItem:
    """A thread in the sidebar."""

    id: str = ""
    title: str = ""


@dataclass
class ThreadGroup:
    """The threads of some days."""

    label: str = ""
    threads: list[ThreadItem] = field(default_factory=list)


def entry(view: MessageView, plans: Mapping[str, str]) -> Entry:
    """A stored message. A running answer has no text yet: it comes from the log. `plans`: their names by id."""
    if view.role == "user":
        return Entry(view.id, view.role, view.content)
    answer = parts(view.log) if view.log else [Part(blocks=blocks(view.content))] if view.content else []
    gone = view.status == "done" and not answer and view.log_length > 0
    made = Entry(
        id=view.id,
        parts=answer,
        status=GONE if gone else view.status,
        error=str(Gone(view.log_length)) if gone else why_short(view.error, view.receipt),
        receipt=facts(words.receipt_lines(view.receipt, plans)),
        steps=facts(words.step_lines(view.receipt)),
        generation_id=view.generation_id or "",
    )
    return spoken(made, answer)


def why_short(error: str, receipt: Mapping[str, Any]) -> str:
    """Why an answer is not a whole one: its error, or that it came to the end of its tokens."""
    return error or (words.CUT_OFF if receipt.get("finish") == "length" else "")


def spoken(answer: Entry, parts: Iterable[Part]) -> Entry:
    """The answer; as `EMPTY` if it ended well and its parts have no text, nor itself a reason."""
    text = "".join(block for part in parts if part.kind == "text" for block in part.blocks)
    if answer.status != "done" or answer.error or text.strip():
        return answer
    return replace(answer, status=EMPTY, error=words.NO_ANSWER)


def facts(lines: Iterable[tuple[str, str]]) -> list[Fact]:
    """Labelled lines, ready to be displayed."""
    return [Fact(label, value) for label, value in lines]


def shown(live: Entry, whole: Sequence[Part], finished: Sequence[str], tail: str) -> Entry:
    """The answer that was followed, as a message among the others."""
    text = [*finished, *([tail] if tail else [])]
    return replace(live, parts=[*whole, *([Part(blocks=text)] if text else [])])


def grouped(lines: Sequence[ThreadLine], tz: tzinfo) -> list[ThreadGroup]:
    """Threads, newest first, under the days of their last activity as the person's clock has them."""
    today = datetime.now(tz).date()
    groups: list[ThreadGroup] = []
    for line in lines:
        label = words.day_label(line.updated_at, today, tz)
        if not groups or groups[-1].label != label:
            groups.append(ThreadGroup(label))
        groups[-1].threads.append(ThreadItem(line.id, line.title))
    return groups
