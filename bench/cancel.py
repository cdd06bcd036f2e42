"""How soon a slot is free again once a client has closed its connection: in mid-answer, and while its prompt is read.

From just before the client closes until the service has it in `/status` as cancelled, by the clock that all processes
of a machine share; llama.cpp has stopped computing by then. One request at a time: with others beside it a batch takes
longer, and so does a stop.
"""

import asyncio
import time
from typing import Any

import aiohttp

from bench.bounds import INFERENCE
from bench.load import Messages, Target, client, conversation, events, stream, text_in
from bench.report import Row, p50, p95

DECODES = 20
PREFILLS = 10
AFTER = 6  # Pieces of text after which a reader leaves.
PROMPT_TOKENS = (3_700, 4_300)
LIMIT_S = 15.0


async def measure(service: Target) -> tuple[list[Row], dict[str, float]]:
    rows: list[Row] = []
    figures: dict[str, float] = {}
    async with client() as session:
        decode = [await _decode(session, service, at) for at in range(DECODES)]
        whole = (await stream(session, service, _long("99"), 1)).ttft
        prefill = [await _prefill(session, service, at, whole) for at in range(PREFILLS)]
    for stage, seen in (("decode", decode), ("prefill", prefill)):
        key = f"cancel_{stage}_ms_p95"
        figures[key] = p95(seen)
        shown = f"{p95(seen):.0f} ms (p50 {p50(seen):.0f} ms, {len(seen)} times)"
        rows.append((f"connection closed to slot free, in {stage}, p95", shown, str(INFERENCE[key])))
    return rows, figures


async def _decode(session: aiohttp.ClientSession, service: Target, at: int) -> float:
    """Milliseconds until the slot of an answer in its midst is free."""
    question = conversation(f"Write a long essay about the history of rain, chapter {at}.")
    under_way = asyncio.Event()
    reader = asyncio.create_task(_read(session, service, question, under_way))
    await under_way.wait()
    # Not right behind a token, where a decode step has always just begun.
    await asyncio.sleep(0.003 * (at % 5))
    return await _leave(session, service, reader, "decode")


def _long(name: str) -> Messages:
    return conversation(f"Number {name}. " + " ".join(f"Boat {name}-{n} has come home." for n in range(360)))


async def _prefill(session: aiohttp.ClientSession, service: Target, at: int, whole: float) -> float:
    """The same while a prompt is read that takes `whole` seconds, at another place in it each time."""
    question = _long(str(at))
    count = await _json(session, service, "/tokenize", {"messages": question})
    if not PROMPT_TOKENS[0] <= count["count"] <= PROMPT_TOKENS[1]:
        raise RuntimeError(f"the long prompt has {count['count']} tokens, not about 4000")
    reader = asyncio.create_task(_read(session, service, question, asyncio.Event()))
    while not (reader.done() or (await _json(session, service, "/status"))["running"]):
        await asyncio.sleep(0.02)
    await asyncio.sleep(whole * (0.05 + 0.2 * at / PREFILLS))
    return await _leave(session, service, reader, "prefill")


async def _read(session: aiohttp.ClientSession, service: Target, question: Messages, under_way: asyncio.Event) -> None:
    pieces = 0
    try:
        async for event in events(session, service, question, 512):
            pieces += bool(text_in(event))
            if pieces == AFTER:
                under_way.set()
    finally:
        under_way.set()  # Whatever happened: nobody may wait for ever.


async def _leave(session: aiohttp.ClientSession, service: Target, reader: "asyncio.Task[None]", stage: str) -> float:
    before = await _json(session, service, "/status")
    if reader.done():
        reader.result()
        raise RuntimeError(f"the answer ended before anybody could leave it in {stage}")
    left_at = time.monotonic()
    reader.cancel()
    await asyncio.wait({reader})
    while time.monotonic() < left_at + LIMIT_S:
        now = await _json(session, service, "/status")
        if now["cancelled"] > before["cancelled"] and not now["running"]:
            if now["last_cancel_stage"] != stage:
                raise RuntimeError(f"cancelled in {now['last_cancel_stage']}, not in {stage}")
            return float(now["last_cancel_monotonic"] - left_at) * 1000
        # The time is the service's own, so looking seldom costs no exactness and disturbs less.
        await asyncio.sleep(0.05)
    raise RuntimeError(f"the slot was not free {LIMIT_S:.0f} seconds after its client had gone")


async def _json(session: aiohttp.ClientSession, service: Target, path: str, body: object = None) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {service.key}"}
    method = "GET" if body is None else "POST"
    async with session.request(method, service.url + path, json=body, headers=headers) as response:
        response.raise_for_status()
        answer: dict[str, Any] = await response.json()
        return answer
