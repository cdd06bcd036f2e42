"""Parley on PostgreSQL and Valkey with a proxy before each of its servers; and stores and an engine for a stage."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from bench.faults.replica import Stores
from bench.faults.trouble import EngineHost
from chat_app.data.migrations import migrate
from chat_app.settings import Settings
from chat_app.wiring import Parley, lifespan
from tests.faults.proxy import FaultProxy, at_port, port_of
from tests.servers import free_port


class CountingProxy(FaultProxy):
    """One that counts the answers that an engine is asked for."""

    asked = 0

    async def _forward(self, connection: Any, data: bytes, to: Any) -> None:
        self.asked += data.count(b"POST /v1/chat/completions")
        await super()._forward(connection, data, to)


@dataclass(slots=True)
class Proxied:
    """A Parley, and what lies between it and its servers."""

    parley: Parley
    database: FaultProxy
    log: FaultProxy
    engine: CountingProxy


@pytest.fixture
async def fleet(
    tmp_path: Path, postgres_url: str, redis_url: str, scripted_engine: str, quiet: None
) -> AsyncIterator[Proxied]:
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(FaultProxy(port_of(postgres_url)))
        log = await stack.enter_async_context(FaultProxy(port_of(redis_url)))
        engine = await stack.enter_async_context(CountingProxy(port_of(scripted_engine)))
        settings = Settings(
            home=tmp_path / "home",
            database_url=SecretStr(at_port(postgres_url, database.port)),
            redis_url=SecretStr(at_port(redis_url, log.port)),
            inference_url=at_port(scripted_engine, engine.port),
            inference_key=SecretStr("engine-key"),
            default_model="scripted",
            export_minutes=0,
        )
        parley = await stack.enter_async_context(lifespan(settings))
        yield Proxied(parley, database, log, engine)
        for proxy in (database, log, engine):
            proxy.mode = "pass"


@pytest.fixture(params=["embedded", "fleet"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    home = tmp_path / "home"
    home.mkdir()
    made = Stores(home)
    if request.param == "fleet":
        made = Stores(home, request.getfixturevalue("postgres_url"), request.getfixturevalue("redis_url"))
    else:
        migrate(made.settings("http://127.0.0.1:1"))
    return made


@pytest.fixture
async def engine(stores: Stores, tmp_path: Path) -> AsyncGenerator[EngineHost, None]:
    host = EngineHost(tmp_path, free_port())
    await host.start()
    yield host
    await host.close()
