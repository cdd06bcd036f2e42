"""What operators' programs ask, and who may."""

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from chat_app.announcement import announce
from chat_app.data.db.base import DatabaseUnavailable
from inference.protocol import EngineDied
from inference.supervisor import Supervisor
from tests.gateway.served import Served, served_by
from tests.parley import StartParley


async def get(served: Served, path: str, **headers: str) -> tuple[int, Any]:
    async with served.http.get(served.url + path, headers=headers) as response:
        json = response.content_type == "application/json"
        return response.status, await (response.json() if json else response.text())


async def test_alive_and_ready(served_anywhere: Served) -> None:
    assert await get(served_anywhere, "/healthz") == (200, {"status": "ok"})
    status, state = await get(served_anywhere, "/readyz")
    assert status == 200
    assert state == {"status": "ok", "database": "ok", "log": "ok", "leases": "ok", "engine": "ok"}


async def test_without_an_engine_it_is_degraded_without_storage_failing(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object) -> object:
        raise DatabaseUnavailable("secret address 10.0.0.5")

    monkeypatch.setattr(served.parley.client, "models", gone)
    status, state = await get(served, "/readyz")
    assert (status, state["status"], state["engine"]) == (200, "degraded", "DatabaseUnavailable")
    monkeypatch.setattr(served.parley.db, "query", gone)
    status, state = await get(served, "/readyz")
    assert (status, state["status"], state["database"]) == (503, "failing", "DatabaseUnavailable")
    assert "10.0.0.5" not in str(state)


@pytest.fixture
async def loading(start_parley: StartParley, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Served, Event]]:
    """A Parley with an engine of its own, which is not heard of before the event is set."""
    warm, announced = Event(), Supervisor._announced
    monkeypatch.setattr(Supervisor, "_announced", lambda own: announced(own) if warm.is_set() else ("", None))
    async with served_by(await start_parley(inference_url="", inference_engine="scripted")) as served:
        yield served, warm


async def test_an_engine_that_loads_its_model_is_starting(loading: tuple[Served, Event]) -> None:
    served, warm = loading
    assert served.parley.supervisor is not None
    status, state = await get(served, "/readyz")
    assert (status, state["status"], state["engine"]) == (200, "starting", "starting")
    warm.set()
    await served.parley.supervisor.ready(30)
    status, state = await get(served, "/readyz")
    assert (status, state["status"], state["engine"], state["engine_process"]) == (200, "ok", "ok", "ready")
    served.parley.supervisor.state, served.parley.supervisor._url = "restarting", ""
    _, state = await get(served, "/readyz")
    assert (state["status"], state["engine"]) == ("degraded", "EngineDied")


async def test_an_engine_that_gets_ready_while_it_is_asked_was_starting(
    loading: tuple[Served, Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    served, _ = loading
    supervisor = served.parley.supervisor
    assert supervisor is not None

    async def models() -> object:
        supervisor.state = "ready"
        raise EngineDied("the engine is not running yet")

    monkeypatch.setattr(served.parley.client, "models", models)
    _, state = await get(served, "/readyz")
    assert (state["status"], state["engine"]) == ("starting", "starting")


def announcing(served: Served, **options: Any) -> Coroutine[Any, Any, None]:
    port = urlsplit(served.url).port
    return asyncio.to_thread(announce, "127.0.0.1", port, "http://chat", **{"lives": lambda: True, **options})


async def test_it_is_announced_with_its_engine(
    loading: tuple[Served, Event], capsys: pytest.CaptureFixture[str]
) -> None:
    served, warm = loading
    said = asyncio.create_task(announcing(served))
    while "engine" not in (printed := capsys.readouterr().out):
        await asyncio.sleep(0.01)
    for _ in range(5):
        await get(served, "/readyz")
    assert "ready" not in printed + capsys.readouterr().out
    warm.set()
    await asyncio.wait_for(said, 30)
    assert re.fullmatch(r"ready  \([\d.]+ s\)\n\n✓ Parley is ready: http://chat\n", capsys.readouterr().out)


async def test_an_engine_that_takes_too_long_is_said(
    loading: tuple[Served, Event], capsys: pytest.CaptureFixture[str]
) -> None:
    served, _ = loading
    await announcing(served, patience_s=0)
    assert "still loading the model\n\n✓ Parley is ready, and its model will be: http://chat" in capsys.readouterr().out


async def test_what_does_not_work_is_said(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def gone(*_: object) -> object:
        raise DatabaseUnavailable

    monkeypatch.setattr(served.parley.client, "models", gone)
    await announcing(served)
    printed = capsys.readouterr().out
    assert "! Parley responds at http://chat" in printed and "(engine: DatabaseUnavailable)" in printed
    assert "✓" not in printed
    await announcing(served, lives=lambda: False)
    assert capsys.readouterr().out == ""


async def test_without_a_token_nobody_reads_the_figures(served: Served) -> None:
    """A proxy on this machine asks from this machine, and need not say for whom."""
    for headers in ({}, {"X-Forwarded-For": "127.0.0.1"}, {"Authorization": "Bearer "}):
        status, body = await get(served, "/metrics", **headers)
        assert (status, body["error"]["code"]) == (403, "no_metrics_token")


async def test_figures_behind_a_token(served: Served) -> None:
    served.parley.settings = served.parley.settings.model_copy(update={"metrics_token": SecretStr("t0ken")})
    assert (await get(served, "/metrics"))[0] == 401
    assert (await get(served, "/metrics", Authorization="Bearer wrong"))[0] == 401
    status, text = await get(served, "/metrics", Authorization="Bearer t0ken", **{"X-Forwarded-For": "1.2.3.4"})
    assert status == 200 and "# HELP" in text
