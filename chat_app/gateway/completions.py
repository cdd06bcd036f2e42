"""`POST /v1/chat/completions`: the turn as OpenAI's clients know it, streamed and not.

Both ways wait on the same durable job. A program that hangs up stops its answer, since it does not want to
pay for what it will not read; with the header `x-parley-detach: true` the answer goes on, and can be fetched
or followed under `/v1/generations/{id}`.
"""

import asyncio
import time
from collections.abc import Sequence

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from chat_app.accounts.identity import Identity
from chat_app.ask import Started, TurnError
from chat_app.data.log.base import Piece
from chat_app.gateway.caller import GetParley, by_key
from chat_app.gateway.completion_request import CompletionRequest, read_completion
from chat_app.gateway.completion_shape import Shape, finish_reason, usage_of
from chat_app.gateway.errors import STORAGE, ApiError, api_error
from chat_app.gateway.pieces import HungUp, carry
from chat_app.gateway.rate_headers import rate_headers
from chat_app.sessions.generations import GenerationView
from chat_app.wiring import Parley

EVENT_STREAM = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}
COMMENT = b": still here\n\n"
HOPELESS = ("bad_input", "context_too_long")
"""Codes of an engine that refused the request itself: asking again would not help."""


def routes(get_parley: GetParley) -> Sequence[BaseRoute]:
    """The route, over the running instance."""

    async def completions(request: Request) -> Response:
        parley = get_parley()
        identity = await by_key(parley, request)
        wanted = read_completion(await request.body())
        started = await parley.turns.call(identity, wanted.messages, wanted.model, wanted.sampling)
        detached = request.headers.get("x-parley-detach", "").lower() == "true"
        return _Answer(parley, identity, wanted, started, detached)

    return [Route("/v1/chat/completions", completions, methods=["POST"])]


class _Answer(Response):
    """Answers with the job that has been started, once the server hands over the connection."""

    def __init__(
        self, parley: Parley, identity: Identity, wanted: CompletionRequest, started: Started, detached: bool
    ) -> None:
        self.status_code = 200
        self.background = None
        self._parley = parley
        self._identity = identity
        self._wanted = wanted
        self._id = started.generation_id
        self._shape = Shape(started.generation_id, started.model, int(time.time()))
        self._detached = detached

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self._wanted.stream:
                await self._stream(receive, send)
            else:
                await (await self._whole(receive))(scope, receive, send)
        except HungUp:
            if not self._detached:
                await self._stop()

    async def _stream(self, receive: Receive, send: Send) -> None:
        headers = {**EVENT_STREAM, **await self._told()}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})

        async def write(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        async def deliver(piece: Piece) -> None:
            if piece.text:
                await write(self._shape.piece(piece.text))

        await write(self._shape.opening())
        try:
            await carry(self._parley.viewer.follow(self._id), deliver, receive, lambda: write(COMMENT))
            ended = await self._ended()
            await write(self._shape.closing(finish_reason(ended)))
            if self._wanted.include_usage:
                await write(self._shape.usage(ended))
            await write(b"data: [DONE]\n\n")
        except (
            ApiError,
            *STORAGE,
        ) as error:  # The status has been sent: the error is the stream's last event.
            await write(b"data: " + orjson.dumps(api_error(error).body()) + b"\n\n")
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _whole(self, receive: Receive) -> Response:
        texts: list[str] = []

        async def keep(piece: Piece) -> None:
            texts.append(piece.text)

        try:
            await carry(self._parley.viewer.follow(self._id), keep, receive)
            ended = await self._ended()
            body = self._shape.whole("".join(texts), finish_reason(ended), usage_of(ended))
            return Response(orjson.dumps(body), 200, await self._told(), "application/json")
        except (ApiError, *STORAGE) as error:
            return api_error(error).response()

    async def _ended(self) -> GenerationView:
        """The finished row. Raises `ApiError` if the answer could not be finished."""
        view = await self._parley.generations.view(self._identity, self._id)
        if view.status == "failed" or not view.ended:
            message = view.error or "The answer could not be finished."
            if (code := view.receipt.get("code")) in HOPELESS and not view.completion_tokens:
                raise api_error(TurnError(code, message))
            raise ApiError(
                503,
                "generation_failed",
                f"{message} What there is of it is under /v1/generations/{self._id}.",
                # It was charged for what was delivered: whether to pay again is the program's to decide.
                headers={"x-should-retry": "false"} if view.completion_tokens else {},
            )
        return view

    async def _told(self) -> dict[str, str]:
        return {"X-Parley-Generation": self._id, **await rate_headers(self._parley, self._identity)}

    async def _stop(self) -> None:
        try:
            # Shielded: the server may end this task together with the connection.
            await asyncio.shield(self._parley.turns.stop(self._identity, self._id))
        except (TurnError, *STORAGE):
            pass  # It has ended already, or its owner cannot be told: then it is settled at its own end.
