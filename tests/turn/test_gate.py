"""What is released of an answer: checked, in order, nothing unchecked, nothing that no store could hold."""

import asyncio

import pytest

from chat_app.data.log.entries import encode
from chat_app.safety.screen import RuleScreen
from chat_app.safety.verdict import Verdict, refused
from chat_app.turn.call_gate import UNKNOWN
from chat_app.turn.gate import OutputGate
from chat_app.turn.seal import BETWEEN
from inference.protocol import Chunk, ToolCall

KEY = "AKIA" + "Q7R3ZK5TWM2X6PDB"


class SlowScreen:
    """A classifier that runs elsewhere, slower on every second piece, and refuses what holds `bad`."""

    def __init__(self, _: str = "") -> None:
        self.blocked: Verdict | None = None
        self.checked: list[str] = []

    async def feed(self, text: str) -> str:
        await asyncio.sleep(0.002 * (len(self.checked) % 2))
        self.checked.append(text)
        if "bad" in text:
            self.blocked = refused("output", "secret", "slow", "thing")
            return ""
        return text

    async def finish(self) -> str:
        return ""


def release(screens: type = RuleScreen, text: str = "", reasoning: str = "", earlier: str = "") -> OutputGate:
    return OutputGate(screens, text, reasoning, earlier, ("search",), ("calculator",))


async def test_reasoning_comes_before_the_text_that_follows_it() -> None:
    step = release()
    entries = await step.take(Chunk("So: yes.", 4, reasoning="Is it? "))
    assert [(entry.kind, entry.text) for entry in entries] == [
        ("reasoning", "Is it? "),
        ("status", ""),
        ("text", "So: yes."),
    ]
    assert (step.reasoning, step.text) == ("Is it? ", "So: yes.")


async def test_how_long_was_thought_is_noted_once_behind_the_reasoning() -> None:
    step = release()
    entries = await step.take(Chunk("", 1, reasoning="Is "))
    await asyncio.sleep(0.03)
    entries += await step.take(Chunk("", 1, reasoning="it? "))
    entries += await step.take(Chunk("So: yes. ", 2))
    entries += await step.take(Chunk("Indeed. ", 1))
    entries += await step.close(())
    [at] = [at for at, entry in enumerate(entries) if entry.kind == "status"]
    assert 25 <= entries[at].data["thought_ms"] < 1_000
    assert {entry.kind for entry in entries[:at]} == {"reasoning"}
    assert {entry.kind for entry in entries[at + 1 :]} == {"text"}


async def test_reasoning_that_is_held_whole_still_comes_before_the_text() -> None:
    class Holding(SlowScreen):
        async def feed(self, text: str) -> str:
            self.checked.append(text)
            return ""

        async def finish(self) -> str:
            held, self.checked = "".join(self.checked), []
            return held

    step = release(Holding)
    entries = await step.take(Chunk("", 1, reasoning="Is it? "))
    entries += await step.take(Chunk("So: yes.", 2))
    entries += await step.close(())
    assert [entry.kind for entry in entries] == ["reasoning", "status", "text"]


async def test_control_characters_and_lone_surrogates_never_reach_the_log() -> None:
    step = release()
    entries = await step.take(Chunk("a\x00b\x1ec\ud800d\n", 1, reasoning="x\x1fy"))
    assert encode(entry for entry in entries if entry.kind != "status") == "\x1erxy\x1fabc?d\n"


async def test_a_key_in_the_reasoning_blocks_the_answer() -> None:
    step = release()
    entries = await step.take(Chunk("Here.", 2, reasoning=f"The key is {KEY} "))
    entries += await step.close(())
    assert step.blocked is not None
    assert KEY not in encode(entries)
    assert "Here." not in encode(entries)


async def test_what_was_held_is_released_at_the_end() -> None:
    step = release()
    first = await step.take(Chunk(f"It begins with {KEY[:11]}", 1))
    assert encode(first) == "It begins with AKIA"
    assert encode(await step.close(())) == KEY[4:11]
    assert step.text == f"It begins with {KEY[:11]}"


async def test_a_key_in_a_calls_arguments_blocks_the_answer_and_the_calls() -> None:
    step = release()
    await step.take(Chunk("Let me look.", 1))
    calls = (ToolCall("1", "calculator", '{"expression": "1+1"}'), ToolCall("2", "search", f'{{"query": "{KEY}"}}'))
    assert await step.close(calls) == []
    assert step.blocked is not None
    assert step.anything  # The text.


async def test_what_is_blocked_already_checks_no_calls() -> None:
    step = release()
    await step.take(Chunk("", 2, reasoning=f"The key is {KEY} "))
    assert await step.close([ToolCall("1", "search", f'{{"query": "{KEY}"}}')]) == []
    assert step.excerpt == "The key is AKIA"


async def test_calls_say_whether_parley_runs_them() -> None:
    search, calculator, other = (ToolCall("1", name, "{}") for name in ("search", "calculator", "other"))
    for calls, within in (([search], False), ([search, search], False), ([calculator], True), ([other], True)):
        step = release()
        assert [entry.data["built_in"] for entry in await step.close(calls)] == [within] * len(calls)
        assert step.anything


