"""The app's figures: a turn is counted as it ended, the log and the routes are timed, nothing private is a label."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from chat_app.data.log.base import Piece, StaleOwner
from chat_app.telemetry.measured_http import MeasuredHttp
from chat_app.telemetry.measured_log import MeasuredLog
from chat_app.telemetry.metrics import REGISTRY, turn_ended
from tests.telemetry.turns import turn


class Change:
    """How much a figure has grown since it was looked at first."""

    def __init__(self) -> None:
        self._before: dict[str, float] = {}

    def of(self, name: str, **labels: str) -> float:
        now = REGISTRY.get_sample_value(name, labels) or 0.0
        return now - self._before.setdefault(name + str(labels), now)


@pytest.fixture
def change() -> Iterator[Change]:
    yield Change()


def test_a_turn_is_counted_as_it_ended(change: Change) -> None:
    model = {"model": "m-turn"}
    looked_at = [
        ("parley_turns_total", {"status": "done", "source": "api", **model}, 1),
        ("parley_tokens_total", {"kind": "prompt", **model}, 40),
        ("parley_tokens_total", {"kind": "completion", **model}, 120),
        ("parley_tokens_total", {"kind": "cached", **model}, 16),
        ("parley_cost_micro_total", model, 160),
        ("parley_ttft_seconds_count", model, 1),
        ("parley_ttft_seconds_sum", model, 0.15),
        ("parley_turn_seconds_sum", model, 1.5),
        ("parley_tokens_per_second_sum", model, 90.5),
        ("parley_takeovers_total", {}, 0),
        ("parley_refusals_total", {"stage": "input", "category": "secret"}, 0),
    ]
    for name, labels, _ in looked_at:
        change.of(name, **labels)
    turn_ended(turn(model="m-turn", source="api"))
    for name, labels, grown in looked_at:
        assert change.of(name, **labels) == pytest.approx(grown), name


def test_refused_and_taken_over_turns(change: Change) -> None:
    refused = {"stage": "input", "category": "secret"}
    for name, labels in (("parley_refusals_total", refused), ("parley_takeovers_total", {})):
        change.of(name, **labels)
    missing = {"queue_ms": None, "ttft_ms": None, "total_ms": None, "tokens_per_s": None}
    turn_ended(turn(status="refused", refused_stage="input", refused_category="secret", **missing))
    turn_ended(turn(attempts=2))
    assert change.of("parley_refusals_total", **refused) == 1
    assert change.of("parley_takeovers_total") == 1


def test_people_are_no_labels() -> None:
    turn_ended(turn(user_id="somebody-in-particular", tenant="a-certain-tenant"))
    published = generate_latest(REGISTRY).decode()
    assert "somebody" not in published and "a-certain-tenant" not in published
    assert "parley_build_info{" in published and "process_resident_memory_bytes" in published


class ScriptedLog:
    """A log whose appends take a while and whose tail has two pieces."""

    durable = True

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.closed_tails = 0

    async def append(self, generation: str, fence: int, offset: int, text: str) -> None:
        self.calls.append((generation, fence, offset, text))
        if fence < 0:
            raise StaleOwner
        await asyncio.sleep(0.01)

    async def tail(self, generation: str, offset: int = 0) -> AsyncIterator[Piece]:
        try:
            yield Piece(offset, "a")
            yield Piece(offset + 1, "b", "done")
        finally:
            self.closed_tails += 1


async def test_appends_are_timed_and_passed_on(change: Change) -> None:
    change.of("parley_log_flush_seconds_sum")
    change.of("parley_log_flush_seconds_count")
    behind = ScriptedLog()
    log = MeasuredLog(behind)  # type: ignore[arg-type]
    await log.append("g", 1, 0, "text")
    with pytest.raises(StaleOwner):
        await log.append("g", -1, 4, "more")
    assert behind.calls == [("g", 1, 0, "text"), ("g", -1, 4, "more")]
    assert log.durable
    assert change.of("parley_log_flush_seconds_count") == 1
    assert 0.01 <= change.of("parley_log_flush_seconds_sum") < 5


async def test_viewers_are_counted_while_they_follow() -> None:
    behind = ScriptedLog()
    log = MeasuredLog(behind)  # type: ignore[arg-type]
    before = REGISTRY.get_sample_value("parley_viewers")
    assert before is not None
    tail = log.tail("g", 3)
    assert (await anext(tail)).offset == 3
    assert REGISTRY.get_sample_value("parley_viewers") == before + 1
    await tail.aclose()  # type: ignore[attr-defined]
    assert behind.closed_tails == 1
    assert [piece.text async for piece in log.tail("g")] == ["a", "b"]
    assert REGISTRY.get_sample_value("parley_viewers") == before


def test_routes_are_templates(change: Change) -> None:
    async def view(request: Request) -> Response:
        return PlainTextResponse(request.path_params["id"])

    async def broken(_: Request) -> Response:
        raise RuntimeError

    routes = [Route("/v1/generations/{id}", view), Route("/broken", broken)]
    client = TestClient(MeasuredHttp(Starlette(routes=routes)), raise_server_exceptions=False)
    asked = [
        ("GET", "/v1/generations/secret-id", "/v1/generations/{id}", "200"),
        ("GET", "/broken", "/broken", "500"),
        ("GET", "/somebody@example.org", "unmatched", "404"),
    ]
    for method, _, route, status in asked:
        change.of("parley_http_requests_total", method=method, route=route, status=status)
    for method, path, route, status in asked:
        assert client.request(method, path).status_code == int(status)
        assert change.of("parley_http_requests_total", method=method, route=route, status=status) == 1
    client.request("STRANGE", "/broken")
    published = generate_latest(REGISTRY).decode()
    assert "secret-id" not in published and "example.org" not in published and "STRANGE" not in published


def test_what_is_mounted_beside_the_routes_is_one_figure(change: Change) -> None:
    async def page(_: Request) -> Response:
        return PlainTextResponse("a page")

    mounted = Mount("", app=Starlette(routes=[Mount("", app=PlainTextResponse("a file"))]))
    client = TestClient(MeasuredHttp(Starlette(routes=[Route("/v/{v}", page), mounted])))
    change.of("parley_http_requests_total", method="GET", route="pages", status="200")
    change.of("parley_http_requests_total", method="GET", route="/v/{v}", status="200")
    for path in ("/c/secret-thread", "/", "/v/v"):
        assert client.get(path).status_code == 200
    assert change.of("parley_http_requests_total", method="GET", route="pages", status="200") == 2
    assert change.of("parley_http_requests_total", method="GET", route="/v/{v}", status="200") == 1
    assert "secret-thread" not in generate_latest(REGISTRY).decode()
