"""What is read from threads and put into them: plain data, without SQL."""

from dataclasses import dataclass
from typing import Any

TITLE_CHARS = 60


@dataclass(frozen=True, slots=True)
class ThreadLine:
    """A thread as the sidebar shows it."""

    id: str
    title: str
    updated_at: int


@dataclass(frozen=True, slots=True)
class MessageView:
    """A message as the page shows it. `content` is empty while its generation runs: the text is in the log.

    `versions` counts the messages with the same parent, this one included. `log` is the encoded log of an answer that
    is more than text, `log_length` how long an ended answer's log was in characters, whether it is kept or not.
    """

    id: str
    parent_id: str | None
    role: str
    content: str
    status: str
    generation_id: str | None
    error: str
    receipt: dict[str, Any]
    versions: int
    created_at: int
    log_length: int
    log: str = ""


@dataclass(frozen=True, slots=True)
class ThreadView:
    """A branch of a thread, oldest message first. `head_id` is the last message of the branch that is shown."""

    id: str
    title: str
    model: str
    head_id: str | None
    messages: list[MessageView]
    has_earlier: bool


@dataclass(frozen=True, slots=True)
class Said:
    """A message as a model should read it. `position` counts from 0, from the thread's first message on this branch."""

    role: str
    text: str
    position: int


@dataclass(frozen=True, slots=True)
class History:
    """The newest part of a branch, oldest message first.

    `model` wrote its last answer, from a prompt that began at position `dropped`; None if that is not known.
    """

    messages: tuple[Said, ...] = ()
    model: str = ""
    dropped: int | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """Ids of what a turn adds to a thread. `question_id` is None when an old question is answered anew."""

    thread_id: str
    answer_id: str
    parent_id: str | None
    question_id: str | None = None
    question: str = ""
    is_new_thread: bool = False


def title_of(question: str) -> str:
    """A thread's first title: the beginning of its first question, cut at a word."""
    line = " ".join(question.split())
    if len(line) <= TITLE_CHARS:
        return line or "New chat"
    return line[: TITLE_CHARS - 1].rsplit(" ", 1)[0].rstrip(",.;:") + "…"
