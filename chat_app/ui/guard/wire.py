"""The TCP connection below a request, for what ASGI has no word for: to end one whose other end does not read.

Closing a WebSocket waits behind what is being sent, and Granian keeps that until the connection is gone.
"""

import os
import socket
import stat
import struct
from contextlib import suppress
from pathlib import Path

from starlette.types import Scope

_FILES = Path("/dev/fd")
"""Where Linux and macOS list the open files of a process."""
_AT_ONCE = struct.pack("ii", 1, 0)
"""Linger for no time: the kernel drops what it has not sent."""


def reset(scope: Scope) -> bool:
    """End the connection of this request at once; whether this process has it open, by TCP."""
    here, there = _end(scope.get("server")), _end(scope.get("client"))
    if here is None or there is None:
        return False
    for file in _FILES.iterdir():
        with suppress(OSError):  # A file that was closed meanwhile, or no connection.
            if not stat.S_ISSOCK(os.fstat(int(file.name)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(file.name))) as copy:
                if _end(copy.getpeername()) == there and copy.getsockname()[1] == here[1]:
                    copy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                    copy.shutdown(socket.SHUT_RDWR)
                    return True
    return False


def _end(address: object) -> tuple[str, int] | None:
    """Host and port of one end, however it is written; Granian has ports as text."""
    match address:
        case (str(host), int() | str() as port, *_) if str(port).isdigit():
            return host.removeprefix("::ffff:"), int(port)
        case _:
            return None
