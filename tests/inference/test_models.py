"""Several models in one service: loaded, unloaded and switched while others go on, and brought back when they die."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from inference import models as models_module
from inference.catalog import Model
from inference.engines.base import Capabilities, Engine
from inference.engines.scripted import ScriptedEngine, scripted_text
from inference.models import Models
from inference.protocol import (
    Chunk,
    Damaged,
    EngineDied,
    EngineError,
    ModelNotFound,
    Overloaded,
    Request,
    TooLittleMemory,
)
from tests.inference.conftest import request, script, text_of, until

GB = 10**9


class Fleeting(ScriptedEngine):
    """A scripted engine that takes some time to load, can be killed, and keeps a diary."""

    def __init__(self, model: str, diary: list[str]) -> None:
        super().__init__(model, slots=2)
        self.diary = diary
        self.healed: int | None = None

    async def load(self) -> None:
        await asyncio.sleep(0.02)
        self.diary.append(f"load {self.capabilities.model}")
        await super().load()

    async def unload(self) -> None:
        self.diary.append(f"unload {self.capabilities.model}")
        await super().unload()

    def die(self) -> None:
        self._loaded = False

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, healed=self.healed)


class House:
    """Three models, with as much memory as a test says: each takes one GB."""

    def __init__(self, free: float = 100.0, **options: Any) -> None:
        self.diary: list[str] = []
        self.engines: dict[str, Fleeting] = {}
        self.fails: dict[str, EngineError] = {}
        self._gigabytes = free
        known = [Model(id, engine="scripted", **options) for id in ("a", "b", "c")]
        self.models = Models(known, self.engine, needs=lambda model: GB, free=self.free)

    async def engine(self, model: Model, tell: Callable[[float], None]) -> Engine:
        tell(0.5)
        if error := self.fails.get(model.id):
            raise error
        made = self.engines[model.id] = Fleeting(model.id, self.diary)
        return made

    def free(self) -> int:
        loaded = sum(engine._loaded for engine in self.engines.values())
        return int((self._gigabytes - loaded) * GB)

    def states(self) -> str:
        return " ".join(str(one["state"]) for one in self.models.status()["models"])

    async def ask(self, model: str, **directive: Any) -> list[Chunk]:
        return [chunk async for chunk in self.models.stream(self.asked(model, **directive))]

    def asked(self, model: str, **directive: Any) -> Request:
        return request(script(**directive), model, max_tokens=1000)


@pytest.fixture
async def house(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., House]]:
    monkeypatch.setattr(models_module, "CHECK_S", 0.02)
    made: list[House] = []

    def build(**options: Any) -> House:
        made.append(House(**options))
        return made[-1]

    yield build
    for one in made:
        await one.models.close()


async def test_a_model_is_loaded_when_somebody_asks_for_it_and_once(house: Callable[..., House]) -> None:
    home = house()
    await home.models.start()
    assert home.states() == "ready unloaded unloaded"
    answers = await asyncio.gather(*(home.ask("b", tokens=4) for _ in range(5)))
    assert {text_of(answer) for answer in answers} == {scripted_text({"tokens": 4})}
    assert home.diary == ["load a", "load b"]
    assert home.states() == "ready ready unloaded"
    with pytest.raises(ModelNotFound, match="only 'a', 'b', 'c'"):
        await home.ask("d")


async def test_others_go_on_while_one_is_loaded_and_unloaded(house: Callable[..., House]) -> None:
    home = house()
    await home.models.start()
    going_on = asyncio.create_task(home.ask("a", tokens=60, rate=400))
    for _ in range(3):
        await home.models.load("b")
        await home.models.unload("b")
    assert not going_on.done()
    assert text_of(await going_on) == scripted_text({"tokens": 60})


async def test_what_runs_ends_before_its_model_is_unloaded(house: Callable[..., House]) -> None:
    home = house()
    await home.models.start()
    running = asyncio.create_task(home.ask("a", tokens=40, rate=400))
    await until(lambda: home.models.hosted("a").running == 1)
    unloading = asyncio.create_task(home.models.unload("a"))
    await until(lambda: home.states().startswith("draining"))
    with pytest.raises(Overloaded, match="unloaded"):
        await home.ask("a", tokens=1)
    assert text_of(await running) == scripted_text({"tokens": 40})
    await unloading
    assert home.states().startswith("off")
    with pytest.raises(ModelNotFound, match="switched off"):
        await home.ask("a", tokens=1)
    await home.models.load("a")
    assert await home.ask("a", tokens=1)


async def test_draining_has_an_end(house: Callable[..., House]) -> None:
    home = house()
    await home.models.start()
    running = asyncio.create_task(home.ask("a", tokens=1000, rate=50))
    await until(lambda: home.models.hosted("a").running == 1)
    await home.models.unload("a", drain_s=0.05)
    assert home.diary == ["load a", "unload a"]
    running.cancel()


async def test_a_switch_ends_all_others_first(house: Callable[..., House]) -> None:
    home = house()
    await home.models.start()
    await home.models.load("c")
    await home.models.unload("c")
    await home.models.load("b", switch=True)
    assert home.diary == ["load a", "load c", "unload c", "unload a", "load b"]
    assert home.states() == "unloaded ready off"


async def test_many_loads_and_unloads_at_once_leave_one_truth(house: Callable[..., House]) -> None:
    home = house()
    await home.models.start()
    work = [home.models.load("b"), home.models.unload("b"), home.models.load("c", switch=True), home.ask("b", tokens=2)]
    for result in await asyncio.gather(*work * 5, return_exceptions=True):
        assert result is None or isinstance(result, list | Overloaded | ModelNotFound), result
    loads = {model: home.diary.count(f"load {model}") - home.diary.count(f"unload {model}") for model in "abc"}
    assert set(loads.values()) <= {0, 1}
    states = dict(zip("abc", home.states().split(), strict=True))
    assert {model for model, count in loads.items() if count} == {m for m, state in states.items() if state == "ready"}


async def test_who_was_idle_longest_makes_room(house: Callable[..., House]) -> None:
    home = house(free=2.5)
    await home.models.start()
    await home.ask("b", tokens=1)
    await home.ask("a", tokens=1)
    await home.ask("c", tokens=1)
    assert home.states() == "ready unloaded ready"
    await home.ask("b", tokens=1)
    assert home.states() == "unloaded ready ready"


async def test_who_is_at_work_does_not_make_room(house: Callable[..., House]) -> None:
    home = house(free=1.5)
    await home.models.start()
    running = asyncio.create_task(home.ask("a", tokens=60, rate=400))
    await until(lambda: home.models.hosted("a").running == 1)
    with pytest.raises(Overloaded, match=r"1\.0 GB of memory, 0\.5 GB are free, and a is at work"):
        await home.ask("b", tokens=1)
    assert text_of(await running) == scripted_text({"tokens": 60})
    await home.ask("b", tokens=1)
    assert home.states() == "unloaded ready unloaded"


async def test_a_model_that_never_fits_is_refused(house: Callable[..., House]) -> None:
    home = house(free=0.5)
    with pytest.raises(TooLittleMemory, match=r"takes about 1\.0 GB of memory, 0\.5 GB are free"):
        await home.models.start()
    assert home.states().startswith("failed")


async def test_a_model_nobody_asks_for_any_more_is_unloaded(house: Callable[..., House]) -> None:
    home = house(idle_s=0.05)
    await home.models.start()
    running = asyncio.create_task(home.ask("b", tokens=80, rate=400))
    await until(lambda: home.states() == "unloaded ready unloaded")
    assert await home.models.healthy()
    assert text_of(await running) == scripted_text({"tokens": 80})
    await until(lambda: home.states() == "unloaded unloaded unloaded")
    assert await home.ask("a", tokens=1)


async def test_what_cannot_be_loaded_says_why_and_is_tried_again(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = house()
    await home.models.start()
    home.fails["b"] = Damaged("the file of b is damaged")
    for _ in range(2):
        with pytest.raises(Damaged, match="the file of b is damaged"):
            await home.ask("b", tokens=1)
    assert home.states() == "ready failed unloaded"
    home.fails.clear()
    with pytest.raises(Damaged):  # It is not tried at every request.
        await home.ask("b", tokens=1)
    monkeypatch.setattr(models_module, "RETRY_S", 0.0)
    assert await home.ask("b", tokens=1)
    assert await home.ask("a", tokens=1)


async def test_an_engine_that_died_is_brought_back(house: Callable[..., House]) -> None:
    home = house()
    await home.models.start()
    await home.models.load("b")
    with pytest.raises(EngineDied):
        home.engines["a"].die()
        await home.ask("a", drop_at=0)
    await until(lambda: home.models.status()["restarts"] == 1)
    assert text_of(await home.ask("a", tokens=3)) == scripted_text({"tokens": 3})
    assert home.diary == ["load a", "load b", "unload a", "load a"]
    assert b'parley_inference_restarts_total{model="a"} 1.0' in home.models.exposition()


async def test_an_engine_that_brings_itself_back_is_counted_and_left_alone(house: Callable[..., House]) -> None:
    home = house()
    await home.models.start()
    engine = home.engines["a"]
    engine.die()
    engine.healed = 0
    await asyncio.sleep(0.2)
    engine.healed = 2
    await until(lambda: home.models.status()["restarts"] == 2)
    assert home.diary == ["load a"]


async def test_an_engine_that_hangs_is_brought_back_even_if_nobody_asks(house: Callable[..., House]) -> None:
    home = house()
    await home.models.start()
    home.engines["a"].die()
    await until(lambda: home.diary == ["load a", "unload a", "load a"])


async def test_an_answer_that_breaks_off_is_no_reason_to_load_again(house: Callable[..., House]) -> None:
    home = house()
    await home.models.start()
    with pytest.raises(EngineDied):
        await home.ask("a", tokens=9, drop_at=2)
    began = time.monotonic()
    await until(lambda: time.monotonic() - began > 0.1)
    assert home.diary == ["load a"]


async def test_a_model_that_is_switched_off_while_it_is_looked_after_stays_off(house: Callable[..., House]) -> None:
    home = house()
    await home.models.start()
    asked, answered = asyncio.Event(), asyncio.Event()

    async def health() -> bool:
        asked.set()
        await answered.wait()
        return False

    home.models.hosted("a").strikes = models_module.STRIKES - 1
    home.engines["a"].health = health  # type: ignore[method-assign]
    await asked.wait()
    await home.models.unload("a")
    answered.set()
    await asyncio.sleep(0.1)
    assert home.states().startswith("off")
    assert home.diary == ["load a", "unload a"]


async def test_one_that_died_does_not_make_others_suspect(house: Callable[..., House]) -> None:
    home = house()
    await home.models.start()
    await home.models.load("b")
    failed = 0

    async def health() -> bool:
        nonlocal failed
        failed += 1
        return failed > 1

    home.engines["b"].health = health  # type: ignore[method-assign]
    home.engines["a"].die()
    with pytest.raises(EngineDied):
        await home.ask("a", drop_at=0)
    await until(lambda: failed > 1 and home.states() == "ready ready unloaded")
    assert home.diary == ["load a", "load b", "unload a", "load a"]


async def test_the_default_model_is_tried_again_though_nobody_can_ask_for_it(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models_module, "RETRY_S", 0.05)
    home = house()
    await home.models.start()
    home.fails["a"] = EngineError("the disk is slow today")
    home.engines["a"].die()
    await until(lambda: home.states().startswith("failed"))
    assert not await home.models.healthy()
    home.fails.clear()
    await until(lambda: home.states().startswith("ready"))


async def test_an_error_that_nobody_foresaw_is_raised_as_an_engines(house: Callable[..., House]) -> None:
    home = house()
    await home.models.start()
    home.fails["b"] = ZeroDivisionError("oh")  # type: ignore[assignment]
    for _ in range(2):
        with pytest.raises(EngineError, match="b could not be loaded: oh"):
            await home.ask("b", tokens=1)


async def test_nobody_idle_goes_where_that_would_not_be_enough(house: Callable[..., House]) -> None:
    home = house(free=2.5)
    await home.models.start()
    await home.ask("b", tokens=1)
    running = asyncio.create_task(home.ask("a", tokens=60, rate=400))
    await until(lambda: home.models.hosted("a").running == 1)
    home._gigabytes = 1.5  # Somebody else has taken one.
    with pytest.raises(Overloaded, match="and a is at work"):
        await home.ask("c", tokens=1)
    assert home.states() == "ready ready unloaded"
    await running
