"""3 and 4. Preparation: by which model is the question answered, and with which prompt?"""

from collections.abc import Sequence
from dataclasses import replace

from chat_app.billing.ledger import FREE, Ledger
from chat_app.billing.plans import Terms
from chat_app.prompts.parts import conversation
from chat_app.prompts.prompt import Prompt, build, exact
from chat_app.prompts.window import TooLong
from chat_app.routing.policy import Choice, UnknownModel, choose
from chat_app.sessions.generations import GenerationRow
from chat_app.settings import Settings
from chat_app.tools import BUILT_IN
from chat_app.turn.abilities import UNKNOWN_CONTEXT, calls_tools, serves, window, within, without_tools
from chat_app.turn.ask import Ask, TurnError, too_long
from chat_app.turn.cards import ModelCards, first_able
from chat_app.turn.engine import as_turn_error
from chat_app.turn.job import Candidate, Job
from inference.protocol import CannotCount, EngineError, ModelCard, Sampling, Tool, needs_tools


class Preparation:
    """Makes jobs out of what people ask."""

    def __init__(self, settings: Settings, cards: ModelCards, ledger: Ledger) -> None:
        self._settings = settings
        self._cards = cards
        self._ledger = ledger

    async def largest_context(self, wanted: str) -> int:
        """The widest window in tokens of all models that are offered, the wanted one among them.

        It is never guessed: what a smaller window leaves out once stays out of the thread's later prompts. Raises
        `TurnError` while no engine is there.
        """
        try:
            cards = await self._cards.offered(wanted)
        except EngineError as error:
            raise as_turn_error(error) from error
        return max((card.context for card in cards), default=0) or UNKNOWN_CONTEXT

    async def choose(self, ask: Ask) -> Choice:
        """3. The model, out of what the engine offers now. Raises `TurnError`."""
        try:
            cards = within(ask.models, await self._cards.offered(ask.model))
            return choose(ask.model, cards, self._settings.default_model, self._settings.fallbacks)
        except UnknownModel as error:
            offered = ", ".join(error.offered) or "none at the moment"
            raise TurnError(
                "model_unknown", f"There is no model “{error.wanted}” here. Offered: {offered}.", 404
            ) from error
        except EngineError as error:
            raise as_turn_error(error) from error

    async def job(self, ask: Ask, row: GenerationRow, terms: Terms, choice: Choice) -> Job:
        """4. The prompt, and all else that a worker needs, for the first chosen model that is there. Raises
        `TurnError`."""
        cards = (choice.model, *choice.alternatives)
        remaining = [cards[at:] for at in range(len(cards))]
        try:
            return await first_able(
                remaining, lambda some, patience: self._job(ask, row, terms, choice.route, some, patience)
            )
        except EngineError as error:
            raise as_turn_error(error) from error

    async def _job(
        self,
        ask: Ask,
        row: GenerationRow,
        terms: Terms,
        route: str,
        cards: Sequence[ModelCard],
        patience: float | None,
    ) -> Job:
        """The job for the first of these models; those of the others that have its window may stand in for it."""
        card, *others = cards
        sampling = self._sampling(ask, terms)
        built_in = ask.built_in or (self._settings.tool_names if ask.exchange and "tools" in card.abilities else ())
        tools = (*ask.tools, *(BUILT_IN[name].definition for name in built_in))
        needed = needs_tools(ask.messages, tools)
        if needed and calls_tools(card) is False:
            raise without_tools(card, await self._cards.offered())
        serving = (card, *(other for other in others if serves(other, window(card), needed)))
        if needed and calls_tools(card) is None and card.state:
            # Our own service loads it for that, and refuses what it cannot do.
            await self._cards.counter(card.id, patience)(ask.messages, tools)
        prompt = await self._prompt(ask, card, sampling.max_tokens, tools, patience)
        row.model = card.id
        return Job(
            row,
            prompt,
            replace(sampling, max_tokens=min(sampling.max_tokens, window(card) - prompt.tokens)),
            await self._candidates(serving),
            route,
            terms.weight,
            terms.monthly_tokens,
            ask.tool_choice,
            tuple(built_in),
        )

    def _sampling(self, ask: Ask, terms: Terms) -> Sampling:
        """As it was asked, with no more tokens than plan and installation allow."""
        bounds = (terms.max_output_tokens, self._settings.max_output_tokens)
        most = min(bound for bound in bounds if bound)
        asked = ask.sampling or Sampling(max_tokens=0, temperature=self._settings.temperature)
        return replace(asked, max_tokens=min(asked.max_tokens or most, most))

    async def _prompt(
        self, ask: Ask, card: ModelCard, answer: int, tools: Sequence[Tool], patience: float | None
    ) -> Prompt:
        """What the model reads: counted by its engine if an estimate leaves less room than `answer` tokens."""
        try:
            prompt = await build(
                conversation(ask.messages, self._settings.system_prompt, "thread" if ask.exchange else "request"),
                context=window(card),
                answer=answer,
                count=self._cards.counter(card.id, patience),
                measure=await self._cards.measure(card.id, card.context, patience),
                tools=tools,
                positions=ask.positions,
                since=ask.since if ask.since_model == card.id else None,
            )
            if window(card) - prompt.tokens < answer:
                prompt = await self.counted(prompt, card.id, patience)
        except TooLong as error:
            raise too_long(error, card.id) from error
        return prompt

    async def counted(self, prompt: Prompt, model: str, patience: float | None = None) -> Prompt:
        """The prompt with the engine's own count, where it can count. Raises `EngineError`."""
        try:
            return await exact(prompt, self._cards.counter(model, patience))
        except CannotCount:
            return prompt

    async def _candidates(self, cards: tuple[ModelCard, ...]) -> tuple[Candidate, ...]:
        rates = await self._ledger.rates([card.id for card in cards])
        priced = ((card, rates.get(card.id, FREE)) for card in cards)
        return tuple(
            Candidate(card.id, window(card), rate.prompt_micro, rate.completion_micro) for card, rate in priced
        )
