"""What a caller asks of a turn, and what it learns when the turn has begun. Plain data."""

from dataclasses import dataclass, replace

from chat_app.accounts.identity import Identity
from chat_app.billing.ledger import Allowance
from chat_app.billing.plans import Terms
from chat_app.prompts.window import TooLong
from chat_app.sessions.generations import GenerationRow
from chat_app.sessions.threads import Exchange, History
from inference.protocol import Message, Sampling, Tool


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
    those that Parley runs itself. Only `models` may answer it; none are named: all that are offered.
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
    models: tuple[str, ...] = ()

    @property
    def unchecked(self) -> tuple[Message, ...]:
        """What nobody has checked yet: a thread's earlier messages were checked when they were said; a program sends
        whole conversations, and may put words into every role."""
        return self.messages[-1:] if self.exchange else self.messages

    @property
    def length(self) -> int:
        """Characters of all that the check reads: messages, calls, ids, tools and schemas."""
        said = sum(len(message.content) + len(message.tool_call_id) for message in self.unchecked)
        calls = (call for message in self.unchecked for call in message.tool_calls)
        called = sum(len(call.id) + len(call.name) + len(call.arguments) for call in calls)
        tools = sum(len(tool.name) + len(tool.description) + len(tool.parameters) for tool in self.tools)
        return said + called + tools + (len(self.sampling.json_schema) if self.sampling else 0)

    @property
    def texts(self) -> int:
        """How many texts they are, each of which costs the check something however short it is."""
        return len(self.tools) + sum(1 + len(message.tool_calls) for message in self.unchecked)

    def behind(self, history: History) -> "Ask":
        """The same, with a thread's earlier messages in front of its own."""
        earlier = tuple(Message(said.role, said.text) for said in history.messages)
        places = tuple(said.position for said in history.messages)
        return replace(
            self,
            messages=earlier + self.messages,
            positions=places if self.messages else places[:-1],
            since=history.dropped,
            since_model=history.model,
        )

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


def chat_gone() -> TurnError:
    """The thread does not exist, or not for whoever asks."""
    return TurnError("not_found", "This chat does not exist any more.", 404)


def too_long(error: TooLong, model: str) -> TurnError:
    """What does not fit this model's window, in a person's words."""
    return TurnError(
        "context_too_long",
        f"This message needs {error.tokens} tokens; {model} has room for {error.room}. Shorten it.",
    )
