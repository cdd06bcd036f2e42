"""A Parley over two engines, for tests of turns that have a choice of models."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from chat_app.accounts.identity import Identity
from chat_app.billing.ledger import Rate
from chat_app.data.db.base import Statement
from chat_app.sessions.generations import GenerationView
from chat_app.turn import Started
from chat_app.wiring import Parley
from inference.protocol import Request
from tests.parley import EngineProcess, StartParley, fleet_settings
from tests.servers import free_port

DEAR, CHEAP = Rate(7_000_000, 90_000_000), Rate(1_000_000, 2_000_000)


@dataclass(slots=True)
class Pair:
    """A Parley over two engines, each with a model of its own: `first` is the dear default, `second` its fallback."""

    parley: Parley
    first: EngineProcess
    second: EngineProcess
    asked: list[str]
    """The models that were asked to answer, in order, each once in a row."""

    async def view(self, who: Identity, started: Started) -> GenerationView:
        return await self.parley.generations.view(who, started.generation_id)

    async def models_of_steps(self, started: Started) -> list[str]:
        return [step.model for step in await self.parley.steps.of(started.generation_id) if step.kind == "model"]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[EngineProcess]]:
    """Two engines, which tests may kill."""
    made = []
    for name in ("first", "second"):
        home = tmp_path_factory.mktemp(name)
        made.append(EngineProcess(home, flags=("--model", name, "--port", str(free_port()))))
    yield made
    for engine in made:
        engine.kill()


@pytest.fixture(params=["embedded", "fleet"])
async def pair(
    request: pytest.FixtureRequest,
    start_parley: StartParley,
    engines: list[EngineProcess],
    monkeypatch: pytest.MonkeyPatch,
) -> Pair:
    dead = [engine for engine in engines if engine.process is None or engine.process.poll() is not None]
    await asyncio.gather(*(asyncio.to_thread(engine.start) for engine in dead))
    stores = fleet_settings(request) if request.param == "fleet" else {}
    urls = ",".join(engine.url for engine in engines)
    parley = await start_parley(**stores, inference_url=urls, default_model="first", fallback_models="second")
    for model, rate in (("first", DEAR), ("second", CHEAP)):
        price = (model, rate.prompt_micro, rate.completion_micro)
        await parley.db.batch(
            Statement("INSERT INTO price (model, prompt_micro, completion_micro) VALUES ($1, $2, $3)", price)
        )
    asked, stream = list[str](), parley.client.stream

    def streaming(request: Request, *args):  # type: ignore[no-untyped-def]
        if asked[-1:] != [request.model]:
            asked.append(request.model)
        return stream(request, *args)

    monkeypatch.setattr(parley.client, "stream", streaming)
    return Pair(parley, *engines, asked)
