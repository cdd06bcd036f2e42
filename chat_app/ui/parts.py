"""An answer in the order in which it came about: what was thought, which tools were used, and the text around them.

Only its open end is sent to the page again as it grows: the block of text, or the piece of reasoning, that is being
written. It does not know where the entries come from, nor HTML.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from chat_app.data.log.entries import Entry, decode
from chat_app.turn.call_gate import UNKNOWN
from chat_app.ui import words
from chat_app.ui.markdown import Blocks

PIECE_CHARS = 800
"""Reasoning is cut into pieces of about this length, so that a frame sends no more of it again."""


@dataclass
class Part:
    """A stretch of an answer. A value: it is replaced, never changed.

    `kind` is text, reasoning or tool; `state` is running, done or failed. `blocks` joined are the text: Markdown
    blocks, or pieces of reasoning. A tool has its `arguments` and `result` as texts; one that was asked for and never
    used has failed.
    """

    kind: str = "text"
    state: str = "done"
    label: str = ""
    blocks: list[str] = field(default_factory=list)
    arguments: str = ""
    result: str = ""


@dataclass(frozen=True, slots=True)
class _Call:
    """A tool that has not come back; its part is `whole[at]`."""

    id: str
    at: int
    name: str
    arguments: str
    exists: bool


class Parts:
    """Takes the entries of one answer, in order, in any portions.

    `whole` are the parts before the open text; `thought` is the end of the reasoning that is running; `text` is what
    comes behind the last part.
    """

    def __init__(self) -> None:
        self.whole: list[Part] = []
        self.thought = ""
        self.text = Blocks()
        self._calls: list[_Call] = []

    @property
    def open_chars(self) -> int:
        """How many characters a frame has to send again."""
        return len(self.text.tail) + len(self.thought)

    @property
    def silent(self) -> bool:
        """Whether nothing of what is shown is about to grow."""
        running = any(part.state == "running" for part in self.whole)
        return not (running or self.text.finished or self.text.tail)

    def feed(self, entries: Iterable[Entry]) -> None:
        """Add what came next."""
        for entry in entries:
            match entry.kind:
                case "text":
                    self._stop_thinking()
                    self.text.feed(entry.text)
                case "reasoning":
                    self._think(entry.text)
                case "tool_call":
                    self._call(entry)
                case "tool_result":
                    state = "failed" if entry.data.get("failed") else "done"
                    self._result(_field(entry, "id"), _field(entry, "content"), state)
                case "status" if "thought_ms" in entry.data:
                    self._stop_thinking(int(entry.data["thought_ms"]))
                case "sealed":
                    self._stop_thinking()
                case _:
                    pass

    def end(self) -> None:
        """Nothing comes any more: what runs has ended, a call without a result came to nothing."""
        self._stop_thinking()
        for call in list(self._calls):
            self._result(call.id, "", "unanswered")

    def all(self) -> list[Part]:
        """Every part, the open text as the last one."""
        tail = [self.text.tail] if self.text.tail else []
        blocks = [*self.text.finished, *tail]
        return [*self.whole, *([Part(blocks=blocks)] if blocks else [])]

    def _think(self, text: str) -> None:
        if not self._thinking:
            self._close_text()
            self.whole.append(Part("reasoning", "running", words.thought()))
        self.thought = (self.thought + text).lstrip("\n") if not self.whole[-1].blocks else self.thought + text
        while len(self.thought) > PIECE_CHARS:
            cut = max(self.thought.rfind("\n", 0, PIECE_CHARS), self.thought.rfind(" ", 0, PIECE_CHARS)) + 1
            self._piece(self.thought[: cut or PIECE_CHARS])

    def _piece(self, text: str) -> None:
        self.thought = self.thought[len(text) :]
        last = self.whole[-1]
        self.whole[-1] = replace(last, blocks=[*last.blocks, text])

    @property
    def _thinking(self) -> bool:
        return bool(self.whole) and self.whole[-1].kind == "reasoning" and self.whole[-1].state == "running"

    def _stop_thinking(self, took_ms: int | None = None) -> None:
        if self._thinking:
            if self.thought:
                self._piece(self.thought)
            self.whole[-1] = replace(self.whole[-1], state="done", label=words.thought(took_ms, running=False))

    def _close_text(self) -> None:
        blocks = [*self.text.finished, self.text.tail]
        if "".join(blocks).strip():
            self.whole.append(Part(blocks=[block for block in blocks if block]))
        self.text = Blocks()

    def _call(self, entry: Entry) -> None:
        self._stop_thinking()
        self._close_text()
        name, arguments = _field(entry, "name"), _field(entry, "arguments")
        exists = name != UNKNOWN and bool(entry.data.get("built_in", True))
        call = _Call(_field(entry, "id"), len(self.whole), name, arguments, exists)
        self._calls.append(call)
        label = words.tool_use(name, arguments, "", "running" if call.exists else "unknown")
        state = "running" if call.exists else "failed"
        self.whole.append(Part("tool", state, label, arguments=words.tool_text(arguments)))

    def _result(self, call_id: str, content: str, state: str) -> None:
        """What came of a call. `state`: done, failed, unanswered."""
        call = next((call for call in self._calls if call.id == call_id), None)
        if call is None:
            return
        self._calls.remove(call)
        label = words.tool_use(call.name, call.arguments, content, state if call.exists else "unknown")
        shown = "done" if state == "done" else "failed"
        part = self.whole[call.at]
        self.whole[call.at] = replace(part, state=shown, label=label, result=words.tool_text(content))


def parts(log: str) -> list[Part]:
    """The parts of an answer that has ended, from its encoded log."""
    read = Parts()
    read.feed(decode(log))
    read.end()
    return read.all()


def _field(entry: Entry, name: str) -> str:
    return str(entry.data.get(name, ""))
