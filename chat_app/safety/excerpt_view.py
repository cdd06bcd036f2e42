"""A refused text as a person looks at it: the finding, what stands around it, and the rest.

The finding is looked for again in the excerpt that is kept, so that it is found in those of older releases too. It
does not know pages.
"""

import re
from dataclasses import dataclass

from chat_app.safety.input import inspect

NEAR = 150
"""Characters on either side of a finding that are shown first."""

_MASK = re.compile(r"\S{0,4}…\[masked: [^\]]*\]")


@dataclass(frozen=True, slots=True)
class ExcerptView:
    """An excerpt in five parts, which joined are the whole. `finding` is empty where it cannot be told: what an answer
    was stopped for comes behind its end and was never released."""

    head: str
    before: str
    finding: str
    after: str
    tail: str


def view(content: str, stage: str, category: str) -> ExcerptView:
    """The parts of an `excerpt` of the check `stage` (input, output) that found `category`."""
    start, end = _place(content, stage, category)
    first, last = max(0, start - NEAR), min(len(content), end + NEAR)
    if start == end:  # As many characters, on the one side that there is.
        first, last = max(0, min(first, len(content) - 2 * NEAR)), min(len(content), max(last, 2 * NEAR))
    return ExcerptView(content[:first], content[first:start], content[start:end], content[end:last], content[last:])


def _place(content: str, stage: str, category: str) -> tuple[int, int]:
    if stage != "input":
        return len(content), len(content)
    if category == "secret":
        marks = [match.span() for match in _MASK.finditer(content)]
        # Of several keys the one that the excerpt was cut around.
        return min(marks, key=lambda span: abs(sum(span) - len(content)), default=(0, 0))
    finding = inspect(content)
    return (finding.start, finding.end) if finding else (0, 0)
