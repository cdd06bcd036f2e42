"""Keeps one inference process running per PARLEY_HOME, however many processes of the app there are.

Whoever holds the file lock starts `python -m inference` and restarts it when it dies; the others read its address and
try for the lock every second. The engine ends with its holder: it reads a pipe that the holder's death closes. Knows
no engine from inside and nothing of chats.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from inference.client import InferenceClient
from inference.protocol import EngineError

State = Literal["starting", "ready", "restarting"]

LOOK_S = 0.02  # Between two looks for the address of an engine that is starting.
LOCK_S = 1.0  # Between two tries for the lock.
FOLLOW_S = 0.1  # Between two looks for where another process's engine is.
CHECK_S = 5.0  # Between two health checks of a running engine.
CHECKS = 3  # So many failed in a row, and it is taken for hung.
LONG_S = 2.0  # An engine that was ready for so long is restarted at once when it dies.
PAUSES = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)  # Before the first, second, ... restart in a row.
LOG_BYTES = 5 * 2**20
ROOT = Path(__file__).resolve().parents[1]


class Supervisor:
    """`engine` and `model` as `python -m inference` takes them; `arguments` are further flags of it;
    `system_prompt` is what most conversations begin with.

    `start` returns at once; `state` says how it goes, and `error` what went wrong last, in a sentence. `address` is
    what an `InferenceClient` takes as its url.
    """

    def __init__(
        self,
        home: Path,
        engine: str = "llama_cpp",
        model: str = "smollm2-135m-instruct",
        arguments: Sequence[str] = (),
        system_prompt: str = "",
    ) -> None:
        self._home = home.resolve()
        self._command = ["--engine", engine, "--model", model, "--home", str(self._home), *arguments]
        self._environment = {**os.environ, "PARLEY_SYSTEM_PROMPT": system_prompt}
        self._address_file = self._home / "inference.json"
        self._key_file = self._home / "inference.key"
        self._log_file = self._home / "logs" / "inference.log"
        self._url = ""
        self._pid: int | None = None
        self._task: asyncio.Task[None] | None = None
        self.state: State = "starting"
        self.error = ""

    def address(self) -> str:
        """Where the engine is; "" while there is none."""
        return self._url

    @property
    def pid(self) -> int | None:
        """Process id of the running engine."""
        return self._pid

    @property
    def key(self) -> str:
        """The key that this home's engine wants; made on first use."""
        self._home.mkdir(parents=True, exist_ok=True)
        # Written aside and linked, so that of two processes that start together both read one whole key.
        draft = self._home / f"inference.key.{os.getpid()}"
        if not self._key_file.exists():
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_urlsafe(32))
            with contextlib.suppress(FileExistsError):
                self._key_file.hardlink_to(draft)
            draft.unlink()
        return self._key_file.read_text().strip()

    async def start(self) -> None:
        """Begin to supervise; does not wait for the engine."""
        _ = self.key
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        self._task = asyncio.create_task(self._run())

    async def ready(self, timeout: float = 60.0) -> None:
        """Wait until the engine is warm. Raises TimeoutError with the last trouble."""
        deadline = time.monotonic() + timeout
        while self.state != "ready":
            if time.monotonic() > deadline:
                raise TimeoutError(self.error or "the engine did not get ready in time")
            await asyncio.sleep(LOOK_S)

    async def close(self) -> None:
        """Stop the engine, if it is ours, and give up the lock."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        self._gone("starting")

    async def _run(self) -> None:
        with (self._home / "inference.lock").open("a") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await self._follow()
            await self._hold()

    async def _follow(self) -> None:
        """Look where the holder's engine is, for as long as it is not worth to try for the lock."""
        until = time.monotonic() + LOCK_S
        while time.monotonic() < until:
            url, pid = self._announced()
            if url:
                self._url, self._pid, self.state = url, pid, "ready"
            else:
                self._gone("starting" if self.state == "starting" else "restarting")
            await asyncio.sleep(FOLLOW_S)

    async def _hold(self) -> None:
        failures = 0
        while True:
            lasted = 0.0
            try:
                lasted = await self._live()
            except OSError as error:
                self.error = f"The engine cannot be started: {error}."
            failures = 1 if lasted > LONG_S else failures + 1
            self._gone("restarting")
            await asyncio.sleep(PAUSES[min(failures, len(PAUSES)) - 1])

    async def _live(self) -> float:
        """One engine from its start to its end; returns for how many seconds it was ready."""
        lasted = 0.0
        self._address_file.unlink(missing_ok=True)
        if self._log_file.exists() and self._log_file.stat().st_size > LOG_BYTES:
            self._log_file.replace(self._log_file.with_suffix(".log.1"))
        with self._log_file.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "inference", *self._command),
                *("--address-file", str(self._address_file), "--key-file", str(self._key_file), "--parent-pipe"),
                cwd=ROOT,
                env=self._environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is the app's to handle, not the engine's.
            )
        self._pid = process.pid
        ended = asyncio.create_task(process.wait())
        try:
            while not ended.done():
                self._url, _ = self._announced()
                if self._url:
                    self.state, self.error = "ready", ""
                    began = time.monotonic()
                    await self._watch(ended)
                    lasted = time.monotonic() - began
                    break
                await asyncio.sleep(LOOK_S)
            if ended.done():
                self.error = self._last_words(ended.result())
            return lasted
        finally:
            await _end(process, ended)
            self._address_file.unlink(missing_ok=True)

    async def _watch(self, ended: "asyncio.Task[int]") -> None:
        """Until it has ended, or has not answered its health checks."""
        client = InferenceClient(self.address, self.key, read_timeout=CHECK_S)
        failed = 0
        try:
            while failed < CHECKS:
                await asyncio.wait({ended}, timeout=CHECK_S)
                if ended.done():
                    return
                try:
                    # Not its health: while a model is loaded anew that is bad, and others may have answers under way.
                    await client.models()
                    failed = 0
                except EngineError:
                    failed += 1
            self.error = "The engine no longer answers and is being restarted."
        finally:
            await client.close()

    def _announced(self) -> tuple[str, int | None]:
        try:
            announced = json.loads(self._address_file.read_text())
            return str(announced["url"]), int(announced["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            return "", None

    def _gone(self, state: State) -> None:
        self._url, self._pid, self.state = "", None, state

    def _last_words(self, code: int) -> str:
        """Why it ended, as it said itself if it did."""
        with contextlib.suppress(OSError, IndexError), self._log_file.open("rb") as log:
            log.seek(max(0, self._log_file.stat().st_size - 4096))
            last = log.read().decode("utf-8", "replace").strip().splitlines()[-1]
            if code == 1 and last.startswith("inference: "):
                return f"The engine stopped: {last.removeprefix('inference: ').rstrip('.')}."
        how = f"signal {-code}" if code < 0 else f"status {code}"
        return f"The engine stopped ({how}) and is being restarted."


async def _end(process: asyncio.subprocess.Process, ended: "asyncio.Task[int]") -> None:
    if not ended.done():
        if process.stdin is not None:
            process.stdin.close()  # Which it takes as its end.
        await asyncio.wait({ended}, timeout=2.0)
    if not ended.done():
        process.kill()
        await ended
