"""The route in front: what middleware gives every other route, and what becomes of a turn whose program goes away."""

import asyncio
import json
import time
from itertools import count
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from chat_app.gateway import completions
from chat_app.gateway.completions_route import PATH
from chat_app.gateway.headers import HEADERS
from chat_app.telemetry.metrics import REGISTRY
from chat_app.turn import hold
from tests.gateway.leaving import body, counted, rows
from tests.gateway.served import Served

BESIDE = "/v1/models"
"""A route of the app behind, with all its middleware."""


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
        assert response.headers["cache-control"] == "no-store"
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
    grant, looked = type(served.parley.accounts).grant, 0

    async def noted(*args: Any) -> Any:
        nonlocal looked
        looked += 1
        return await grant(*args)

    monkeypatch.setattr(type(served.parley.accounts), "grant", noted)
    async with httpx.AsyncClient(headers=served.bearer) as client:
        assert (await client.post(f"{served.url}{PATH}", content=body())).status_code == 200
    assert looked == 1


@pytest.mark.parametrize(("body_s", "times"), [(0.9, 1), (1.1, 2)])
async def test_a_body_that_takes_more_than_a_second_has_its_key_looked_at_again(
    body_s: float, times: int, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count(start=0, step=body_s)
    stepped = SimpleNamespace(monotonic=lambda: next(clock), perf_counter=time.perf_counter)
    monkeypatch.setattr("chat_app.gateway.completions_route.time", stepped)
    grant, looked = type(served.parley.accounts).grant, 0

    async def noted(*args: Any) -> Any:
        nonlocal looked
        looked += 1
        return await grant(*args)

    monkeypatch.setattr(type(served.parley.accounts), "grant", noted)
    async with httpx.AsyncClient(headers=served.bearer) as client:
        assert (await client.post(f"{served.url}{PATH}", content=body())).status_code == 200
    assert looked == times
