"""The route in front: what middleware gives every other route, and what becomes of a turn whose program goes away."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import pytest

from chat_app.gateway import completions
from chat_app.gateway.app import api
from chat_app.gateway.completions_route import PATH, CompletionsRoute
from chat_app.gateway.headers import HEADERS
from chat_app.telemetry.metrics import REGISTRY
from chat_app.turn import hold
from chat_app.turn.prepare import Preparation
from tests.gateway.served import Served
from tests.parley import script

SLOW = script(tokens=2_000, rate=50, seed=5)
QUICK = script(tokens=3, rate=0)
BESIDE = "/v1/models"
"""A route of the app behind, with all its middleware."""


def body(question: str = QUICK, **fields: Any) -> bytes:
    return orjson.dumps({"model": "scripted", "messages": [{"role": "user", "content": question}], **fields})


async def answer(served: Served, method: str, path: str, **options: Any) -> tuple[int, dict[str, str], Any]:
    """Status, headers and body; of the headers whose value is another each time only the length."""
    async with served.http.request(method, served.url + path, **options) as response:
        headers = {name.lower(): value for name, value in response.headers.items()}
        headers["x-request-id"] = str(len(headers["x-request-id"]))
        headers.pop("date", None)
        return response.status, headers, await response.json(content_type=None)


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {}),
        ("POST", {"Authorization": "Bearer sk-wrong"}),
        ("POST", {"Authorization": "Basic x"}),
        ("POST", {"Authorization": "Bearer sk-wrong", "X-Request-Id": "my-own-request"}),
    ],
)
async def test_a_refusal_looks_like_every_other_routes(served: Served, method: str, headers: dict[str, str]) -> None:
    here = await answer(served, method, PATH, headers=headers)
    there = await answer(served, "GET", BESIDE, headers=headers)
    assert here == there
    assert here[0] == 401
    assert all(here[1][name.decode()] == value.decode() for name, value in HEADERS)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_are_refused_as_everywhere(served: Served, method: str) -> None:
    status, headers, said = await answer(served, method, PATH, headers=served.bearer)
    there = await answer(served, method if method != "GET" and method != "HEAD" else "POST", BESIDE)
    assert (status, headers["allow"]) == (405, "POST")
    assert set(headers) == set(there[1])
    if method != "HEAD":
        assert said["error"] == {
            "message": f"{method} {PATH}: use POST.",
            "type": "invalid_request_error",
            "param": None,
            "code": "method_not_allowed",
        }


@pytest.mark.parametrize("path", [f"{PATH}/", "/v1//chat/completions", f"/x{PATH}"])
async def test_other_addresses_are_not_this_one(served: Served, path: str) -> None:
    async with served.http.post(served.url + path, data=body(), headers=served.bearer) as response:
        assert response.status == 404


async def test_the_query_does_not_matter(served: Served) -> None:
    status, headers, _ = await answer(served, "POST", f"{PATH}?api-version=1", data=body(), headers=served.bearer)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert all(headers[name.decode()] == value.decode() for name, value in HEADERS)


async def test_a_stream_has_the_headers_too(served: Served) -> None:
    async with served.http.post(
        served.url + PATH, data=body(stream=True), headers={**served.bearer, "X-Request-Id": "my-own-request"}
    ) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["x-request-id"] == "my-own-request"
        assert response.headers["x-ratelimit-limit-requests"] == "60"
        assert all(response.headers[name.decode()] == value.decode() for name, value in HEADERS)
        assert (await response.read()).endswith(b"data: [DONE]\n\n")


async def test_a_declared_body_that_is_too_large_is_refused_unread(served: Served) -> None:
    split = urlsplit(served.url)
    reader, writer = await asyncio.open_connection(split.hostname, split.port)
    writer.write(
        f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {served.bearer['Authorization']}\r\n"
        "Content-Length: 4194305\r\n\r\n".encode()
    )
    said = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).lower()
    assert b" 413 " in said and b"connection: close" in said and b"x-frame-options" in said
    writer.close()


def counted(status: int, method: str = "POST") -> float:
    labels = {"method": method, "route": PATH, "status": str(status)}
    return REGISTRY.get_sample_value("parley_http_requests_total", labels) or 0


def timed() -> float:
    return REGISTRY.get_sample_value("parley_http_seconds_count", {"route": PATH}) or 0


async def test_every_request_is_counted_once(served: Served) -> None:
    before = [counted(200), counted(401), counted(405, "GET"), counted(400), timed()]
    await answer(served, "POST", PATH, data=body(), headers=served.bearer)
    await answer(served, "POST", PATH, data=body(stream=False))
    await answer(served, "GET", PATH)
    await answer(served, "POST", PATH, data=b"{", headers=served.bearer)
    after = [counted(200), counted(401), counted(405, "GET"), counted(400), timed()]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1, 1, 1, 4]


async def test_of_two_keys_the_first_counts(served: Served) -> None:
    split = urlsplit(served.url)
    for keys, status in ((("wrong", served.key), 401), ((served.key, "wrong"), 200)):
        reader, writer = await asyncio.open_connection(split.hostname, split.port)
        lines = "".join(f"Authorization: Bearer {key}\r\n" for key in keys)
        raw = body()
        writer.write(
            f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {len(raw)}\r\n\r\n".encode() + raw
        )
        assert f" {status} ".encode() in await asyncio.wait_for(reader.readuntil(b"\r\n"), 10)
        writer.close()


async def test_what_nobody_foresaw_in_mid_stream_is_its_last_event(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(completions, "ending", broken)
    async with served.http.post(served.url + PATH, data=body(stream=True), headers=served.bearer) as response:
        events = (await response.text()).removesuffix("\n\n").split("\n\n")
    assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "internal_error"
    assert "secret" not in events[-1]


async def test_a_month_that_is_not_known_costs_only_its_headers(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold, "allowance_in", lambda *_: None)  # The commit's acknowledgement was lost.
    status, headers, said = await answer(served, "POST", PATH, data=body(), headers=served.bearer)
    assert (status, said["choices"][0]["finish_reason"]) == (200, "stop")
    assert "x-parley-generation" in headers
    assert [name for name in headers if name.startswith("x-ratelimit")] == ["x-ratelimit-limit-requests"]


# A program that goes away -------------------------------------------------------------------------------------------


async def leave(served: Served, data: bytes, *, after: float = 0.0, headers: str = "") -> None:
    """Send a request over a socket of our own and close it, without a word, `after` so many seconds."""
    split = urlsplit(served.url)
    _, writer = await asyncio.open_connection(split.hostname, split.port)
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {served.bearer['Authorization']}\r\n{headers}"
    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    await writer.drain()
    await asyncio.sleep(after)
    writer.transport.abort()


async def rows(served: Served) -> dict[str, str]:
    """Every generation and its status, once nothing runs any more."""
    async with asyncio.timeout(10):
        while True:
            found = await served.parley.db.query("SELECT id, status FROM generation")
            if served.parley.ownership.running == 0 and all(row["status"] not in ACTIVE for row in found):
                return {row["id"]: row["status"] for row in found}
            await asyncio.sleep(0.02)


ACTIVE = ("queued", "streaming")


@asynccontextmanager
async def held_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Event]:
    """Turns wait in their preparation until the block ends; the event is set once one does."""
    choose, waits, go_on = Preparation.choose, asyncio.Event(), asyncio.Event()

    async def slow(*args: Any) -> Any:
        waits.set()
        await go_on.wait()
        return await choose(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Preparation, "choose", slow)
        yield waits
        go_on.set()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("stream", [True, False])
async def test_who_leaves_while_the_turn_is_prepared_stops_it(
    served: Served, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = counted(499)
    async with held_up(served, monkeypatch) as waits:
        leaving = asyncio.create_task(leave(served, body(SLOW, stream=stream), after=0.1))
        await asyncio.wait_for(waits.wait(), 10)
        await leaving
        async with asyncio.timeout(10):
            while counted(499) == gone:
                await asyncio.sleep(0.01)
    assert set((await rows(served)).values()) <= {"stopped"}
    month = await served.parley.ledger.allowance(served.who.user_id, None)
    assert month.held == 0
    assert month.used < 500


async def test_who_leaves_detached_while_the_turn_is_prepared_has_it_go_on(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with held_up(served, monkeypatch) as waits:
        leaving = asyncio.create_task(leave(served, body(), after=0.1, headers="X-Parley-Detach: True\r\n"))
        await asyncio.wait_for(waits.wait(), 10)
        await leaving
        await asyncio.sleep(0.1)
    async with asyncio.timeout(10):
        while not (found := await rows(served)):
            await asyncio.sleep(0.02)
    assert list(found.values()) == ["done"]


@pytest.mark.parametrize("stream", [True, False])
async def test_who_leaves_without_a_word_stops_the_answer(
    served: Served, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    await leave(served, body(SLOW, stream=stream), after=0.3)
    assert list((await rows(served)).values()) == ["stopped"]
    assert "unforeseen" not in caplog.text


async def test_a_body_that_breaks_off_begins_nothing(served: Served) -> None:
    split = urlsplit(served.url)
    before = counted(499)
    _, writer = await asyncio.open_connection(split.hostname, split.port)
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {served.bearer['Authorization']}\r\n"
    writer.write(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.close()
    async with asyncio.timeout(10):
        while counted(499) == before:
            await asyncio.sleep(0.01)
    assert await rows(served) == {}


@pytest.mark.parametrize("path", [PATH, "/auth/login"])
async def test_a_body_that_never_ends_is_refused(served: Served, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat_app.gateway.edge.BODY_S", 0.2)
    split = urlsplit(served.url)
    reader, writer = await asyncio.open_connection(split.hostname, split.port)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {served.bearer['Authorization']}\r\n"
    writer.write(f"{head}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\n{{".encode())
    said = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert b" 408 " in said
    writer.close()
    assert await rows(served) == {}


async def test_a_key_that_is_revoked_while_the_body_comes_is_none(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_app.gateway.completions_route.MOMENT_S", 0.0)
    grant, looked = type(served.parley.accounts).grant, asyncio.Event()

    async def watched(*args: Any) -> Any:
        found = await grant(*args)
        looked.set()
        return found

    monkeypatch.setattr(type(served.parley.accounts), "grant", watched)
    split, raw = urlsplit(served.url), body()
    reader, writer = await asyncio.open_connection(split.hostname, split.port)
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {served.bearer['Authorization']}\r\n"
    writer.write(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw[:10])
    await asyncio.wait_for(looked.wait(), 10)
    [key] = await served.parley.accounts.keys(served.who.user_id)
    await served.parley.accounts.revoke_key(served.who.user_id, key.id)
    writer.write(raw[10:])
    assert b" 401 " in await asyncio.wait_for(reader.readuntil(b"\r\n"), 10)
    writer.close()
    assert await rows(served) == {}


async def test_a_key_is_looked_up_once_where_the_body_comes_at_once(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_app.gateway.completions_route.MOMENT_S", 60.0)
    by_key, looked = type(served.parley.accounts).by_key, 0

    async def counted(*args: Any) -> Any:
        nonlocal looked
        looked += 1
        return await by_key(*args)

    monkeypatch.setattr(type(served.parley.accounts), "by_key", counted)
    async with httpx.AsyncClient(headers=served.bearer) as client:
        assert (await client.post(f"{served.url}{PATH}", content=body())).status_code == 200
    assert looked == 1


class Cancelled:
    """A request of a server that ends the task together with the connection, and again while that is being seen to."""

    def __init__(self, served: Served, headers: dict[str, str], question: str = SLOW) -> None:
        raw = [(name.lower().encode(), value.encode()) for name, value in {**served.bearer, **headers}.items()]
        self._scope = {"type": "http", "method": "POST", "path": PATH, "headers": raw}
        self._app = CompletionsRoute(api(lambda: served.parley), lambda: served.parley)
        self.sent = 0
        self._said = [{"type": "http.request", "body": body(question, stream=True), "more_body": False}]

    async def _receive(self) -> Any:
        if self._said:
            return self._said.pop()
        await asyncio.Event().wait()

    async def _send(self, message: Any) -> None:
        self.sent += 1
        await asyncio.sleep(0)

    async def to_its_end(self) -> None:
        await asyncio.wait_for(self._app(self._scope, self._receive, self._send), 10)

    async def after(self, turns: int) -> None:
        """Run it for so many turns of the loop."""
        count = iter(range(turns))
        await self.until(lambda: next(count, None) is None)

    async def until(self, enough: Callable[[], bool]) -> None:
        task = asyncio.create_task(self._app(self._scope, self._receive, self._send))
        while not enough():
            await asyncio.sleep(0)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        with suppress(asyncio.CancelledError):
            await task


async def test_a_request_that_is_cancelled_at_any_moment_leaves_nothing_running(served: Served) -> None:
    await served.parley.plans.save("wide", "Wide", None, 10_000, 500)
    await served.parley.accounts.set_plan(served.who.user_id, "wide")
    for turns in range(0, 200, 3):
        await Cancelled(served, {}).after(turns)
    found = await rows(served)
    assert len(found) > 5
    assert set(found.values()) == {"stopped"}


async def test_a_pipe_that_breaks_in_mid_stream_is_a_hang_up_and_no_error(
    served: Served, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: Cancelled, message: Any) -> None:
        if message["type"] == "http.response.body":
            raise BrokenPipeError

    monkeypatch.setattr(Cancelled, "_send", broken)
    await Cancelled(served, {}).to_its_end()
    assert list((await rows(served)).values()) == ["stopped"]
    assert "unforeseen" not in caplog.text


async def test_the_stop_of_a_cancelled_request_survives_another_cancellation(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = type(served.parley.generations).view

    async def slow(*args: Any) -> Any:
        await asyncio.sleep(0.05)
        return await view(*args)

    monkeypatch.setattr(type(served.parley.generations), "view", slow)
    request = Cancelled(served, {})
    await request.until(lambda: request.sent >= 2)
    assert list((await rows(served)).values()) == ["stopped"]


async def test_a_detached_request_that_is_cancelled_goes_on(served: Served) -> None:
    request = Cancelled(served, {"X-Parley-Detach": "true"}, script(tokens=20, rate=100))
    await request.until(lambda: request.sent >= 2)
    assert list((await rows(served)).values()) == ["done"]


@pytest.mark.parametrize(("headers", "end"), [({}, "stopped"), ({"X-Parley-Detach": "true"}, "done")])
async def test_a_request_that_is_cancelled_while_its_turn_is_prepared(
    served: Served, headers: dict[str, str], end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with held_up(served, monkeypatch) as waits:
        await Cancelled(served, headers, script(tokens=20, rate=100)).until(waits.is_set)
    async with asyncio.timeout(10):
        while not (found := await rows(served)):
            await asyncio.sleep(0.02)
    assert list(found.values()) == [end]
