"""What a caller asks of a turn, and how a turn answers before it runs. Plain data; the turn itself is in turn.py."""

from dataclasses import dataclass

from chat_app.accounts.identity import Identity
from chat_app.sessions.generations import Job
from chat_app.sessions.threads import Exchange
from inference.protocol import Message, Sampling


class TurnError(Exception):
    """Why a turn did not begin: `message` is for a person, `code` and `status` (HTTP) for a program."""

    def __init__(self, code: str, message: str, status: int = 400, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Ask:
    """What somebody wants answered. `messages` are the conversation, oldest first, the question last.

    `source` is chat or api. A call of the API has no `exchange`: it leaves no thread.
    """

    identity: Identity
    source: str
    messages: tuple[Message, ...]
    model: str = ""
    sampling: Sampling | None = None
    exchange: Exchange | None = None

    def started(self, job: Job) -> "Started":
        """What the caller learns once `job` stands for this."""
        exchange = self.exchange
        return Started(
            generation_id=job.id,
            model=job.model,
            thread_id=job.thread_id,
            question_id=(exchange.question_id or exchange.parent_id) if exchange else None,
            answer_id=job.message_id,
            prompt_tokens=job.prompt_tokens,
        )


@dataclass(frozen=True, slots=True)
class Started:
    """A turn that has begun, or, refused by the input check, has already ended."""

    generation_id: str
    model: str
    thread_id: str | None = None
    question_id: str | None = None
    answer_id: str | None = None
    prompt_tokens: int = 0


def readable(text: str, most: int) -> str:
    """The text without control characters, which no one can have meant to type; line breaks and tabs stay.

    Raises `TurnError` for more than `most` characters, or if nothing but white space is left.
    """
    if len(text) > most:
        raise TurnError(
            "input_too_long",
            f"This message has {len(text):,} characters; at most {most:,} are taken. Shorten it.",
        )
    text = "".join(char for char in text if char in "\n\t" or (char >= " " and char != "\x7f"))
    text = text.encode("utf-8", "replace").decode("utf-8")
    if not text.strip():
        raise TurnError("empty_input", "There is nothing to answer: the message is empty.")
    return text
