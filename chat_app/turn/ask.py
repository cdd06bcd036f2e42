"""What a caller asks of a turn, and what it learns when the turn has begun. Plain data."""

from dataclasses import dataclass

from chat_app.accounts.identity import Identity
from chat_app.billing.ledger import Allowance
from chat_app.billing.plans import Terms
from chat_app.data.log.entries import clean
from chat_app.prompts.window import TooLong
from chat_app.sessions.generations import GenerationRow
from chat_app.sessions.threads import Exchange
from inference.protocol import Message, Sampling, Tool, ToolCall


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

    `source` is chat or api. A call of the API has no `exchange`: it leaves no thread. Unless it is `detached`, it is
    stopped when its program goes away. Of a thread's messages only the newest are here: `positions` are their places
    in it, `since` is where the last answer's prompt began, by the model `since_model`, and `seen_head` the last message
    of the shown branch. `tools` are the caller's own, which end the turn when the model asks for one; `built_in` names
    those that Parley runs itself.
    """

    identity: Identity
    source: str
    messages: tuple[Message, ...]
    model: str = ""
    sampling: Sampling | None = None
    exchange: Exchange | None = None
    positions: tuple[int, ...] | None = None
    since: int | None = None
    since_model: str = ""
    seen_head: str | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    built_in: tuple[str, ...] = ()
    detached: bool = False

    @property
    def unchecked(self) -> tuple[Message, ...]:
        """What nobody has checked yet: a thread's earlier messages were checked when they were said; a program sends
        whole conversations, and may put words into every role."""
        return self.messages[-1:] if self.exchange else self.messages

    @property
    def length(self) -> int:
        """Characters of what nobody has checked yet."""
        said = sum(
            len(message.content) + sum(len(call.arguments) for call in message.tool_calls) for message in self.unchecked
        )
        return said + sum(len(tool.description) + len(tool.parameters) for tool in self.tools)

    def started(
        self,
        row: GenerationRow,
        *,
        branched: bool = False,
        terms: Terms | None = None,
        allowance: Allowance | None = None,
    ) -> "Started":
        """What the caller learns once `row` stands for this."""
        exchange = self.exchange
        return Started(
            generation_id=row.id,
            model=row.model,
            thread_id=row.thread_id,
            question_id=(exchange.question_id or exchange.parent_id) if exchange else None,
            question=exchange.question if exchange else "",
            answer_id=row.message_id,
            branched=branched,
            terms=terms,
            allowance=allowance,
        )


@dataclass(frozen=True, slots=True)
class Started:
    """A turn that has begun, or, refused by the input check, has already ended.

    `question` is as its thread keeps it. `branched`: somebody else asked in the same place meanwhile; both are kept,
    side by side. `terms` and `allowance` are the plan and the month, with the turn's own hold, or None if unknown.
    """

    generation_id: str
    model: str
    thread_id: str | None = None
    question_id: str | None = None
    answer_id: str | None = None
    question: str = ""
    branched: bool = False
    terms: Terms | None = None
    allowance: Allowance | None = None


def cleaned(message: Message, most: int) -> Message:
    """A program's message, every string in it without control characters.

    Raises `TurnError` for more than `most` characters in one of them, or if a user says nothing.
    """
    calls = (ToolCall(clean(call.id), clean(call.name), bounded(call.arguments, most)) for call in message.tool_calls)
    content = (readable if message.role == "user" else bounded)(message.content, most)
    return Message(message.role, content, tuple(calls), clean(message.tool_call_id))


def readable(text: str, most: int) -> str:
    """The text without control characters, which no one can have meant to type; line breaks and tabs stay.

    Raises `TurnError` for more than `most` characters, or if nothing but white space is left.
    """
    text = bounded(text, most)
    if not text.strip():
        raise TurnError("empty_input", "There is nothing to answer: the message is empty.")
    return text


def bounded(text: str, most: int) -> str:
    """Like `readable`, for a message that may be empty: an assistant's that only calls tools, a tool's result."""
    if len(text) > most:
        raise TurnError(
            "input_too_long",
            f"This message has {len(text):,} characters; at most {most:,} are taken. Shorten it.",
        )
    return clean(text).replace("\r\n", "\n").replace("\r", "\n")


def chat_gone() -> TurnError:
    """The thread does not exist, or not for whoever asks."""
    return TurnError("not_found", "This chat does not exist any more.", 404)


def too_long(error: TooLong, model: str) -> TurnError:
    """What does not fit this model's window, in a person's words."""
    return TurnError(
        "context_too_long",
        f"This message needs {error.tokens} tokens; {model} has room for {error.room}. Shorten it.",
    )
