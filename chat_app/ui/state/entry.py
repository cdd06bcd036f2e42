"""What the chat page shows of messages and threads: plain data, ready to be displayed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo

from chat_app.sessions.threads import MessageView, ThreadLine
from chat_app.ui import words
from chat_app.ui.markdown import blocks
from chat_app.ui.parts import Part, parts

RUNNING = frozenset({"queued", "streaming"})
GONE = "gone"
"""The page's own status of an answer that has ended and whose text is not kept any more."""


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


def entry(view: MessageView) -> Entry:
    """A stored message. A running answer has no text yet: it comes from the log."""
    if view.role == "user":
        return Entry(view.id, view.role, view.content)
    answer = parts(view.log) if view.log else [Part(blocks=blocks(view.content))] if view.content else []
    gone = view.status == "done" and not answer and bool(view.receipt.get("completion_tokens"))
    return Entry(
        id=view.id,
        parts=answer,
        status=GONE if gone else view.status,
        error=words.gone(0) if gone else view.error,
        receipt=facts(words.receipt_lines(view.receipt)),
        steps=facts(words.step_lines(view.receipt)),
        generation_id=view.generation_id or "",
    )


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
