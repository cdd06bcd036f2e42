"""A turn of two model steps with the calculator between them, and how to kill its process at a certain place of it."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable

from chat_app.turn.seal import BETWEEN
from inference.engines.scripted import scripted_text
from tests.chaos.program import Program
from tests.chaos.stalls import Missed, Stalls
from tests.parley import expected, script

CALL = {"name": "calculator", "arguments": {"expression": "17*23"}}
CALCULATOR = [{"type": "calculator"}]
PLACES = (
    "in the first model step",
    "between the model and the tool",
    "in the tool",
    "between the tool and the model",
    "in the second model step",
)
ENOUGH = 60
"""Characters after which text flows for certain."""
TRIES = 20
"""Turns among which one has to be caught in its tool, which takes a millisecond."""


def question(seed: int) -> str:
    return script(tokens=80, rate=80, seed=seed, calls=[CALL], then={"tokens": 80, "rate": 80, "seed": seed + 1000})


def whole(asked: str) -> str:
    """What the answer to a `question` says in the end."""
    return expected(asked) + BETWEEN + scripted_text(json.loads(asked)["script"]["then"])


async def begin_and_kill(
    place: str, program: Program, seed: int, stalls: Callable[[str], Stalls], kill: Callable[[], None]
) -> tuple[str, str]:
    """Ask, and kill at that place; the question, and the generation's id. `kill` ends whoever works on it."""
    for attempt in range(TRIES):
        program.forget()
        asked = question(seed + attempt)
        generation = await asyncio.to_thread(program.ask, asked, tools=CALCULATOR)
        try:
            await _kill_at(place, program, generation, asked, stalls(generation), kill)
            return asked, generation
        except Missed:
            await asyncio.to_thread(program.follow, generation)
    raise AssertionError(f"none of {TRIES} turns was caught {place}")


async def _kill_at(
    place: str, program: Program, generation: str, asked: str, stalls: Stalls, kill: Callable[[], None]
) -> None:
    if place in (PLACES[0], PLACES[4]):
        before = 0 if place == PLACES[0] else len(expected(asked) + BETWEEN)
        await asyncio.to_thread(program.follow, generation, before + ENOUGH)
        return kill()
    # Over one connection: to open another while the database is locked could wait for it.
    until = "tool_result" if place == PLACES[3] else "sealed"
    reached = asyncio.ensure_future(asyncio.to_thread(program.follow, generation, kind=until))
    while len(program.seen) < ENOUGH:
        assert not reached.done(), "it ended before anything was seen"
        await asyncio.sleep(0.01)
    async with stalls.rows() if place == PLACES[1] else stalls.in_the_tool():
        if place != PLACES[2]:
            await reached
        kill()
    await reached


def charged_right(program: Program, entries: list[tuple[str, int]]) -> None:
    """Everything once: the tool, both holds, both settlements, on what was delivered."""
    usage, receipt = program.ended["usage"], program.ended["receipt"]
    assert isinstance(usage, dict)
    assert isinstance(receipt, dict)
    assert program.ended["status"] == "done"
    assert [kind for kind in program.kinds if kind.startswith("tool")] == ["tool_call", "tool_result"]
    assert [(step["kind"], step["status"]) for step in receipt["steps"]] == [
        ("model", "done"),
        ("tool", "done"),
        ("model", "done"),
    ]
    assert Counter(kind for kind, _ in entries) == {"hold": 2, "settle": 2}
    settled = sum(tokens for kind, tokens in entries if kind == "settle")
    assert settled == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens"] >= 160
