"""Services to test against: real processes with each engine, and scripted ones inside the test's own process."""

import asyncio
import json
import os
import secrets
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from inference import catalog
from inference.catalog import Model
from inference.client import InferenceClient
from inference.engines.base import Engine
from inference.engines.exllama import v2
from inference.engines.scripted import ScriptedEngine
from inference.models import Models
from inference.pool import Pool
from inference.protocol import Chunk, EngineError, Message, Request, Sampling
from inference.server import application
from tests.inference import exllama_double

KEY = "test-key"
SMOLLM = "smollm2-135m-instruct"
EMPTY_GGUF = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)
STORY = "Write a long story about a ship and its crew."


@dataclass(slots=True)
class Live:
    """A running service. `kind` is whose answers it gives, `long` a question that takes it seconds to answer, `engine`
    what it says of itself: the kind, or that it has them from elsewhere."""

    url: str
    model: str
    kind: str
    long: str
    engine: str = ""

    def __post_init__(self) -> None:
        self.engine = self.engine or self.kind

    def client(self, **options: Any) -> InferenceClient:
        return InferenceClient(self.url, KEY, **options)

    async def status(self) -> dict[str, Any]:
        async with aiohttp.ClientSession() as http:
            answer = await http.get(f"{self.url}/status", headers={"Authorization": f"Bearer {KEY}"})
            return dict(await answer.json())


@dataclass(frozen=True, slots=True)
class Foreign:
    """Somebody else's server, and the key to it."""

    url: str
    key: str


def request(text: str, model: str = "scripted", **sampling: Any) -> Request:
    """A question at temperature 0."""
    continue_from = sampling.pop("continue_from", "")
    chosen = Sampling(**{"max_tokens": 40, "temperature": 0.0, "seed": 1, **sampling})
    return Request(model, (Message("user", text),), chosen, continue_from=continue_from)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.005)


def script(**directive: Any) -> str:
    return json.dumps({"script": directive})


async def collect(client: InferenceClient, asked: Request) -> list[Chunk]:
    return [chunk async for chunk in client.stream(asked)]


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


def spawn(folder: Path, *flags: str, timeout: float = 60.0) -> tuple["subprocess.Popen[bytes]", str]:
    """`python -m inference` as a child, and its address once it is warm."""
    file, log = folder / "address.json", folder / "engine.log"
    (folder / "key").write_text(KEY)
    command = [sys.executable, "-m", "inference", "--address-file", str(file), "--key-file", str(folder / "key")]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*command, "--parent-pipe", *flags], stdin=subprocess.PIPE, stdout=output, stderr=output
        )
    deadline = time.monotonic() + timeout
    while not file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(log.read_text())
        time.sleep(0.02)
    return process, str(json.loads(file.read_text())["url"])


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The bundled model, for real."""
    process, url = spawn(tmp_path_factory.mktemp("llama"))
    yield Live(url, SMOLLM, "llama_cpp", STORY)
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The scripted engine in its own process, with as few slots as the real one."""
    process, url = spawn(tmp_path_factory.mktemp("scripted"), "--engine", "scripted", "--slots", "8")
    yield Live(url, "scripted", "scripted", script(tokens=400, rate=40))
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def llama_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    """llama.cpp's own server with the bundled model, in its own process: somebody else's, but real."""
    folder = tmp_path_factory.mktemp("llama_server")
    file, log, key = folder / "address", folder / "server.log", secrets.token_hex(16)
    _, path = catalog.find(SMOLLM, folder)
    command = [sys.executable, "-m", "tests.inference.llama_server", str(path), SMOLLM, str(file)]
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output)
    assert process.stdin is not None
    process.stdin.write(f"{key}\n".encode())
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(log.read_text(errors="replace")[-4_000:])
        time.sleep(0.02)
    yield Foreign(file.read_text(), key)
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def remote_scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The remote engine in front of our own service, both processes. It sends to many more slots than it has."""
    behind, there = spawn(tmp_path_factory.mktemp("behind"), "--engine", "scripted")
    folder = tmp_path_factory.mktemp("remote_scripted")
    process, url = spawn(folder, *remote_flags(folder, Foreign(there, KEY)))
    yield Live(url, "scripted", "scripted", script(tokens=400, rate=40), "remote")
    for child in (process, behind):
        child.kill()
        child.wait()


@pytest.fixture(scope="session")
def remote_llama(tmp_path_factory: pytest.TempPathFactory, llama_server: Foreign) -> Iterator[Live]:
    """The remote engine in front of llama.cpp's own server, both processes."""
    folder = tmp_path_factory.mktemp("remote_llama")
    process, url = spawn(folder, *remote_flags(folder, llama_server))
    yield Live(url, SMOLLM, "llama_cpp", STORY, "remote")
    process.kill()
    process.wait()


