"""The seal: how a model step ended, or a turn behind a tool's, written into the log before anything is settled.

It holds all that settling needs. Who takes over a sealed step settles it and asks no engine.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from chat_app.data.log.entries import Entry
from chat_app.safety.verdict import Verdict
from inference.protocol import Message, ToolCall

BETWEEN = "\n\n"
"""Stands between the texts of two model steps."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """The end of step `seq`. `finish`: stop, length, tool_calls, stopped, refused, failed. A tool's step, which has one
    only if the turn ends with it, has no `model` and no tokens.

    Tokens are the engine's count; `estimated` where it could not count. `error` is in a person's words, `code` its
    kind as a `TurnError` names it. `excerpt`: for who reviews what is `blocked`, the end of what could be released of
    that text, reasoning or call. Times in milliseconds since 1970: when its owner began it, had its first token (of a
    model's step), had its last. `screen_us`: microseconds that the checks took.
    """

    seq: int
    model: str
    finish: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    estimated: bool = False
    error: str = ""
    code: str = ""
    blocked: Verdict | None = None
    excerpt: str = ""
    began_at: int = 0
    first_at: int | None = None
    ended_at: int = 0
    screen_us: int = 0

    @property
    def status(self) -> str:
        """done, stopped, refused or failed."""
        return self.finish if self.finish in ("stopped", "refused", "failed") else "done"

    def entry(self) -> Entry:
        data = {name: getattr(self, name) for name in _FIELDS}  # `asdict` copies each value and costs ten times as much
        return Entry("sealed", data=data if self.blocked is None else {**data, "blocked": asdict(self.blocked)})


_FIELDS = tuple(Sealed.__dataclass_fields__)
_OF_VERDICT = tuple(Verdict.__dataclass_fields__)


def sealed_in(entries: Sequence[Entry], seq: int) -> Sealed | None:
    """The seal of this step, if its engine has ended."""
    for entry in reversed(entries):
        if entry.kind == "sealed" and entry.data["seq"] == seq:
            return _sealed(entry)
    return None


def _sealed(entry: Entry) -> Sealed:
    """The seal that an entry holds; what a newer release has put into it beside is left out."""
    data = {name: value for name, value in entry.data.items() if name in _FIELDS}
    blocked = data.pop("blocked", None) or {}
    verdict = {name: value for name, value in blocked.items() if name in _OF_VERDICT}
    return Sealed(**data, blocked=Verdict(**verdict) if verdict else None)


def seals(entries: Iterable[Entry]) -> list[Sealed]:
    """The ends of all steps that have a seal, in order."""
    return [_sealed(entry) for entry in entries if entry.kind == "sealed"]


def ending(entries: Iterable[Entry], status: str) -> Sealed | None:
    """How a turn that ended with this status did so: its last seal, with the tokens of all.

    None if its seals do not say, as of a turn that failed between two model steps.
    """
    found = seals(entries)
    if not found or found[-1].status != status:
        return None
    return replace(
        found[-1],
        prompt_tokens=sum(sealed.prompt_tokens for sealed in found),
        completion_tokens=sum(sealed.completion_tokens for sealed in found),
        cached_tokens=sum(sealed.cached_tokens for sealed in found),
    )


def entries_of_step(entries: Sequence[Entry]) -> Sequence[Entry]:
    """What the running model step has written: all that comes behind the last tool's result."""
    last = max((at for at, entry in enumerate(entries) if entry.kind == "tool_result"), default=-1)
    return entries[last + 1 :]


def result_in(entries: Sequence[Entry], seq: int) -> Entry | None:
    """What the tool of this step gave, if it has returned."""
    return next((one for one in entries if one.kind == "tool_result" and one.data.get("step") == seq), None)


def unanswered(entries: Sequence[Entry]) -> list[ToolCall]:
    """The calls that are to get a result within the turn and have none yet, in order."""
    calls = dict[str, dict[str, Any]]()
    for entry in entries:
        if entry.kind == "tool_call" and entry.data["built_in"]:
            calls[entry.data["id"]] = entry.data
        elif entry.kind == "tool_result":
            calls.pop(entry.data["id"], None)
    return [ToolCall(data["id"], data["name"], data["arguments"]) for data in calls.values()]


def tool_messages(entries: Sequence[Entry]) -> list[Message]:
    """What earlier steps of this turn said, called and got back, as the next model step reads it."""
    messages: list[Message] = []
    text, calls = "", list[ToolCall]()
    for entry in entries:
        match entry.kind:
            case "text":
                text += entry.text
            case "tool_call":
                calls.append(ToolCall(entry.data["id"], entry.data["name"], entry.data["arguments"]))
            case "sealed" if calls:
                messages.append(Message("assistant", text.removeprefix(BETWEEN), tuple(calls)))
                text, calls = "", []
            case "tool_result":
                messages.append(Message("tool", entry.data["content"], tool_call_id=entry.data["id"]))
    return messages
