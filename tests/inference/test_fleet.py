"""Replicas as processes: one is killed, one freezes, all are away; whoever reads sees a pause."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from inference.continuation import SteadyClient
from inference.engines.scripted import scripted_text
from inference.pool import Pool
from inference.replica import Replica
from tests.inference.conftest import KEY, request, script, spawn

Start = Callable[..., tuple["subprocess.Popen[bytes]", str]]
WORDS = 120


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a scripted replica of its own, at any port or the one given."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*flags: str) -> tuple["subprocess.Popen[bytes]", str]:
        folder = tmp_path / str(len(running))
        folder.mkdir()
        process, url = spawn(folder, "--engine", "scripted", *flags)
        running.append(process)
        return process, url

    yield start
    for process in running:
        process.kill()
        process.wait()


def busy(pool: Pool) -> Replica:
    [one] = [one for one in pool.replicas if one.in_flight]
    return one


@pytest.mark.parametrize(("number", "most_s"), [(signal.SIGKILL, 2.0), (signal.SIGTERM, 2.0), (signal.SIGSTOP, 6.0)])
async def test_an_answer_survives_its_replica(start: Start, number: signal.Signals, most_s: float) -> None:
    processes = {url: process for process, url in (start() for _ in range(2))}
    pool = Pool(list(processes), [KEY])
    question = script(tokens=WORDS, rate=30, seed=5)
    text, tokens, longest, last = "", 0, 0.0, 0.0
    try:
        async with aclosing(SteadyClient(pool).stream(request(question, max_tokens=400))) as chunks:
            async for chunk in chunks:
                longest = max(longest, time.monotonic() - last) if last else 0.0
                last = time.monotonic()
                if tokens < 30 <= tokens + chunk.tokens:
                    os.kill(processes[busy(pool).url].pid, number)
                text, tokens = text + chunk.text, tokens + chunk.tokens
        assert text == scripted_text({"tokens": WORDS, "seed": 5})
        assert tokens == WORDS
        assert chunk.usage is not None and chunk.usage.completion_tokens == WORDS
        assert longest < most_s
        assert sorted(one.continuations for one in pool.replicas) == [0, 1]
    finally:
        await pool.close()


async def test_many_answers_survive_when_every_replica_is_killed_in_turn(start: Start) -> None:
    processes = dict(reversed(start()) for _ in range(3))
    pool = Pool(list(processes), [KEY])
    steady = SteadyClient(pool)

    async def read(seed: int) -> str:
        question = script(tokens=WORDS, rate=40, seed=seed)
        asked = replace(request(question, max_tokens=400), affinity=str(seed))
        return "".join([chunk.text async for chunk in steady.stream(asked)])

    running = [asyncio.create_task(read(seed)) for seed in range(12)]
    try:
        for url, process in list(processes.items())[:2]:
            replica = next(one for one in pool.replicas if one.url == url)
            async with asyncio.timeout(10):
                while not replica.in_flight:
                    await asyncio.sleep(0.02)
            await asyncio.sleep(0.5)
            process.kill()
        assert await asyncio.gather(*running) == [scripted_text({"tokens": WORDS, "seed": seed}) for seed in range(12)]
        assert [one.healthy for one in pool.replicas] == [False, False, True]
    finally:
        await pool.close()


async def test_when_all_are_away_it_waits_for_the_first_to_return(start: Start) -> None:
    (one, url), (other, second) = start(), start()
    pool = Pool([url, second], [KEY])
    try:
        assert await pool.health()
        for process in (one, other):
            process.kill()
            process.wait()
        question = script(tokens=9)
        waiting = asyncio.create_task(anext(SteadyClient(pool).stream(request(question))))
        await asyncio.sleep(1.5)
        assert not waiting.done()
        await asyncio.to_thread(start, "--port", url.rpartition(":")[2])
        back = time.monotonic()
        assert (await waiting).text
        assert time.monotonic() - back < 1
    finally:
        await pool.close()
