"""What the chat page shows of messages and threads: plain data, ready to be displayed."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo

from chat_app.sessions.threads import MessageView, ThreadLine
from chat_app.ui import words
from chat_app.ui.markdown import blocks

RUNNING = frozenset({"queued", "streaming"})


@dataclass
class Fact:
    """A labelled line of a receipt."""

    label: str = ""
    value: str = ""


@dataclass
class Entry:
    """A message. `parts` joined are its text; an answer's are Markdown blocks. An empty `id` is no message."""

    id: str = ""
    role: str = "assistant"
    parts: list[str] = field(default_factory=list)
    status: str = "done"
    error: str = ""
    receipt: list[Fact] = field(default_factory=list)
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
    return Entry(
        id=view.id,
        role=view.role,
        parts=[view.content] if view.role == "user" else blocks(view.content),
        status=view.status,
        error=view.error,
        receipt=facts(view.receipt),
        generation_id=view.generation_id or "",
    )


def facts(receipt: dict[str, object]) -> list[Fact]:
    """A receipt's lines."""
    return [Fact(label, value) for label, value in words.receipt_lines(receipt)]


def shown(live: Entry, finished: Sequence[str], tail: str) -> Entry:
    """The answer that was followed, as a message among the others."""
    return replace(live, parts=[*finished, *([tail] if tail else [])])


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
