"""6. A model step: the engine's text, checked, into the log, until it ends, is stopped, blocked, or cannot go on.

The reader waits for the check and for the log before it reads on, so order is kept and nothing is released unchecked
or unstored; what the engine sends meanwhile waits in the connection's bounded buffer.
"""

from contextlib import aclosing
from dataclasses import replace

import structlog

from chat_app.data.ids import now_ms
from chat_app.data.log.base import GenerationLog
from chat_app.data.log.entries import Entry, clean, text_of
from chat_app.turn.ask import TurnError
from chat_app.turn.bounds import Bounds
from chat_app.turn.call_gate import MOST_CALLS, Screens
from chat_app.turn.cards import ModelCards
from chat_app.turn.engine import SOON_S, Engine, as_turn_error, at_fault, until_stopped
from chat_app.turn.gate import OutputGate
from chat_app.turn.job import Job
from chat_app.turn.progress import Progress
from chat_app.turn.seal import BETWEEN, Sealed, entries_of_step, sealed_in
from chat_app.turn.token_counter import TokenCounter
from inference.protocol import EngineError, Request, ToolCall

TOO_MANY_CALLS = f"The model asked for more than {MOST_CALLS} tools at once. None of them was called."
logger = structlog.get_logger(__name__)


class Streams:
    """Runs model steps. `gather_ms`: how long an engine may gather text into one chunk when many answers run."""

    def __init__(
        self, engine: Engine, log: GenerationLog, cards: ModelCards, bounds: Bounds, screens: Screens, gather_ms: int
    ) -> None:
        self._engine = engine
        self._cards = cards
        self._log = log
        self._bounds = bounds
        self._screens = screens
        self._gather_ms = gather_ms

    async def run(self, turn: Progress) -> Sealed:
        """The seal of the running model step, from the log if its engine has ended before.

        Raises `StaleOwner`, `LogUnavailable`.
        """
        job, step, writer = turn.job, turn.step, turn.writer
        if (sealed := sealed_in(writer.entries, step.seq)) is not None:
            job.row.model = sealed.model
            return sealed
        began_at = now_ms()
        mine = entries_of_step(writer.entries)
        earlier = text_of(writer.entries[: len(writer.entries) - len(mine)])
        said = text_of(mine).removeprefix(BETWEEN if earlier else "")
        thought = "".join(entry.text for entry in mine if entry.kind == "reasoning")
        served = [entry.data["model"] for entry in mine if entry.kind == "status" and "model" in entry.data]
        job.row.model = served[-1] if served else step.model  # Who began an answer goes on with it.
        finish, calls, error, code = "failed", tuple[ToolCall, ...](), "", ""
        last: list[Entry] = []
        while True:
            gate = OutputGate(self._screens, said, thought, earlier, job.own_tools, job.built_in)
            counter = TokenCounter(self._engine)
            try:
                bounded = await self._bounds.running(turn)
                counter.prompt = bounded.prompt
                finish, calls, last = await self._stream(turn, bounded, gate, counter)
            except (EngineError, TurnError) as failure:
                logger.warning("engine trouble", generation=job.row.id, model=job.row.model, error=str(failure))
                if isinstance(failure, EngineError) and not at_fault(failure):
                    self._cards.forget()  # Another window, other models: the next turn had better ask.
                    if _replaceable(turn, gate):  # What the check still held is forgotten with its model.
                        job.row.model = job.remaining[1].model
                        await writer.write(Entry("status", data={"model": job.row.model}))
                        continue
                words = failure if isinstance(failure, TurnError) else as_turn_error(failure)
                error, code = clean(words.message), words.code  # It may quote the engine.
            break
        whole = finish in ("stop", "length", "tool_calls")
        if len(calls) > MOST_CALLS:
            finish, calls, error, code = "failed", (), TOO_MANY_CALLS, "too_many_calls"
        taken = {entry.data["id"] for entry in writer.entries if entry.kind == "tool_call"}
        last += await gate.close(calls, taken)
        if gate.blocked is not None:
            finish, error = "refused", gate.blocked.message
        # A step that was cut off before it delivered anything costs nothing. A whole one does, whatever came of it.
        charged = gate.anything or whole
        sealed = Sealed(
            seq=step.seq,
            model=job.row.model,
            finish=finish,
            prompt_tokens=await counter.read(job.row.model) if charged else 0,
            completion_tokens=counter.generated if charged else 0,
            cached_tokens=counter.cached if charged else 0,
            estimated=counter.estimated,
            error=error,
            code=code,
            blocked=gate.blocked,
            excerpt=gate.excerpt,
            began_at=began_at,
            first_at=counter.first_at,
            ended_at=now_ms(),
            screen_us=round(gate.seconds * 1e6),
        )
        await writer.write(*last, sealed.entry())
        return sealed

    async def _stream(
        self, turn: Progress, job: Job, gate: OutputGate, counter: TokenCounter
    ) -> tuple[str, tuple[ToolCall, ...], list[Entry]]:
        """Why it ended, the calls it ended with, and its last entries, which are written together with the seal."""
        row, sampling, prompt = job.row, job.sampling, job.prompt
        if gate.anything:  # Taken over.
            await counter.take_over(row.model, gate.text, gate.reasoning)
            sampling = replace(sampling, max_tokens=sampling.max_tokens - counter.generated)
            if sampling.max_tokens <= 0:
                return "length", (), []
        request = Request(
            row.model,
            prompt.messages,
            sampling,
            continue_from=gate.text,
            continue_reasoning=gate.reasoning,
            request_id=row.id,
            user=row.user_id,
            weight=job.weight,
            gather_ms=self._gather_ms,
            affinity=row.thread_id or "",
            tools=prompt.tools,
            tool_choice=job.tool_choice if turn.step.seq == 1 else "auto",
        )
        stop = self._log.stop_requested(row.id)
        stream = self._engine.stream(request, lambda: SOON_S if _replaceable(turn, gate) else None)
        async with aclosing(until_stopped(stop, stream)) as chunks:
            async for chunk in chunks:
                counter.take(chunk)
                entries = await gate.take(chunk)
                if chunk.finish is not None:
                    return chunk.finish, chunk.calls, entries
                if entries:
                    await turn.writer.write(*entries)
                if gate.blocked is not None:
                    break
        return "stopped", (), []


def _replaceable(turn: Progress, gate: OutputGate) -> bool:
    """Whether another model may still stand in for the one that serves: nothing of the step was delivered."""
    return len(turn.job.remaining) > 1 and not gate.anything