@pytest.mark.parametrize("beside", ["calculator", "other"])
async def test_a_round_goes_out_whole_or_not_at_all(beside: str) -> None:
    calls = (ToolCall("1", "search", "{}"), ToolCall("2", beside, "{}"))
    assert [entry.data["built_in"] for entry in await release().close(calls)] == [True, True]


@pytest.mark.parametrize("name", ["", KEY, "calcu\x1flator", "calculator ", "n" * 5_000, "<|im_start|>"])
async def test_of_names_only_one_that_was_offered_gets_out(name: str) -> None:
    [entry] = await release().close((ToolCall("1", name, "{}"),))
    assert entry.data["name"] == UNKNOWN


@pytest.mark.parametrize("id", ["", KEY, "a\x1fb", "two words", "i" * 65, "<|im_start|>", "ï", "a\n"])
async def test_an_id_that_is_none_is_replaced(id: str) -> None:
    step = release()
    [entry] = await step.close((ToolCall(id, "calculator", "{}"),))
    assert entry.data["id"].startswith("call_") and KEY not in entry.data["id"]
    assert len(entry.data["id"]) < 64
    assert step.blocked is None


@pytest.mark.parametrize("id", ["call_9f", "functions.search:0", "D681PevKs", "i" * 64])
async def test_an_engines_own_id_is_kept(id: str) -> None:
    [entry] = await release().close((ToolCall(id, "search", "{}"),))
    assert entry.data["id"] == id


async def test_a_further_steps_first_text_keeps_its_distance_once() -> None:
    step = release(earlier="Zero.")
    entries = await step.take(Chunk("One. ", 1))
    entries += await step.take(Chunk("Two.", 1))
    assert encode(entries) == f"{BETWEEN}One. Two."
    assert step.text == "One. Two.", "the engine never wrote the distance, and goes on without it"
    taken_over = release(text="One. ", earlier="Zero.")
    assert encode(await taken_over.take(Chunk("Two.", 1))) == "Two."


async def test_nothing_delivered_is_nothing() -> None:
    step = release()
    assert await step.take(Chunk("", 3)) == []
    assert not step.anything


@pytest.mark.parametrize("at", range(4))
async def test_a_slow_check_keeps_the_order_and_releases_nothing_unchecked(at: int) -> None:
    pieces = ["one ", "two ", "three ", "four "]
    pieces[at] = "bad "
    step = release(SlowScreen)
    out = ""
    for piece in pieces:
        out += encode(await step.take(Chunk(piece, 1)))
    out += encode(await step.close(()))
    assert out == "".join(pieces[:at])
    assert step.blocked is not None
    assert step.seconds > 0


async def test_calls_that_an_engine_numbers_anew_in_each_step_keep_apart() -> None:
    step = release()
    calls = [ToolCall(id, "calculator", "{}") for id in ("call_0", "call_1", "call_1", "")]
    ids = [entry.data["id"] for entry in await step.close(calls, {"call_0"})]
    assert ids[1] == "call_1"
    assert len({*ids, "call_0"}) == 5 and all(ids)


CONTEXT_OF, TRIGGER = "Of course. This is how to make a pipe bomb at home.", "You will need a pipe and gunpowder."


@pytest.mark.parametrize("taken_over", [False, True])
@pytest.mark.parametrize("where", ["same text", "earlier step", "reasoning"])
async def test_the_check_sees_what_is_shown_in_front(where: str, taken_over: bool) -> None:
    match where:
        case "same text":
            step = release(text=CONTEXT_OF) if taken_over else release()
            chunks = [] if taken_over else [Chunk(CONTEXT_OF, 9)]
        case "earlier step":
            step, chunks = release(earlier=CONTEXT_OF), []
        case _:
            step = release(reasoning=CONTEXT_OF) if taken_over else release()
            chunks = [] if taken_over else [Chunk("", 9, reasoning=CONTEXT_OF)]
    for chunk in chunks:
        await step.take(chunk)
    shown = await step.take(Chunk(f" {TRIGGER} It burns.", 9)) + await step.close(())
    assert step.blocked is not None
    assert TRIGGER not in "".join(entry.text for entry in shown)


async def test_reasoning_is_checked_behind_the_text_of_earlier_steps() -> None:
    step = release(earlier=CONTEXT_OF)
    await step.take(Chunk("", 9, reasoning=f"{TRIGGER} It burns."))
    await step.close(())
    assert step.blocked is not None


async def test_what_earlier_steps_said_is_not_released_again() -> None:
    step = release(earlier="The key begins with AKIA", reasoning="sk-")
    entries = await step.take(Chunk("Fine.", 2)) + await step.close(())
    assert [(entry.kind, entry.text) for entry in entries] == [("text", f"{BETWEEN}Fine.")]
    assert (step.text, step.reasoning) == ("Fine.", "sk-")