def remote_flags(folder: Path, there: Foreign) -> list[str]:
    (folder / "remote-key").write_text(there.key)
    file = str(folder / "remote-key")
    return ["--engine", "remote", "--url", there.url, "--remote-key-file", file, "--slots", "8"]


@pytest.fixture(scope="session")
def exllama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The exllama engine in its own process, with all of its own processes. Only what drives the GPU is a double, which
    says in its file what that does not prove."""
    folder = tmp_path_factory.mktemp("exllama")
    model = exllama_double.model_folder(folder / "doubled")
    double = ("--generator", exllama_double.GENERATOR)
    process, url = spawn(folder, "--engine", "exllama", "--model", str(model), "--slots", "8", *double)
    yield Live(url, "doubled", "scripted", script(tokens=400, rate=40), "exllama")
    process.kill()
    process.wait()


def no_gpu() -> str:
    """Why nothing can be run on a GPU here; empty if it can."""
    if not os.environ.get("PARLEY_GPU_MODEL"):
        return "PARLEY_GPU_MODEL names no model for a GPU"
    try:
        v2.packages()
    except EngineError as error:
        return str(error)
    return ""


@pytest.fixture(scope="session")
def exllama_gpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The exllama engine with the model that PARLEY_GPU_MODEL names."""
    if why := no_gpu():
        pytest.skip(why)
    folder, model = tmp_path_factory.mktemp("exllama_gpu"), Path(os.environ["PARLEY_GPU_MODEL"])
    process, url = spawn(folder, "--engine", "exllama", "--model", str(model), "--slots", "8", timeout=600)
    yield Live(url, model.name.lower(), "exllama", STORY)
    process.kill()
    process.wait()


MODEL = pytest.mark.model
SUBJECTS = [
    "scripted",
    "remote_scripted",
    pytest.param("exllama", id="exllama_double"),
    pytest.param("llama", marks=MODEL),
    pytest.param("remote_llama", marks=MODEL),
]
if os.environ.get("PARLEY_GPU_MODEL"):
    SUBJECTS.append(pytest.param("exllama_gpu", marks=pytest.mark.gpu))


@pytest.fixture(params=SUBJECTS)
def live(request: pytest.FixtureRequest) -> Live:
    """Every engine in turn: the conformance suite's subject."""
    found: Live = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def client(live: Live) -> AsyncIterator[InferenceClient]:
    made = live.client()
    yield made
    await made.close()


StartService = Callable[..., Awaitable[tuple[Models, str]]]


@pytest.fixture
async def start_service() -> AsyncIterator[StartService]:
    """Starts a service on a scripted engine inside this process, and returns it with its address."""
    async with AsyncExitStack() as stack:

        async def start(
            *, key: str = "", queue_limit: int = 256, load: bool = True, engine: Engine | None = None, **scripted: Any
        ) -> tuple[Models, str]:
            models = hosting(engine or ScriptedEngine(**scripted), queue_limit)
            stack.push_async_callback(models.close)
            if load:
                await models.start()
            return models, await _serve(stack, application(models, key))

        yield start


class Slow(ScriptedEngine):
    """A scripted engine that is not loaded before it is `let` to be."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()

    async def load(self) -> None:
        await self.let.wait()
        await super().load()


def hosting(engine: Engine, queue_limit: int = 256) -> Models:
    """The models of a service that has this one engine."""

    async def had(*_: object) -> Engine:
        return engine

    return Models([Model(engine.capabilities.model, engine="scripted")], had, queue_limit)


Serve = Callable[[web.Application], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves a web application in this process, and returns its address."""
    async with AsyncExitStack() as stack:

        async def start(app: web.Application) -> str:
            return await _serve(stack, app)

        yield start


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
StartServer = Callable[[Handler], Awaitable[str]]
MakePool = Callable[..., Pool]


@pytest.fixture
async def start_server() -> AsyncIterator[StartServer]:
    """Serves one handler at every path: somebody else's server."""
    async with AsyncExitStack() as stack:

        async def start(handler: Handler) -> str:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", handler)
            return await _serve(stack, app)

        yield start


async def _serve(stack: AsyncExitStack, app: web.Application) -> str:
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.2)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}"


@pytest.fixture
async def make_pool() -> AsyncIterator[MakePool]:
    async with AsyncExitStack() as stack:

        def make(*urls: str) -> Pool:
            made = Pool(urls)
            stack.push_async_callback(made.close)
            return made

        yield make
