"""Parley in this process, with real parts: a scripted engine as its own process, and the stores a test asks for."""

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chat_app.accounts.identity import Identity
from chat_app.audit import sealing
from chat_app.data.log.entries import Entry, text_of
from chat_app.settings import Settings
from chat_app.tools import BUILT_IN
from chat_app.wiring import Parley, lifespan
from inference.engines.scripted import scripted_text
from inference.protocol import Message

PASSWORD = "correct horse battery"


@dataclass(slots=True)
class EngineProcess:
    """`python -m inference` as a child; killed and started anew at will, at another address each time."""

    home: Path
    engine: str = "scripted"
    flags: tuple[str, ...] = ()
    process: "subprocess.Popen[bytes] | None" = None
    patience: float = 30.0

    @property
    def address_file(self) -> Path:
        return self.home / "address.json"

    def start(self) -> str:
        self.address_file.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "inference",
                "--engine",
                self.engine,
                "--address-file",
                str(self.address_file),
                "--parent-pipe",
                *self.flags,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=(self.home / "engine.log").open("ab"),
            env={**os.environ, "PARLEY_INFERENCE_KEY": "engine-key"},
        )
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            if self.address_file.exists():
                return self.url
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError((self.home / "engine.log").read_text())

    @property
    def url(self) -> str:
        return str(json.loads(self.address_file.read_text())["url"])

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="session")
def scripted_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of one scripted engine that every test of this worker may use (its key is `engine-key`)."""
    engine = EngineProcess(tmp_path_factory.mktemp("engine"))
    yield engine.start()
    engine.kill()


StartParley = Callable[..., Awaitable[Parley]]


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing seals the audit trail by itself before the end: tests put faults under the very next statement."""
    monkeypatch.setattr(sealing, "EVERY_S", 3_600)


@pytest.fixture
async def start_parley(tmp_path: Path, scripted_engine: str, quiet: None) -> AsyncIterator[StartParley]:
    """Starts a Parley with the settings given, SQLite and the shared scripted engine unless they say otherwise."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Parley:
            chosen = {
                "home": tmp_path / "home",
                "inference_url": scripted_engine,
                "inference_key": "engine-key",
                "default_model": "scripted",
                "export_minutes": 0,
                **settings,
            }
            return await stack.enter_async_context(lifespan(Settings(**chosen)))

        yield start


def fleet_settings(request: pytest.FixtureRequest) -> dict[str, str]:
    """Settings that put Parley on a PostgreSQL database and a Valkey of the test's own."""
    return {
        "database_url": request.getfixturevalue("postgres_url"),
        "redis_url": request.getfixturevalue("redis_url"),
    }


@pytest.fixture(params=["embedded", "fleet"])
async def parley(request: pytest.FixtureRequest, start_parley: StartParley) -> Parley:
    """A Parley on SQLite, then the same test on PostgreSQL and Valkey."""
    return await start_parley(**(fleet_settings(request) if request.param == "fleet" else {}))


async def goes_on(parley: Parley) -> None:
    """Take up what its process left when its ownership was closed, as a process does that starts."""
    await parley.ownership.start(parley.worker.work, parley.worker.beat)


async def person(parley: Parley, email: str = "ada@example.org", role: str = "user") -> Identity:
    """An account of its own."""
    return await parley.accounts.create(email, PASSWORD, role=role)


def script(**directive: Any) -> str:
    """A question that has the scripted engine answer exactly so; `expected` gives the text."""
    return json.dumps({"script": directive})


def expected(question: str) -> str:
    return scripted_text(json.loads(question)["script"])


async def entries(parley: Parley, generation_id: str, offset: int = 0) -> tuple[list[Entry], str]:
    """What a viewer from `offset` sees, neighbouring text joined, and the final status; checks that no update overlaps
    or leaves a gap."""
    shown: list[Entry] = []
    end = ""
    async for update in parley.viewer.follow(generation_id, offset):
        assert update.offset == offset
        offset = update.next
        for entry in update.entries:
            if shown and entry.kind == shown[-1].kind in ("text", "reasoning"):
                entry = Entry(entry.kind, shown.pop().text + entry.text)
            shown.append(entry)
        end = update.end or end
    return shown, end


async def answer(parley: Parley, generation_id: str, offset: int = 0) -> tuple[str, str]:
    """What the answer says to a viewer from `offset`, and the final status."""
    shown, end = await entries(parley, generation_id, offset)
    return text_of(shown), end


async def so_far(parley: Parley, generation_id: str, more_than: int) -> str:
    """The text of an answer in progress, as soon as a viewer has more than so many characters of it."""
    text = ""
    async for update in parley.viewer.follow(generation_id):
        text += text_of(update.entries)
        if len(text) > more_than:
            return text
    raise AssertionError(f"the answer has ended: {text!r}")


async def prompt_tokens(parley: Parley, *said: str, tools: bool = True) -> int:
    """Tokens of the prompt that a conversation makes, as the engine counts them; the person speaks first.

    A chat's prompt has Parley's own `tools` in it, a program's has not.
    """
    messages = [Message(("user", "assistant")[at % 2], text) for at, text in enumerate(said)]
    system = Message("system", parley.settings.system_prompt)
    offered = [BUILT_IN[name].definition for name in parley.settings.tool_names] if tools else []
    return await parley.engine.count(parley.settings.default_model, [system, *messages], tools=offered)
