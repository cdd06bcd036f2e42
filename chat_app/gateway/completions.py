"""A chat completion: the turn as OpenAI's clients know it, streamed and not.

Both ways wait on the same durable job. A program that hangs up stops its answer, since it does not want to
pay for what it will not read; with the header `x-parley-detach: true` the answer goes on, and can be fetched
or followed under `/v1/generations/{id}`.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing

import orjson

from chat_app.accounts.grant import Grant
from chat_app.data.log.entries import Entry
from chat_app.gateway.completion_request import CompletionRequest
from chat_app.gateway.completion_shape import DONE, FinishReason, Shape, Usage, finish_reason, usage_of
from chat_app.gateway.connection import Connection, HungUp
from chat_app.gateway.errors import STORAGE, ApiError, api_error, reported
from chat_app.gateway.force import KeyEnded, while_in_force
from chat_app.gateway.rate_headers import rate_headers
from chat_app.gateway.sse import EVENT_STREAM, relay
from chat_app.sessions.viewer import Update
from chat_app.turn import Ask, Started, TurnError
from chat_app.turn.admit import Place
from chat_app.turn.seal import ending
from chat_app.wiring import Parley

HOPELESS = ("bad_input", "context_too_long")
"""Codes of an engine that refused the request itself: asking again would not help."""
COSTLY = ("too_many_calls", "too_many_steps")
"""Codes of a model that did too much: asking again would cost as much again."""


class Completion:
    """One call that was let in and read, to its last byte. `wanted` says how its answer is sent, `ask` what it is."""

    def __init__(
        self,
        parley: Parley,
        grant: Grant,
        place: Place,
        wanted: CompletionRequest,
        ask: Ask,
        connection: Connection,
    ) -> None:
        self._parley = parley
        self._grant = grant
        self._place = place
        self._wanted = wanted
        self._ask = ask
        self._identity = ask.identity
        self._connection = connection
        self._detached = ask.detached
        self._id = ""

    async def run(self, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        """Begin the turn and send its answer; `headers` go with it. Raises `HungUp`, and whatever kept it from its
        first byte, as an `ApiError` that names the answer once there is one."""
        try:
            async with self._connection:
                with while_in_force(self._parley, self._grant, self._connection):
                    await self._deliver(await self._begin(), headers)
        except (HungUp, asyncio.CancelledError):
            # The server may end a request whose connection is gone; the turn itself stops what it was only preparing.
            if self._id:
                await self._leave()
            raise
        except Exception as error:
            if not self._id:
                raise
            broken = await self._broken_off(error)
            if not (isinstance(error, KeyEnded) and self._connection.status):
                raise broken from error
            await self._connection.write_soon(_event(broken))

    async def _begin(self) -> Started:
        started = await self._parley.turns.begin(self._ask, self._place)
        self._id = started.generation_id
        self._connection.check()
        return started

    async def _deliver(self, started: Started, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        shape = Shape(started.generation_id, started.model, int(time.time()))
        headers = (*headers, (b"x-parley-generation", self._id.encode()), *rate_headers(started))
        if self._wanted.stream:
            await self._connection.start(200, (*EVENT_STREAM, *headers))
            await self._connection.write(await self._streamed(shape), last=True)
        else:
            body = shape.whole(*await self._outcome())
            await self._connection.respond(200, body, (*headers, (b"content-type", b"application/json")))

    async def _streamed(self, shape: Shape) -> bytes:
        """Send the answer as it comes; returns the end of the stream, which after an error is its event."""
        opened = False
        seals: list[Entry] = []

        def encode(update: Update) -> bytes:
            nonlocal opened
            seals.extend(entry for entry in update.entries if entry.kind == "sealed")
            chunks = shape.chunks(update)
            if not opened and (chunks or update.end is not None):
                chunks, opened = shape.opening() + chunks, True
            return chunks

        try:
            status = await relay(self._parley.viewer.follow(self._id, begun=True), self._connection, encode)
            reason, tokens = await self._ended(seals, status)
        except HungUp:
            raise
        except Exception as error:  # The status has been sent.
            return _event(await self._broken_off(error))
        usage = shape.usage(tokens) if self._wanted.include_usage else b""
        return shape.closing(reason) + usage + DONE

    async def _outcome(self) -> tuple[list[Entry], FinishReason, Usage]:
        """The whole answer, once it has ended, and how it did."""
        entries: list[Entry] = []
        status: str | None = None
        async with aclosing(self._parley.viewer.follow(self._id, begun=True)) as updates:
            async for update in updates:
                self._connection.check()
                entries += update.entries
                status = update.end
        return entries, *await self._ended(entries, status)

    async def _ended(self, entries: Sequence[Entry], status: str | None) -> tuple[FinishReason, Usage]:
        """How the answer ended, and its tokens, by its seals, or by its row where they do not say.

        Raises `ApiError` if the answer could not be finished.
        """
        if status not in (None, "failed") and (sealed := ending(entries, status)) is not None:
            return finish_reason(status, sealed.finish), usage_of(sealed)
        view = await self._parley.generations.view(self._identity, self._id)
        if view.status == "failed" or not view.ended:
            message, code = view.error or "The answer could not be finished.", view.receipt.get("code")
            if code in HOPELESS and not view.completion_tokens:
                raise api_error(TurnError(code, message))
            message = f"{message} {self._where}"
            if code == "quota_exceeded":  # The month was used up between two steps.
                raise api_error(TurnError(code, message, 429))
            raise ApiError(
                503,
                "generation_failed",
                message,
                # It was charged: whether to pay again is the program's to decide.
                headers={"x-should-retry": "false"} if view.completion_tokens or code in COSTLY else {},
            )
        return finish_reason(view.status, view.receipt.get("finish")), usage_of(view)

    @property
    def _where(self) -> str:
        return f"What there is of the answer is under /v1/generations/{self._id}."

    async def _broken_off(self, error: Exception) -> ApiError:
        """The error with which a call ends whose turn has begun.

        Where it does not say how the answer ended but what kept the program from it, the answer is left, and not to be
        asked for again without a thought: it may be charged, and is to be had.
        """
        made = reported(error)
        if not isinstance(error, ApiError) or isinstance(error, KeyEnded):
            await self._leave()
        if not isinstance(error, ApiError):
            status, code, message = made.status, made.code, made.message
            if isinstance(error, STORAGE):
                status, code = 503, "generation_failed"
                message = "Parley cannot reach its storage, and so not the rest of this answer."
            made = ApiError(status, code, f"{message} {self._where}", headers={"x-should-retry": "false"})
        made.headers["x-parley-generation"] = self._id
        return made

    async def _leave(self) -> None:
        """Stop the answer, unless it goes on without its program."""
        if self._detached:
            return
        try:
            # Shielded: the server may end this task together with the connection.
            await asyncio.shield(self._parley.turns.stop(self._identity, self._id))
        except (TurnError, *STORAGE):
            pass  # It has ended already, or its owner cannot be reached: then it is settled at its own end.


def _event(error: ApiError) -> bytes:
    """The last event of a stream that went wrong."""
    return b"data: " + orjson.dumps(error.body()) + b"\n\n"
