"""2. The check of the input: what a person said last, or every text of a program's that reaches a model.

A program may put words into every role, and into tools, calls and schemas; it may spread a phrase over neighbouring
messages, or escape it in JSON: so what is JSON is read as it is meant, which is also what a reviewer is shown. The
whole takes time in proportion to the text, some 100 ms for a megabyte, and some 40 µs for each text however short. No
look at once is longer than `WINDOW`, since some hold the interpreter's lock.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from chat_app.safety.escapes import unescaped
from chat_app.safety.input import inspect
from chat_app.safety.masking import masked
from chat_app.safety.review import excerpt
from chat_app.safety.verdict import Verdict
from chat_app.turn.ask import Ask
from inference.protocol import ToolCall

SEAM = 1_000
"""Characters at either end of a message that are read together with its neighbour's."""
WINDOW = 65_536
"""Characters that are read at once of a text that is longer."""
OVERLAP = 5_000
"""How many of them are read again with the next ones: no finding is longer."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something is not answered; `excerpt` is what it is about, for a person who reviews it, and `question` what
    was asked in a thread, as it may be kept there. Neither holds a key that the check knows."""

    verdict: Verdict
    excerpt: str
    question: str = ""


def check(ask: Ask) -> Refusal | None:
    """Why it is not fit to be answered; None if it is."""
    said = list(_said(ask))
    for text in (*(text for _, text in said), *_together(said), *_around(ask)):
        for start in range(0, max(len(text) - OVERLAP, 1), WINDOW - OVERLAP):
            if (finding := inspect(text[start : start + WINDOW])) is not None:
                question = masked(ask.exchange.question) if ask.exchange else ""
                return Refusal(finding.verdict, excerpt(text, start + finding.start, start + finding.end), question)
    return None


def _said(ask: Ask) -> Iterator[tuple[str, str]]:
    """Role and text of everything that stands in a message, in order."""
    for message in ask.unchecked:
        if message.content:
            yield message.role, message.content
        for call in message.tool_calls:
            yield message.role, _called(call)


def _together(said: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Neighbours of one role as one text; the middle of a long one, which was read alone, is left out."""
    for _, run in groupby(said, lambda each: each[0]):
        texts = [text for _, text in run]
        if len(texts) > 1:
            yield "\n".join(text if len(text) <= 2 * SEAM else f"{text[:SEAM]}\n.\n{text[-SEAM:]}" for text in texts)


def _around(ask: Ask) -> Iterator[str]:
    """What stands beside the messages: tools, the schema of the answer, the ids of calls and results."""
    for tool in ask.tools:
        yield f"{tool.name}\n{tool.description}\n{unescaped(tool.parameters)}"
    if ask.sampling is not None:
        yield unescaped(ask.sampling.json_schema)
    if ask.source == "api":
        messages = ask.messages
        yield "\n".join([call.id for message in messages for call in message.tool_calls])
        yield "\n".join([message.tool_call_id for message in messages if message.tool_call_id])


def _called(call: ToolCall) -> str:
    return f"{call.name}\n{unescaped(call.arguments)}"
