"""Runs `tests.data.writing` and kills it in the middle."""

import asyncio
import sys
from collections import Counter
from pathlib import Path

from tests.data.writing import STREAMS

ROOT = Path(__file__).resolve().parents[2]
LEAST = 400


async def kill_while_writing(what: str, address: str) -> dict[int, int]:
    """Kill -9 a writer once it has had some hundred acknowledgements; answers how many each stream had."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.data.writing", what, address, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    counts: Counter[int] = Counter(dict.fromkeys(range(STREAMS), 0))
    async with asyncio.timeout(150):
        while counts.total() < LEAST:
            line = await process.stdout.readline()
            assert line, "the writer ended by itself"
            counts[int(line.split()[0])] += 1
        process.kill()
        rest = (await process.stdout.read()).decode().splitlines()
        await process.wait()
    for line in rest:
        if len(line.split()) == 2:
            counts[int(line.split()[0])] += 1
    return dict(counts)
