"""A foreign engine without a model: an OpenAI-compatible server, scripted, cheap, in a process of its own.

    python -m bench.foreign [--tokenize]

Prints its port and serves until its standard input closes. It answers with as many tokens as `max_tokens` says:
`scripted-50` at 50 tokens a second, each stream on a clock of its own; `scripted-fast` without a pause. Each token is
an event and a write of its own, as of servers that stream what their engine yields. It has no `/tokenize`, as most
servers, unless it is started with it. `GET /begun` returns when each paced stream began since the last time that
somebody asked: seconds of the monotonic clock by the request's last message.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any

import orjson
import uvloop

FAST, PACED = "scripted-fast", "scripted-50"
RATE = 50.0
BEGUN = "/begun"
ROUNDS = 4
CALL_TOKENS = 12
"""How often a request that has tools is answered with a call of the first one."""
WORDS = (
    " The ferry left the harbour before sunrise, and nobody on the quay could say whether the captain had seen the"
    " small red light that burned at the end of the pier. Two fishermen mended their nets in silence; a third counted"
    " the boxes that stood beside the crane, wrote a number into his book, and crossed it out again."
)
TOKENS = [f" {word}" for word in WORDS.split()]


def text(tokens: int) -> str:
    """The answer of that many tokens."""
    return "".join(TOKENS[at % len(TOKENS)] for at in range(tokens))


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(model: str, **fields: Any) -> bytes:
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model, **fields}
    return _framed(b"data: " + orjson.dumps(chunk) + b"\n\n")


def _delta(model: str, delta: dict[str, Any], finish: str | None = None) -> bytes:
    return _event(model, choices=[{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}])


@lru_cache
def _opening(model: str) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        + _delta(model, {"role": "assistant", "content": ""})
    )


@lru_cache
def _pieces(model: str) -> list[bytes]:
    return [_delta(model, {"content": token}) for token in TOKENS]


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 32, "completion_tokens": tokens, "total_tokens": 32 + tokens}


@lru_cache
def _closing(model: str, tokens: int, usage: bool) -> bytes:
    usage_event = _event(model, choices=[], usage=_usage(tokens)) if usage else b""
    return _delta(model, {}, "length") + usage_event + _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


@lru_cache
def _call(model: str, name: str, number: int, usage: bool) -> bytes:
    """A stream that calls a tool. Its argument is the calculator's."""
    function = {"name": name, "arguments": '{"expression": "(17 + 25) * 3"}'}
    call = {"index": 0, "id": f"call_{number}", "type": "function", "function": function}
    usage_event = _event(model, choices=[], usage=_usage(CALL_TOKENS)) if usage else b""
    ended = _delta(model, {}, "tool_calls") + usage_event + _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    return _opening(model) + _delta(model, {"tool_calls": [call]}) + ended


def _json(body: object, status: bytes = b"200 OK") -> bytes:
    data = orjson.dumps(body)
    return b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (status, len(data), data)


@lru_cache
def _whole(model: str, tokens: int) -> bytes:
    message = {"role": "assistant", "content": text(tokens)}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "length"}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model}
    return _json({**head, "choices": [choice], "usage": _usage(tokens)})


_MODELS = _json(
    {"object": "list", "data": [{"id": id, "object": "model", "max_model_len": 32_768} for id in (FAST, PACED)]}
)
_NOTHING = _json({"error": {"message": "not found", "type": "not_found", "code": None}}, b"404 Not Found")


_begun: dict[str, float] = {}


class Backend(asyncio.Protocol):
    """One connection."""

    def __init__(self, tokenize: bool) -> None:
        self._tokenize = tokenize
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._clock: asyncio.Handle | None = None
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        if self._clock is not None:
            self._clock.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = 0
        for line in head.split(b"\r\n"):
            if line[:15].lower() == b"content-length:":
                length = int(line[15:])
        if len(body) < length:
            return
        self._received = body[length:]
        self._serve(head.split(b" ", 2)[1], body[:length])

    def _serve(self, path: bytes, body: bytes) -> None:
        if path == b"/v1/chat/completions":
            self._complete(orjson.loads(body))
        elif path == b"/v1/models":
            self._transport.write(_MODELS)
        elif path == BEGUN.encode():
            self._transport.write(_json(_begun))
            _begun.clear()
        elif path == b"/tokenize" and self._tokenize:
            self._transport.write(_json({"count": 32}))
        else:
            self._transport.write(_NOTHING)

    def _complete(self, asked: dict[str, Any]) -> None:
        model, tokens = asked["model"], int(asked.get("max_tokens") or asked.get("max_completion_tokens") or 16)
        usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        results = sum(message["role"] == "tool" for message in asked["messages"])
        if asked.get("tools") and results < ROUNDS:
            self._transport.write(_call(model, asked["tools"][0]["function"]["name"], results, usage))
        elif not asked.get("stream"):
            self._transport.write(_whole(model, tokens))
        else:
            pause = 1 / RATE if model == PACED else 0.0
            if pause:
                _begun[asked["messages"][-1]["content"]] = time.monotonic()
            self._write(_stream(model, tokens, usage), pause, self._loop.time())

    def _write(self, pieces: Iterator[bytes], pause: float, due: float) -> None:
        piece = next(pieces, None)
        if piece is None:
            return
        self._transport.write(piece)
        due += pause
        # Later even without a pause: what is written within one turn of the loop leaves in one packet.
        again = partial(self._write, pieces, pause, due)
        self._clock = self._loop.call_at(due, again) if pause else self._loop.call_soon(again)


def _stream(model: str, tokens: int, usage: bool) -> Iterator[bytes]:
    yield _opening(model)
    pieces = _pieces(model)
    for at in range(tokens):
        yield pieces[at % len(pieces)]
    yield _closing(model, tokens, usage)


async def serve(tokenize: bool) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Backend(tokenize), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    gone = asyncio.Event()
    loop.add_reader(sys.stdin, gone.set)
    await gone.wait()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--tokenize", action="store_true", help="count tokens when asked")
    uvloop.run(serve(arguments.parse_args().tokenize))
