"""HTTP/1.1 as a load generator and a relay need it: prepared bytes out, an answer in, over one connection kept open.

Cheap on purpose (some 15 µs an exchange): client, backend and what is measured share the cores. It understands what the
servers of `bench.gateway` send and no more.
"""

import asyncio
import re
from collections.abc import Callable

import orjson

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_TYPE = re.compile(rb"\r\ncontent-type: *([^\r]*)", re.IGNORECASE)


def post(path: str, body: object, key: str = "none", host: str = "127.0.0.1") -> bytes:
    """A whole request, ready to be sent any number of times."""
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


class Answer:
    """A response that comes in pieces. `status` and `type` are there as soon as the head is."""

    __slots__ = ("_chunked", "_left", "_rest", "done", "status", "type")

    def __init__(self) -> None:
        self.status = 0
        self.type = b""
        self.done = False
        self._rest = b""
        self._left = 0
        self._chunked = False

    def feed(self, data: bytes) -> bytes:
        """Takes what a read brought; returns the part of the body in it."""
        if not self.status:
            head, found, data = (self._rest + data).partition(b"\r\n\r\n")
            if not found:
                self._rest = head
                return b""
            self._rest = b""
            self._read_head(head)
        if self._chunked:
            return self._chunks(data)
        self._left -= len(data)
        self.done = self._left <= 0
        return data

    def _read_head(self, head: bytes) -> None:
        self.status = int(head[9:12])
        self._chunked = _CHUNKED.search(head) is not None
        length, kind = _LENGTH.search(head), _TYPE.search(head)
        self._left = int(length[1]) if length else 0
        self.type = kind[1] if kind else b""

    def _chunks(self, data: bytes) -> bytes:
        data = self._rest + data
        body, at = [], 0
        while (end := data.find(b"\r\n", at)) >= 0:
            size = int(data[at:end], 16)
            after = end + 2 + size + 2
            if len(data) < after:
                break
            body.append(data[end + 2 : after - 2])
            at = after
            if not size:
                self.done = True
        self._rest = data[at:]
        return b"".join(body)


class Connection(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self) -> None:
        self._answer: Answer | None = None
        self._done: asyncio.Future[Answer] | None = None
        self._deliver: Callable[[bytes], object] = bytes
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, port: int) -> "Connection":
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    async def ask(self, request: bytes, deliver: Callable[[bytes], object]) -> Answer:
        """Send `request`, hand each part of the body to `deliver`, and return the answer when it is whole.

        Raises `ConnectionError` if the other side closes before that.
        """
        assert self._transport is not None
        self._answer, self._deliver = Answer(), deliver
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._done

    @property
    def answer(self) -> Answer:
        """What is being received."""
        assert self._answer is not None
        return self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's transport is no subclass of asyncio's.

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None or self._done is None or self._done.done():
            return
        if body := answer.feed(data):
            self._deliver(body)
        if answer.done:
            self._done.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error or ConnectionResetError("closed in the middle of an answer"))
