"""What operators' programs ask, and who may."""

from typing import Any

import pytest
from pydantic import SecretStr

from chat_app.data.db.base import DatabaseUnavailable
from tests.gateway.served import Served


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


async def test_figures_are_for_this_machine(served: Served) -> None:
    status, text = await get(served, "/metrics")
    assert status == 200
    assert "# HELP" in text
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
        status, _ = await get(served, "/metrics", **{header: "127.0.0.1"})
        assert status == 403


async def test_figures_behind_a_token(served: Served) -> None:
    served.parley.settings = served.parley.settings.model_copy(update={"metrics_token": SecretStr("t0ken")})
    assert (await get(served, "/metrics"))[0] == 401
    assert (await get(served, "/metrics", Authorization="Bearer wrong"))[0] == 401
    assert (await get(served, "/metrics", Authorization="Bearer t0ken", **{"X-Forwarded-For": "1.2.3.4"}))[0] == 200
