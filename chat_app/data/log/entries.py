"""The typed entries of a generation log, and how they lie in it: one string, in the order in which things happened.

Text stands as itself. Everything else is a frame: RECORD, a letter for its kind, its payload, END. The payload of
reasoning is plain text, that of all others a JSON object; neither holds the two marks, since `clean` takes control
characters out of whatever a model or a tool says. So an answer that is nothing but text is its log, to the letter,
and offsets in the one are offsets in the other.

It does not know what a turn does with an entry, nor how the string is stored.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

Kind = Literal["text", "reasoning", "tool_call", "tool_result", "status", "sealed"]
RECORD, END = "\x1e", "\x1f"
_LETTERS: dict[Kind, str] = {"reasoning": "r", "tool_call": "c", "tool_result": "t", "status": "s", "sealed": "z"}
_KINDS: dict[str, Kind] = {letter: kind for kind, letter in _LETTERS.items()}
_DROPPED = {code: None for code in (*range(32), 127) if chr(code) not in "\t\n\r"}
_SURROGATES = range(0xD800, 0xE000)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `text` for text and reasoning, `data` (a JSON object) for every other kind.

    tool_call: id, name, arguments (JSON text), built_in (it gets its result within the turn). tool_result: id, name,
    content, failed. status: whatever a viewer may know.
    sealed: seq, finish and usage of a step whose engine has ended.
    """

    kind: Kind
    text: str = ""
    data: dict[str, Any] = field(default_factory=dict)


def clean(text: str) -> str:
    """The text without control characters (line breaks and tabs stay) and lone surrogates, which no store can hold."""
    if text.isprintable():
        return text
    text = text.translate(_DROPPED)
    if any(ord(char) in _SURROGATES for char in text):
        text = text.encode("utf-8", "replace").decode()
    return text


def encode(entries: Iterable[Entry]) -> str:
    """The entries as they lie in the log. Text has to be `clean`."""
    return "".join(map(_encoded, entries))


def _encoded(entry: Entry) -> str:
    if entry.kind == "text":
        return entry.text
    payload = entry.text if entry.kind == "reasoning" else orjson.dumps(entry.data).decode()
    return f"{RECORD}{_LETTERS[entry.kind]}{payload}{END}"


class Decoder:
    """Reads a log from its beginning, however it is cut into pieces. A frame is an entry once its end has come."""

    def __init__(self) -> None:
        self._open = ""
        self.offset = 0
        """Characters of the log that the entries returned so far, and those left out, stand for."""

    @property
    def between(self) -> bool:
        """Whether what was read ends where an entry may begin, and not inside a frame."""
        return not self._open

    def feed(self, piece: str) -> list[Entry]:
        """The entries that this piece completes. A frame of a kind that this release does not know is left out."""
        return [entry for _, entry in self.placed(piece)]

    def placed(self, piece: str) -> list[tuple[int, Entry]]:
        """The same, each with its offset in the log."""
        found: list[tuple[int, Entry]] = []
        rest = self._open + piece
        while rest:
            if rest[0] != RECORD:
                text, mark, behind = rest.partition(RECORD)
                found.append((self.offset, Entry("text", text)))
                self.offset += len(text)
                rest = mark + behind
                continue
            frame, mark, behind = rest.partition(END)
            if not mark:
                break
            if (entry := _framed(frame)) is not None:
                found.append((self.offset, entry))
            self.offset += len(frame) + 1
            rest = behind
        self._open = rest
        return found


def decode(log: str) -> list[Entry]:
    """All whole entries of a log, neighbouring text as it was written."""
    return Decoder().feed(log)


def text_of(entries: Iterable[Entry]) -> str:
    """What the answer says: the text of its text entries."""
    return "".join(entry.text for entry in entries if entry.kind == "text")


def _framed(frame: str) -> Entry | None:
    kind = _KINDS.get(frame[1:2])
    if kind is None:
        return None
    if kind == "reasoning":
        return Entry(kind, frame[2:])
    try:
        data = orjson.loads(frame[2:])
    except orjson.JSONDecodeError:
        return None
    return Entry(kind, data=data) if isinstance(data, dict) else None
