"""The limit: an ASGI relay of ours that passes bytes on and does nothing else, under the server that Parley has.

    BENCH_RELAY_BACKEND=4000 python -m bench.relay 4001

What Parley costs above it is what it does: identity, limits, checks, hold, log, settlement, events.
"""

import asyncio
import os
import sys
from collections import deque
from typing import Any

from granian.constants import Interfaces, Loops
from granian.log import LogLevels
from granian.server import Server

from bench.http1 import Connection, post

BACKEND = "BENCH_RELAY_BACKEND"
_idle: deque[Connection] = deque()


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Every request is a POST that is passed on."""
    if scope["type"] != "http":
        return
    if scope["path"] == "/ping":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"pong", "more_body": False})
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    backend = _idle.pop() if _idle else await Connection.open(int(os.environ[BACKEND]))
    pieces: list[bytes] = []
    arrived = asyncio.Event()

    def deliver(data: bytes) -> None:
        pieces.append(data)
        arrived.set()

    asking = asyncio.ensure_future(backend.ask(post(scope["path"], body), deliver))
    asking.add_done_callback(lambda _: arrived.set())
    started = False
    while True:
        await arrived.wait()
        arrived.clear()
        data = b"".join(pieces)
        pieces.clear()
        if not started:
            headers = [(b"content-type", backend.answer.type)]
            if asking.done():
                headers.append((b"content-length", b"%d" % len(data)))
            await send({"type": "http.response.start", "status": backend.answer.status, "headers": headers})
            started = True
        over = asking.done() and not pieces
        await send({"type": "http.response.body", "body": data, "more_body": not over})
        if over:
            break
    asking.result()
    _idle.append(backend)


if __name__ == "__main__":
    Server(
        "bench.relay:app",
        address="127.0.0.1",
        port=int(sys.argv[1]),
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        workers=1,
        log_level=LogLevels.warning,
        log_access=False,
    ).serve()
