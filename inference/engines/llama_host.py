"""A process with one of llama.cpp's own servers (`llama_process`), and the way to it over loopback.

Knows what is the same for every such server: how it starts and ends, its key, that every call has a connection of its
own (reused ones break under load), and what its errors mean. What it is asked for, its user knows.
"""

import asyncio
import contextlib
import secrets
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from inference.engines.llama_process import Order
from inference.protocol import EngineDied, EngineError
from inference.wire import GONE, error_from, error_in, words

ROOT = Path(__file__).resolve().parents[2]
LOAD_S = 30.0  # In which a model must have been loaded, and as much again for each GB: disks are slow.
END_S = 5.0
# The last is how aiohttp reads from a session that `close` has just closed.
BROKEN = (*GONE, RuntimeError)


class LlamaHost:
    """`order` is what to serve; its key is made here."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._process: asyncio.subprocess.Process | None = None
        self._http: aiohttp.ClientSession | None = None

    @property
    def is_open(self) -> bool:
        """Whether it was opened, and its process is still there."""
        return self._http is not None and self._process is not None and self._process.returncode is None

    async def open(self) -> None:
        """Load the model; what is left of a process that died is cleared away. Raises `EngineError` if it cannot be."""
        await self.close()
        order = replace(self._order, key=secrets.token_hex(16))
        try:
            url = await self._start(order)
        except OSError as error:
            await self.close()
            raise EngineError(f"llama.cpp cannot be started for {order.path}: {error}") from error
        except BaseException:
            await self.close()
            raise
        self._http = aiohttp.ClientSession(
            url,
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            headers={"Authorization": f"Bearer {order.key}", "Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
        )

    async def close(self) -> None:
        """Give everything back; open responses break off."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()
        process, self._process = self._process, None
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()  # Which it takes as its end.
            try:
                await asyncio.wait_for(process.wait(), END_S)
            except TimeoutError:
                process.kill()
                await process.wait()

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON that it answers. Raises the typed error that it answers otherwise."""
        response = await self.send(method, path, body)
        try:
            return orjson.loads(await response.read())
        except BROKEN as error:
            raise EngineDied(f"llama.cpp broke off: {words(error)}") from error

    async def send(self, method: str, path: str, body: dict[str, Any] | None) -> aiohttp.ClientResponse:
        """The open response, which the caller closes."""
        if self._http is None:
            raise EngineDied("the model is not loaded")
        try:
            data = orjson.dumps(body) if body is not None else None
            response = await self._http.request(method, path, data=data)
            if response.status == 200:
                return response
            raw = await response.read()
        except BROKEN as error:
            raise EngineDied(f"llama.cpp does not answer: {words(error)}") from error
        raise error_from(response.status, error_in(raw))

    async def _start(self, order: Order) -> str:
        """Starts the process and waits until the model is loaded; returns the server's address."""
        self._process = process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "inference.engines.llama_process"),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is the service's to handle: answers under way end in its own way.
        )
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(ConnectionError):  # It has died at once; what it says, or does not, tells.
            process.stdin.write(order.line())
            await process.stdin.drain()
        patience = self._patience()
        try:
            line = await asyncio.wait_for(process.stdout.readline(), patience)
        except TimeoutError:
            process.kill()
            raise EngineError(
                f"llama.cpp did not load {order.path} within {patience:.0f} s: is its chat template endless?"
            ) from None
        answer = orjson.loads(line) if line else {"error": f"its process ended with {await process.wait()}"}
        if "url" not in answer:
            raise EngineError(f"llama.cpp cannot load {order.path}: {answer['error']}")
        return str(answer["url"])

    def _patience(self) -> float:
        """Seconds in which the model must have been loaded."""
        return LOAD_S * (1 + Path(self._order.path).stat().st_size / 1e9)
