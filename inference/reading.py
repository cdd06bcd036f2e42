"""One streamed answer as a client reads it: bytes of an event stream in, chunks out. Knows no sockets."""

from typing import Any

import orjson

from inference.calls import Calls
from inference.protocol import Chunk, EngineDied, EngineError, Finish, Picked, Request, ToolCall, Usage
from inference.sse import Events
from inference.thinking import Thinking, raw
from inference.wire import error_event, finish_in, picked_in, usage_in


class Reading:
    """`begun`: some of the answer has come; `done`: the end mark has. `error`: what an event reports, or `EngineDied`
    for what is no event. `paced`: the server is ours and gathers by itself."""

    def __init__(self, request: Request) -> None:
        self._alternatives = request.sampling.logprobs
        self._events = Events()
        self._thinking = Thinking(raw(request.continue_reasoning, request.continue_from))
        self._calls = Calls()
        self._finish: Finish | None = None
        self._usage: Usage | None = None
        self._text = self._reasoning = ""
        self._tokens = 0
        self._picked: list[Picked] = []
        self._prompt_tokens: int | None = None
        self.begun = False
        self.done = False
        self.error: EngineError | None = None
        self.paced = False

    def feed(self, data: bytes) -> list[Chunk]:
        """The chunks that `data` completes: one, or none while there is no text, or more where the server thinks again
        behind its text. What came before an `error` is among them."""
        chunks: list[Chunk] = []
        for payload in self._events.feed(data):
            if payload == b"[DONE]":
                self.done = True
                break
            try:
                self._read(orjson.loads(payload), chunks)
            except EngineError as error:
                self.error = error
            except orjson.JSONDecodeError:
                self.error = EngineDied("the engine sent something that is not JSON")
            except (AttributeError, KeyError, TypeError, ValueError):
                self.error = EngineDied("the engine sent something that is no piece of an answer")
            if self.error:
                break
        if not self.done and (self._text or self._reasoning):
            chunks += self._taken()
        return chunks

    def _read(self, event: Any, chunks: list[Chunk]) -> None:
        if error := error_event(event):
            raise error
        if event.get("usage"):
            self._usage = usage_in(event) or self._usage
        if (read := event.get("prompt_tokens")) is not None:
            self._prompt_tokens = int(read)
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            thought = delta.get("reasoning_content") or delta.get("reasoning") or ""
            piece = delta.get("content") or ""
            if thought:
                if self._text:
                    chunks += self._taken()
                self._reasoning += thought
            self._text += piece
            if calls := delta.get("tool_calls"):
                self._calls.feed(calls)
            listed = [] if self._alternatives is None else picked_in(choice, self._alternatives)
            self._picked += listed
            # Ours says how many tokens an event holds; elsewhere an event with something in it is one.
            tokens = event.get("tokens")
            if tokens is None:
                tokens = len(listed) or (1 if piece or thought or calls else 0)
            elif not self.paced:
                self.paced = True
                self._thinking.settle()
            self._tokens += tokens
            if choice.get("finish_reason"):
                self._finish = finish_in(choice)

    def end(self) -> Chunk:
        """The last chunk. Raises `EngineDied` if nothing said that the answer is at its end."""
        finish = self._finish
        if finish is None:
            raise EngineDied("the engine closed the stream in the middle of the answer")
        calls = self._calls.whole if finish != "length" else ()  # One that was cut off is none.
        if finish != "length":  # Some servers say "stop" behind calls.
            finish = "tool_calls" if calls else "stop"
        if self._prompt_tokens is None and self._usage and not self.paced:
            self._prompt_tokens = self._usage.prompt_tokens
        (chunk,) = self._taken(finish, calls)
        return chunk

    def _taken(self, finish: Finish | None = None, calls: tuple[ToolCall, ...] = ()) -> list[Chunk]:
        chunk = Chunk(
            self._text,
            self._tokens,
            finish,
            self._usage if finish else None,
            tuple(self._picked),
            self._reasoning,
            calls,
            self._prompt_tokens,
        )
        self._text, self._reasoning, self._tokens, self._picked, self._prompt_tokens = "", "", 0, [], None
        self.begun = True
        parted = self._thinking.chunk(chunk)
        return [] if parted is None else [parted]
