"""Preparation alone: which model, which window, and how long an answer may be."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from chat_app.accounts.identity import Identity
from chat_app.billing.ledger import Rate
from chat_app.billing.plans import Terms
from chat_app.prompts.measure import Count, Measure
from chat_app.prompts.prompt import Prompt
from chat_app.routing.policy import Choice
from chat_app.sessions.threads import Exchange
from chat_app.settings import Settings
from chat_app.turn.abilities import UNKNOWN_CONTEXT
from chat_app.turn.admit import new_row
from chat_app.turn.ask import Ask, TurnError
from chat_app.turn.job import Candidate, Job
from chat_app.turn.prepare import Preparation
from inference.protocol import Message, ModelCard, Sampling, Tool
from tests.prompts.engines import EXACT, Counter, Uncounting

ADA = Identity("u", "t", "ada@example.org", "Ada", "user", "free")
ASK = Ask(ADA, "api", (Message("user", "x"),), "wanted")
TERMS = Terms("free", "Free", 100_000, 60, 2, 300, 1)


class Cards:
    """Offers these models, whose engine counts so."""

    def __init__(self, *cards: ModelCard, count: Count | None = None) -> None:
        self.cards = cards
        self.count = count or Uncounting()

    async def offered(self, wanted: str = "") -> Sequence[ModelCard]:
        return self.cards

    def counter(self, model: str, patience: float | None = None) -> Count:
        return self.count

    async def measure(self, model: str, context: int, patience: float | None = None) -> Measure:
        return EXACT


def preparation(*cards: ModelCard, **settings: Any) -> Preparation:
    return Preparation(Settings(**settings), Cards(*cards), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("windows", "widest"), [([], UNKNOWN_CONTEXT), ([0], UNKNOWN_CONTEXT), ([512, 8_192, 0], 8_192)]
)
async def test_the_widest_window_is_one_that_is_offered(windows: list[int], widest: int) -> None:
    cards = [ModelCard(f"m{number}", window) for number, window in enumerate(windows)]
    assert await preparation(*cards).largest_context("m0") == widest


@pytest.mark.parametrize(
    ("cards", "words"), [([], "none at the moment"), ([ModelCard("a", 1), ModelCard("b", 1)], "a, b")]
)
async def test_an_unknown_model_is_said_with_those_that_there_are(cards: list[ModelCard], words: str) -> None:
    with pytest.raises(TurnError, match=f"no model “wanted” here. Offered: {words}") as raised:
        await preparation(*cards).choose(ASK)
    assert (raised.value.code, raised.value.status) == ("model_unknown", 404)


@pytest.mark.parametrize(
    ("asked", "plan", "installation", "most"),
    [
        (None, 300, 500, 300),
        (None, None, 500, 500),
        (0, 300, 500, 300),
        (200, 300, 500, 200),
        (400, 300, 500, 300),
        (400, 600, 350, 350),
    ],
)
def test_an_answer_is_as_long_as_everybody_allows(
    asked: int | None, plan: int | None, installation: int, most: int
) -> None:
    sampling = None if asked is None else Sampling(max_tokens=asked, temperature=0.1)
    prepared = preparation(max_output_tokens=installation, temperature=0.7)._sampling(
        replace(ASK, sampling=sampling), replace(TERMS, max_output_tokens=plan)
    )
    assert prepared.max_tokens == most
    assert prepared.temperature == (0.7 if asked is None else 0.1)


CARD = ModelCard("m", 1_000)
TALK = tuple(Message(("user", "assistant")[at % 2], "x" * 99) for at in range(9))
"""Nine messages that have 100 tokens each at most, of which an engine may count fewer."""


async def prompt_of(count: Count, answer: int, *messages: Message) -> Prompt:
    """The prompt of a conversation for CARD, with room for an answer of so many tokens."""
    prepared = Preparation(Settings(system_prompt=""), Cards(CARD, count=count), None)  # type: ignore[arg-type]
    return await prepared._prompt(replace(ASK, messages=messages), CARD, answer, (), None)


@pytest.mark.parametrize(("answer", "kept", "asked"), [(99, 9, 0), (100, 9, 0), (101, 5, 1)])
async def test_what_surely_fits_beside_the_answer_is_not_counted(answer: int, kept: int, asked: int) -> None:
    count = Counter(len)
    prompt = await prompt_of(count, answer, *TALK)
    assert (prompt.tokens, prompt.kept, prompt.counted, len(count.asked)) == (kept * 100, kept, False, asked)


async def test_an_answer_gets_all_the_room_that_its_engine_counts_beside_the_prompt() -> None:
    """The whole does not fit; what is kept of it surely does, and may have far fewer tokens than that."""
    count = Counter(lambda text: 99 if len(count.asked) == 1 else 9)
    prompt = await prompt_of(count, 900, *TALK)
    assert [len(asked) for asked in count.asked] == [9, 5]
    assert (prompt.tokens, prompt.kept, prompt.counted) == (50, 5, True)


async def test_where_no_engine_counts_the_bound_stands() -> None:
    prompt = await prompt_of(Uncounting(), 900, *TALK)
    assert (prompt.tokens, prompt.kept, prompt.counted) == (500, 5, False)


async def test_a_count_is_asked_for_once() -> None:
    count = Counter(len)
    prepared = Preparation(Settings(), Cards(CARD, count=count), None)  # type: ignore[arg-type]
    counted = await prepared.counted(await prompt_of(Uncounting(), 900, *TALK), "m")
    assert (counted.tokens, counted.counted, len(count.asked)) == (500, True, 1)
    assert await prepared.counted(counted, "m") == counted
    assert len(count.asked) == 1


@pytest.mark.parametrize("count", [Counter(len), Uncounting()])
async def test_a_question_that_does_not_fit_is_said_with_the_room_there_is(count: Count) -> None:
    assert (await prompt_of(count, 900, Message("user", "x" * 749))).kept == 1
    with pytest.raises(TurnError, match="needs 751 tokens; m has room for 750") as raised:
        await prompt_of(count, 900, *TALK[:-1], Message("user", "x" * 750))
    assert (raised.value.code, raised.value.status) == ("context_too_long", 400)


class Rates:
    """A ledger that knows the prices of these models."""

    def __init__(self, **rates: Rate) -> None:
        self._rates = rates

    async def rates(self, models: Sequence[str]) -> dict[str, Rate]:
        return {model: rate for model, rate in self._rates.items() if model in models}


TOOL = Tool("search", "Looks", "{}")
ABLE = replace(CARD, state="ready", abilities=("tools",))
CHAT = Exchange("t", "a", None, "q", "x", True)


async def job_of(ask: Ask, *cards: ModelCard, count: Count | None = None, **settings: Any) -> Job:
    """The job for the first of these models; the others may stand in for it."""
    chosen = {"system_prompt": "", "max_output_tokens": 900, "tools": "calculator", **settings}
    ledger: Any = Rates(m=Rate(1, 2), large=Rate(3, 4), elsewhere=Rate(5, 6))
    prepared = Preparation(Settings(**chosen), Cards(*cards, count=count), ledger)  # type: ignore[arg-type]
    row = new_row(ADA, ask.source, TERMS, "me")
    made = await prepared.job(ask, row, replace(TERMS, max_output_tokens=None), Choice(cards[0], "asked", cards[1:]))
    assert row.model == cards[0].id
    return made


@pytest.mark.parametrize(("most", "length"), [(0, 500), (900, 500), (501, 500), (500, 500), (499, 499)])
async def test_an_answer_is_as_long_as_its_window_leaves_room_for(most: int, length: int) -> None:
    ask = replace(ASK, messages=TALK, sampling=Sampling(max_tokens=most, temperature=0.1))
    job = await job_of(ask, CARD, count=Counter(len))
    assert (job.prompt.tokens, job.sampling.max_tokens) == (500, length)
    assert (job.route, job.weight, job.monthly_tokens) == ("asked", TERMS.weight, TERMS.monthly_tokens)


async def test_who_may_stand_in_has_the_window_and_the_tools_that_are_needed() -> None:
    small, large = replace(ABLE, id="small", context=999), replace(CARD, id="large", context=2_000, state="ready")
    plain = await job_of(ASK, ABLE, small, large, replace(ABLE, id="same"))
    assert plain.candidates == (
        Candidate("m", 1_000, 1, 2),
        Candidate("large", 2_000, 3, 4),
        Candidate("same", 1_000),
    )
    guided = await job_of(replace(ASK, tools=(TOOL,)), ABLE, small, large, replace(ABLE, id="same"))
    assert [candidate.model for candidate in guided.candidates] == ["m", "same"]


async def test_a_model_that_cannot_call_tools_gets_none_and_says_who_can() -> None:
    plain = replace(CARD, state="ready")
    with pytest.raises(TurnError, match=r"The model m cannot call tools\. Models here that can: able") as raised:
        await job_of(replace(ASK, tools=(TOOL,)), plain, replace(ABLE, id="able"))
    assert raised.value.code == "bad_input"
    chat = await job_of(replace(ASK, exchange=CHAT), plain)
    assert (chat.built_in, chat.prompt.tools) == ((), ())


@pytest.mark.parametrize(
    ("card", "tools", "asked"),
    [
        (replace(CARD, state="unloaded"), (TOOL,), True),
        (replace(CARD, state="unloaded"), (), False),
        (replace(ABLE, state="unloaded"), (TOOL,), False),
        (CARD, (TOOL,), False),
    ],
    ids=["nobody knows", "without tools", "it is known", "a foreign server"],
)
async def test_a_model_of_which_nobody_knows_whether_it_calls_tools_is_loaded_first(
    card: ModelCard, tools: tuple[Tool, ...], asked: bool
) -> None:
    counted: list[Sequence[Tool]] = []

    async def count(messages: Sequence[Message], tools: Sequence[Tool]) -> int:
        counted.append(tools)
        return 10

    await job_of(replace(ASK, tools=tools), replace(card, context=8_000), count=count)
    assert counted == [tools] * asked


async def test_a_chat_has_the_tools_of_the_installation_and_a_program_those_that_it_asks_for() -> None:
    chat, program = replace(ASK, exchange=CHAT), replace(ASK, tools=(TOOL,), built_in=("calculator",))
    for ask, built_in, names in (
        (chat, ("calculator",), ["calculator"]),
        (ASK, (), []),
        (program, ("calculator",), ["search", "calculator"]),
        (replace(ASK, tools=(TOOL,)), (), ["search"]),
    ):
        job = await job_of(ask, replace(ABLE, context=8_000))
        assert (job.built_in, [tool.name for tool in job.prompt.tools]) == (built_in, names)
    assert (await job_of(chat, replace(ABLE, context=8_000), tools="")).built_in == ()
