"""The generation log against a model: whatever owners and viewers do, the text is that of the rightful appends."""

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chat_app.data.ids import new_id
from chat_app.data.log.base import GenerationLog, Piece, StaleOwner, WrongOffset
from tests.data.conftest import NewLog
from tests.data.logs import WORDS, watch

WORD = st.sampled_from(WORDS)
STEP = st.one_of(
    st.tuples(st.just("append"), WORD),
    st.tuples(st.just("burst"), st.lists(WORD, min_size=1, max_size=5)),
    st.tuples(st.just("append elsewhere"), st.integers(-3, 3).filter(bool)),
    st.tuples(st.just("append late"), WORD),
    st.tuples(st.just("take over"), st.booleans()),
    st.tuples(st.just("reopen"), st.integers(0, 5)),
    st.tuples(st.just("watch"), st.tuples(st.booleans(), st.integers(0, 30))),
    st.tuples(st.just("read"), st.integers(0, 30)),
)


async def expect(error: type[Exception], work: object) -> None:
    try:
        await work  # type: ignore[misc]
    except error:
        return
    raise AssertionError(f"{error.__name__} was not raised")


async def both(new_log: NewLog) -> list[GenerationLog]:
    """The same two logs for every example of one test."""
    logs: list[GenerationLog] = new_log.__dict__.setdefault("both", [])
    if not logs:
        logs += [await new_log(), await new_log()]
    return logs


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(STEP, max_size=25))
async def test_log_against_its_model(new_log: NewLog, steps: list[tuple[str, object]]) -> None:
    await asyncio.wait_for(live(await both(new_log), steps), 60)


async def live(logs: list[GenerationLog], steps: list[tuple[str, object]]) -> None:
    generation, text, fence, owner = new_id(), "", 1, logs[0]
    stale: GenerationLog = logs[0]
    viewers: list[tuple[int, asyncio.Task[tuple[str, str, int]]]] = []
    assert await owner.open(generation, fence) == ""
    for step, about in steps:
        match step, about:
            case "append", str(word):
                await owner.append(generation, fence, len(text), word)
                text += word
            case "burst", list(words):
                starts = [len(text + "".join(words[:n])) for n in range(len(words))]
                await asyncio.gather(
                    *(owner.append(generation, fence, start, word) for start, word in zip(starts, words, strict=True))
                )
                text += "".join(words)
            case "append elsewhere", int(away) if len(text) + away >= 0:
                await expect(WrongOffset, owner.append(generation, fence, len(text) + away, "x"))
            case "append late", str(word) if fence > 1:
                await expect(StaleOwner, stale.append(generation, fence - 1, len(text), word))
            case "take over", bool(elsewhere):
                stale, fence = owner, fence + 1
                owner = logs[1] if elsewhere else logs[0]
                assert await owner.open(generation, fence, text[:3]) == text
            case "reopen", int(more):
                restored = text + "+" * more
                text = restored if more else text
                assert await owner.open(generation, fence, restored) == text
            case "watch", (bool(elsewhere), int(offset)):
                offset = min(offset, len(text))
                viewers.append((offset, asyncio.create_task(watch(logs[elsewhere], generation, offset))))
                await asyncio.sleep(0)
            case "read", int(offset):
                assert await logs[1].read(generation, offset) == Piece(offset, text[offset:])
    await owner.end(generation, fence, "done")
    for offset, viewer in viewers:
        assert (await viewer)[:2] == (text[offset:], "done")
    assert await logs[1].read(generation) == Piece(0, text, "done")
