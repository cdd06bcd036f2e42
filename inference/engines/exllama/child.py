"""A child process and the line of JSON frames to it, as its parent sees it. Knows nothing of models or templates.

The child ends with its parent, because then the socket closes. Every frame that the child sends of its own accord
goes to `on_frame`; one that answers a question has that question's `id`.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from inference.engines.exllama.frames import Frame, error_from
from inference.protocol import EngineDied, EngineError

LONGEST = 64 * 2**20  # Bytes of one frame: a prompt of millions of tokens.
END_S = 5.0


class Child:
    """`python -m module` with the number of its socket as the last argument.

    `on_end` is told, once, how it ended, unless it was closed here; by then all questions have failed (`EngineDied`).
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str] = (),
        on_frame: Callable[[Frame], None] = lambda frame: None,
        on_end: Callable[[str], None] = lambda why: None,
    ) -> None:
        self._module = module
        self._arguments = arguments
        self._on_frame = on_frame
        self._on_end = on_end
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def pid(self) -> int:
        """Its process id; 0 before it is started."""
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        return self._reading is not None and not self._reading.done() and not self._closing

    async def start(self) -> None:
        """Raises `EngineError` if there can be no process."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", self._module, *self._arguments, str(theirs.fileno())),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=2,  # Ours is for people.
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,  # Ctrl-C is the parent's to handle.
                )
            except OSError as error:
                ours.close()
                raise EngineError(f"cannot start {self._module}: {error}") from error
        reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=LONGEST)
        self._reading = asyncio.create_task(self._read(reader))

    def send(self, frame: Frame) -> None:
        """Raises `EngineDied` if it is gone."""
        if self._writer is None or not self.alive:
            raise EngineDied(f"{self._module} is not running")
        self._writer.write(orjson.dumps(frame) + b"\n")

    async def ask(self, frame: Frame) -> Any:
        """Send a frame and wait for its answer. Raises the `EngineError` that the child answers with."""
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self.send({**frame, "id": number})
            return await answer
        finally:
            del self._asked[number]

    def kill(self) -> None:
        """End it as if it had crashed."""
        if self._process is not None and self._process.returncode is None:
            # Not the process object's own `kill`: that looks for its end first, and whoever waits misses the status.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    async def close(self) -> None:
        """End it and wait until it is gone."""
        self._closing = True
        if self._writer is not None:
            self._writer.close()
        if self._process is not None:
            try:
                await asyncio.wait_for(self._process.wait(), END_S)
            except TimeoutError:
                self.kill()
        if self._reading is not None:
            await asyncio.wait({self._reading})

    async def _read(self, reader: asyncio.StreamReader) -> None:
        assert self._process is not None
        with contextlib.suppress(OSError, ValueError):  # ValueError: a line beyond the limit, or no JSON.
            while line := await reader.readline():
                frame: Frame = orjson.loads(line)
                if (number := frame.get("id")) is None:
                    self._on_frame(frame)
                elif (answer := self._asked.get(number)) is not None and not answer.done():
                    if "error" in frame:
                        answer.set_exception(error_from(frame["error"]))
                    else:
                        answer.set_result(frame["answer"])
        if not self._closing:
            self.kill()  # Its end of the wire is closed or talks nonsense: whatever it still does, nobody hears of it.
        code = await self._process.wait()
        if self._writer is not None:
            self._writer.close()
        why = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(EngineDied(f"{self._module} {why}"))
        if not self._closing:
            self._on_end(why)
