"""Parley on PostgreSQL and Valkey with a proxy before each of its servers."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from pydantic import SecretStr

from chat_app.settings import Settings
from chat_app.wiring import Parley, lifespan
from tests.faults.proxy import FaultProxy


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
async def fleet(tmp_path: Path, postgres_url: str, redis_url: str, scripted_engine: str) -> AsyncIterator[Proxied]:
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(FaultProxy(_port(postgres_url)))
        log = await stack.enter_async_context(FaultProxy(_port(redis_url)))
        engine = await stack.enter_async_context(CountingProxy(_port(scripted_engine)))
        settings = Settings(
            home=tmp_path / "home",
            database_url=SecretStr(_at(postgres_url, database.port)),
            redis_url=SecretStr(_at(redis_url, log.port)),
            inference_url=_at(scripted_engine, engine.port),
            inference_key=SecretStr("engine-key"),
            default_model="scripted",
            export_minutes=0,
        )
        parley = await stack.enter_async_context(lifespan(settings))
        yield Proxied(parley, database, log, engine)
        for proxy in (database, log, engine):
            proxy.mode = "pass"


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def _at(url: str, port: int) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{port}"))
