"""The child's end of the wire to its parent: one JSON object a line, over a socket of its own.

Not stdin and stdout, since libraries print there what they like. Blocking; for processes that have no event loop.
"""

import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import orjson


class Link:
    """`descriptor` is the socket's number, which the parent left open for this process."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._reader = self._socket.makefile("rb")
        self._lock = threading.Lock()

    def frames(self) -> Iterator[dict[str, Any]]:
        """What the parent sends, until it is gone."""
        try:
            for line in self._reader:
                yield orjson.loads(line)
        except OSError:
            return

    def send(self, frame: dict[str, Any]) -> None:
        """Write one frame. Any thread may; when nobody reads any more, this process has no reason to go on."""
        data = orjson.dumps(frame) + b"\n"
        try:
            with self._lock:
                self._socket.sendall(data)
        except OSError:
            os._exit(0)
