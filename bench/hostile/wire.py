"""A hostile client's end of a connection: HTTP/1.1 and a WebSocket, byte by byte, cheap, and as rude as wanted.

It believes nothing that it is sent; who reads it decides what it means.
"""

import asyncio
import base64
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self
from uuid import uuid4

NAMESPACE = "/_event"
PATIENCE_S = 5.0
"""How long a hostile client waits for something that it has asked for."""


class Closed(Exception):
    """The server has closed the connection."""


class Wire:
    """A connection from the network address `source`. `saw` is handed all that comes. `buffer`: bytes that the kernel
    keeps for a client that does not read; 0 for as many as usual."""

    def __init__(self, port: int, source: str, saw: Callable[[bytes], None], buffer: int = 0) -> None:
        self._port, self._source, self._saw, self._buffer = port, source, saw, buffer

    async def __aenter__(self) -> Self:
        end = socket.socket()
        if self._buffer:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
        try:
            end.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: a port for each pair, not for each end.
            end.bind((self._source, 0))
            end.setblocking(False)
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.get_running_loop().sock_connect(end, ("127.0.0.1", self._port))
        except BaseException:
            end.close()
            raise
        self._reader, self._writer = await asyncio.open_connection(sock=end, limit=1 << 20)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.transport.abort()

    async def send(self, data: bytes) -> None:
        """Raises `Closed`, also if the server takes nothing for too long."""
        if self._writer.transport.is_closing():  # uvloop's would raise what is no `OSError`.
            raise Closed
        try:
            self._writer.write(data)
            async with asyncio.timeout(PATIENCE_S):
                await self._writer.drain()
        except OSError as error:  # `TimeoutError` is one.
            raise Closed from error

    async def head(self) -> tuple[int, bytes]:
        """Status and head of a response. Raises `Closed`."""
        data = await self._read(self._reader.readuntil(b"\r\n\r\n"))
        return int(data[9:12]), data

    async def rest(self) -> bytes:
        """All that comes until the server closes or falls silent."""
        came = b""
        try:
            while data := await self._read(self._reader.read(1 << 16)):
                came += data
        except Closed:
            pass
        self._saw(came)  # Once more as a whole: a word may lie across two reads.
        return came

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """A whole request; returns status and everything that came. Raises `Closed`."""
        lines = {"Connection": "close", "Content-Length": str(len(body)), **(headers or {})}
        await self.send(heading(method, path, self._port, lines))
        if body:
            await self.send(body)
        status, came = await self.head()
        return status, came + await self.rest()

    async def upgrade(self, token: str = "", cookie: str = "", more: str = "") -> int:
        """Open the pages' socket: the status, 101 if it is open. `more`: further lines of the head. Raises `Closed`."""
        key = base64.b64encode(os.urandom(16)).decode()
        lines = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        lines |= {"Sec-WebSocket-Key": key, **({"Cookie": cookie} if cookie else {})}
        path = f"/_event/?token={token or uuid4()}&EIO=4&transport=websocket"
        await self.send(heading("GET", path, self._port, lines, more))
        return (await self.head())[0]

    async def text(self, message: str | bytes) -> None:
        """Send a message of the socket. Raises `Closed`."""
        await self.send(framed(message))

    async def connect(self, boot: str) -> bool:
        """Say what a page says first; whether the server takes it."""
        await self.text(f"40{NAMESPACE},{boot}")
        while message := await self.message():
            if message.startswith("4"):
                return message.startswith(f"40{NAMESPACE}")
        return False

    async def message(self) -> str:
        """The next text of the socket; nothing once it is closed. Pings are answered. Raises `Closed`."""
        while True:
            first, second = await self._read(self._reader.readexactly(2))
            length = second & 127
            if length > 125:
                size = 2 if length == 126 else 8
                length = int.from_bytes(await self._read(self._reader.readexactly(size)), "big")
            data = await self._read(self._reader.readexactly(length))
            if first & 15 != 1:
                return ""
            if data == b"2":
                await self.text("3")
                continue
            return data.decode(errors="replace")

    async def _read(self, reading: Awaitable[bytes]) -> bytes:
        try:
            async with asyncio.timeout(PATIENCE_S):
                data = await reading
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise Closed from error
        self._saw(data)
        return data


def heading(method: str, path: str, port: int, headers: Mapping[str, str], more: str = "") -> bytes:
    """The head of a request to Parley's own name, unless `headers` say another."""
    lines = {"Host": f"localhost:{port}", **headers}
    said = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{said}{more}\r\n".encode()


def framed(message: str | bytes) -> bytes:
    """A client's frame. Its mask is zero, which is one too and costs nothing."""
    data = message.encode() if isinstance(message, str) else message
    kind = 0x81 if isinstance(message, str) else 0x82
    if len(data) < 126:
        return struct.pack("!BBI", kind, 0x80 | len(data), 0) + data
    if len(data) < 1 << 16:
        return struct.pack("!BBHI", kind, 0x80 | 126, len(data), 0) + data
    return struct.pack("!BBQI", kind, 0x80 | 127, len(data), 0) + data
