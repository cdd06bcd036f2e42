"""The loads of `bench.gateway`, each on one side at a time: who asks how often, and what it costs the side.

Every answer is compared with what the backend said, after the clocks have stopped; of paced streams also when each
token came.
"""

import asyncio
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from bench.arrivals import Arrivals, Flow, flow
from bench.foreign import BEGUN, CALL_TOKENS, FAST, PACED, ROUNDS, text
from bench.http1 import Connection
from bench.sides import Side

WHOLE_TOKENS = 20
"""Tokens of an unstreamed answer."""
AFTERMATH_S = 0.1
"""What a side still does for an answer after its client has it (its end, its event) counts too."""


class WrongAnswer(Exception):
    """A side did not pass on what the backend said."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Requests per second, and CPU seconds for each: the side's own, and that of the stores it uses. `flow` is of
    paced streams."""

    rate: float
    cpu_s: float
    stores_cpu_s: float = 0.0
    flow: Flow | None = None


def body(tokens: int, *, stream: bool, model: str, number: int = 0) -> dict[str, Any]:
    """What is asked. `number` makes the question of one of many streams another one than theirs."""
    messages = [
        {"role": "system", "content": "Answer clearly and briefly."},
        {"role": "user", "content": question(number)},
    ]
    asked: dict[str, Any] = {"model": model, "messages": messages, "max_tokens": tokens, "stream": stream}
    return asked | {"stream_options": {"include_usage": True}} if stream else asked


def question(number: int) -> str:
    return f"What happened in the harbour that morning, and who were the {number + 2} who saw it?"


async def latencies(side: Side, requests: int, **more: Any) -> list[float]:
    """Seconds of each unstreamed request, one client, one after the other; `more` goes into the request, and if it
    has tools, the backend must have asked for them as often as it does."""
    # `max_tokens` bounds the whole answer: its calls, and what is left for its text.
    tokens = WHOLE_TOKENS + (ROUNDS * CALL_TOKENS if "tools" in more else 0)
    request = side.request(body(tokens, stream=False, model=FAST) | more)
    connection = await Connection.open(side.port)
    seconds, answers = [], []
    for _ in range(requests):
        got: list[bytes] = []
        begun = time.perf_counter()
        await connection.ask(request, got.append)
        seconds.append(time.perf_counter() - begun)
        answers.append(b"".join(got))
    connection.close()
    _check_whole(side, answers, tokens)
    return seconds


async def clients(side: Side, count: int, seconds: float) -> Pace:
    """`count` clients who each ask again as soon as they are answered, unstreamed."""
    request = side.request(body(WHOLE_TOKENS, stream=False, model=FAST))
    connections = await asyncio.gather(*(Connection.open(side.port) for _ in range(count)))
    answers: list[bytes] = []
    over = False

    async def ask(connection: Connection) -> None:
        while not over:
            got: list[bytes] = []
            await connection.ask(request, got.append)
            answers.append(b"".join(got))

    asking = [asyncio.create_task(ask(connection)) for connection in connections]
    await asyncio.sleep(0.3)
    already, cpu, stores, begun = len(answers), side.cpu_s(), side.stores_cpu_s(), time.perf_counter()
    await asyncio.sleep(seconds)
    done, lasted = len(answers) - already, time.perf_counter() - begun
    cpu, stores = side.cpu_s() - cpu, side.stores_cpu_s() - stores
    over = True
    await asyncio.gather(*asking)
    for connection in connections:
        connection.close()
    _check_whole(side, answers, WHOLE_TOKENS)
    return Pace(done / lasted, cpu / done, stores / done)


async def streams(side: Side, count: int, tokens: int) -> Pace:
    """`count` streams at the backend's pace, begun at the same moment; per token, the whole turn in it."""
    requests = [side.request(body(tokens, stream=True, model=PACED, number=number)) for number in range(count)]
    connections = await asyncio.gather(*(Connection.open(side.port) for _ in range(count)))
    _began(side)
    cpu, stores, begun = side.cpu_s(), side.stores_cpu_s(), time.perf_counter()
    answers = await asyncio.gather(*map(_stream, connections, requests))
    lasted = time.perf_counter() - begun
    await asyncio.sleep(AFTERMATH_S)
    cpu, stores = side.cpu_s() - cpu, side.stores_cpu_s() - stores
    for connection in connections:
        connection.close()
    _check_streams(side, answers, tokens)
    began = _began(side)
    flowed = flow([(answer, began[question(number)]) for number, answer in enumerate(answers)], tokens)
    return Pace(count * tokens / lasted, cpu / (count * tokens), stores / (count * tokens), flowed)


async def turns(side: Side, tokens: int, seconds: float) -> Pace:
    """One client, streamed turns that the backend sends at once, one after the other; per turn."""
    request = side.request(body(tokens, stream=True, model=FAST))
    connection = await Connection.open(side.port)
    answers = []
    cpu, stores, begun = side.cpu_s(), side.stores_cpu_s(), time.perf_counter()
    while time.perf_counter() < begun + seconds:
        answers.append(await _stream(connection, request))
    lasted = time.perf_counter() - begun
    await asyncio.sleep(AFTERMATH_S)
    cpu, stores = side.cpu_s() - cpu, side.stores_cpu_s() - stores
    connection.close()
    _check_streams(side, answers, tokens)
    return Pace(len(answers) / lasted, cpu / len(answers), stores / len(answers))


async def _stream(connection: Connection, request: bytes) -> Arrivals:
    got = Arrivals()

    def deliver(part: bytes) -> None:
        got.parts.append(part)
        got.came.append(time.monotonic())

    await connection.ask(request, deliver)
    return got


def _began(side: Side) -> dict[str, float]:
    """When the backend began each stream, since the last call of this."""
    with urllib.request.urlopen(f"http://127.0.0.1:{side.backend}{BEGUN}", timeout=5) as answer:
        began: dict[str, float] = orjson.loads(answer.read())
        return began


def _check_whole(side: Side, answers: Sequence[bytes], tokens: int) -> None:
    """`tokens`: of the whole turn; calls of tools have some, of which the text shows nothing."""
    for answer in answers:
        said = orjson.loads(answer)
        if "choices" not in said or said["choices"][0]["message"]["content"] != text(WHOLE_TOKENS):
            raise WrongAnswer(f"{side.name}: {answer[:500]!r}")
        if said["usage"]["completion_tokens"] != tokens:
            raise WrongAnswer(f"{side.name}: {said['usage']} of a turn that should have {tokens} tokens")


def _check_streams(side: Side, answers: Sequence[Arrivals], tokens: int) -> None:
    for arrivals in answers:
        answer = arrivals.whole
        said, counted = "", 0
        for line in answer.split(b"\n"):
            if line.startswith(b"data: {"):
                event = orjson.loads(line[6:])
                counted = (event.get("usage") or {}).get("completion_tokens", counted)
                for choice in event.get("choices") or ():
                    said += choice["delta"].get("content") or ""
        if said != text(tokens) or counted != tokens or b"[DONE]" not in answer[-40:]:
            raise WrongAnswer(f"{side.name}: {counted} tokens, {said[:100]!r} … {answer[-500:]!r}")
