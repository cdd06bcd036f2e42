"""A TCP proxy on loopback that can be told to misbehave between a client and a real server.

It forwards bytes and knows no protocol. A test says what goes wrong: everything pauses, connections are reset, go half
open or slow, one request is held up, or the answer to one request gets lost after the server has carried it out.
"""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from typing import Literal, Self
from urllib.parse import urlsplit, urlunsplit

Mode = Literal["pass", "pause", "reset", "half-open"]
CHUNK = 65_536


@dataclass(eq=False, slots=True)
class Fault:
    """A fault that waits for one request: the next that holds any of the `asking` bytes (b"" is in every request)."""

    kind: Literal["drop", "hold"]
    asking: tuple[bytes, ...] = (b"",)
    silent: bool = False
    happened: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the answer was dropped, or the request is held."""
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        """Let a held request go on to the server, even if its client has left meanwhile."""
        self.released.set()


class FaultProxy:
    """Forwards `port` (its own, on 127.0.0.1) to a server. Use it as an async context manager.

    `mode` holds for all connections until it is set again:
    pass: as if it were not there. pause: nothing moves in either direction, nothing is lost, new connections are
    accepted; it all goes on with `pass`, even requests whose client has given up. reset: open connections are reset
    and so is every new one. half-open: what is sent is lost in silence; connections that lived through it stay dead.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.port = 0
        self._server_at = (host, port)
        self._listener: asyncio.Server | None = None
        self._mode: Mode = "pass"
        self._moving = asyncio.Event()
        self._moving.set()
        self._delay_s = 0.0
        self._faults: list[Fault] = []
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=CHUNK)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listener is not None
        self._listener.close()
        for connection in list(self._connections):
            connection.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def mode(self) -> Mode:
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode = mode
        if mode == "pause":
            self._moving.clear()
        else:
            self._moving.set()
        for connection in list(self._connections):
            if mode == "reset":
                connection.abort()
            connection.dead |= mode == "half-open"

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._connections)

    def reset(self) -> None:
        """Reset every open connection once; new ones are taken as `mode` says."""
        for connection in list(self._connections):
            connection.abort()

    def delay(self, ms: float) -> None:
        """Forward everything that much later, in each direction; 0 ends it."""
        self._delay_s = ms / 1_000

    def drop_next_answer(self, *asking: bytes, silent: bool = False) -> Fault:
        """The next such request reaches the server; its answer does not reach the client.

        The client's connection is reset when the answer has come, or with `silent` just stays without it.
        """
        return self._add(Fault("drop", asking or (b"",), silent))

    def hold_next_request(self, *asking: bytes) -> Fault:
        """The next such request, and what follows it on its connection, waits here until `release`."""
        return self._add(Fault("hold", asking or (b"",)))

    def _add(self, fault: Fault) -> Fault:
        self._faults.append(fault)
        return fault

    def _due(self, request: bytes) -> Fault | None:
        for fault in self._faults:
            if any(asking in request for asking in fault.asking):
                self._faults.remove(fault)
                return fault
        return None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = _Connection(writer)
        self._connections.add(connection)
        try:
            if self._mode == "reset":
                return
            connection.dead = self._mode == "half-open"
            await self._moving.wait()
            if connection.aborted:  # meanwhile; what it had sent by then is lost
                return
            to_server: asyncio.StreamWriter
            from_server, to_server = await asyncio.open_connection(*self._server_at, limit=CHUNK)
            connection.writers.append(to_server)
            answers = asyncio.create_task(self._answers(connection, from_server, writer))
            try:
                await self._requests(connection, reader, to_server)
                if not connection.aborted:
                    await answers
            finally:
                answers.cancel()
                await asyncio.gather(answers, return_exceptions=True)
        except OSError:
            pass
        except asyncio.CancelledError:
            pass  # the proxy is being closed; asyncio's server would report it
        finally:
            self._connections.discard(connection)
            self._tasks.discard(task)
            connection.abort()

    async def _requests(
        self, connection: "_Connection", client: asyncio.StreamReader, server: asyncio.StreamWriter
    ) -> None:
        before = b""
        with contextlib.suppress(ConnectionError):
            while data := await client.read(CHUNK):
                fault = self._due(before + data)
                before = data[-256:]
                if fault is not None and fault.kind == "hold":
                    fault.happened.set()
                    await fault.released.wait()
                elif fault is not None:
                    connection.drop = fault
                await self._forward(connection, data, server)
            if server.can_write_eof() and not connection.dead:
                server.write_eof()

    async def _answers(
        self, connection: "_Connection", server: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await server.read(CHUNK):
                if connection.drop is not None:
                    connection.dead = True
                    connection.drop.happened.set()
                    if not connection.drop.silent:
                        connection.abort()
                        return
                await self._forward(connection, data, client)
            if not connection.dead:
                client.close()

    async def _forward(self, connection: "_Connection", data: bytes, to: asyncio.StreamWriter) -> None:
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        await self._moving.wait()
        if not connection.dead and not to.is_closing():
            to.write(data)
            await to.drain()


class _Connection:
    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.writers = [client]
        self.dead = False
        """Whatever comes is thrown away."""
        self.drop: Fault | None = None
        self.aborted = False

    def abort(self) -> None:
        """Reset it in both directions."""
        self.aborted = True
        for writer in self.writers:
            with contextlib.suppress(OSError):  # it is closed already
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


def port_of(url: str) -> int:
    """The port that an address of a server names; it has to name one."""
    port = urlsplit(url).port
    assert port is not None
    return port


def at_port(url: str, port: int) -> str:
    """The same address at another port, a proxy's."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{port}"))
