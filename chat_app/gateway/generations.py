"""`/v1/generations/{id}`: an answer as the durable job that it is, for its owner, on any replica.

A program whose connection broke asks here for the rest: `events` goes on from any offset of the answer's log, and each
event's `id` is the offset behind it, so a client that sends Last-Event-ID (as browsers' EventSource does) misses and
repeats nothing.
"""

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from chat_app.accounts.grant import Grant
from chat_app.data.log.entries import text_of
from chat_app.gateway.caller import GetParley, by_key
from chat_app.gateway.connection import Connection, HungUp
from chat_app.gateway.errors import ApiError, reported, wrong
from chat_app.gateway.force import KeyEnded, while_in_force
from chat_app.gateway.generation_shape import events_of, shaped, typed
from chat_app.gateway.sse import EVENT_STREAM, relay
from chat_app.sessions.generations import GenerationView
from chat_app.sessions.viewer import Gone, Update
from chat_app.wiring import Parley

_ID = re.compile(r"(?:chatcmpl-)?([0-9a-f]{32})")


def routes(get_parley: GetParley) -> Sequence[BaseRoute]:
    """The routes, over the running instance."""

    async def found(request: Request) -> tuple[Parley, Grant, GenerationView]:
        parley = get_parley()
        grant = await by_key(parley, request, "generations")
        match = _ID.fullmatch(request.path_params["id"])
        if match is None:
            raise ApiError(404, "not_found", "There is no such generation, or it is not yours.")
        return parley, grant, await parley.generations.view(grant.identity, match[1])

    async def view(request: Request) -> Response:
        parley, _, generation = await found(request)
        try:
            entries = await parley.viewer.entries(generation.id)
        except Gone as gone:
            said: dict[str, Any] = {"text": None, "entries": None, "gone": True, "log_length": gone.log_length}
        else:
            said = {"text": text_of(entries), "entries": list(map(typed, entries))}
        return Response(orjson.dumps({**shaped(generation), **said}), media_type="application/json")

    async def stop(request: Request) -> Response:
        parley, grant, generation = await found(request)
        await parley.turns.stop(grant.identity, generation.id)
        return Response(orjson.dumps(shaped(generation)), 202, media_type="application/json")

    async def events(request: Request) -> Response:
        parley, grant, generation = await found(request)
        updates = parley.viewer.follow(generation.id, _offset(request))
        # What has ended is read at once: that it is gone can still be the status.
        first = await anext(updates, None) if generation.ended else None
        return _Events(parley, grant, generation.id, _chained(first, updates))

    return [
        Route("/v1/generations/{id}", view, methods=["GET"]),
        Route("/v1/generations/{id}/stop", stop, methods=["POST"]),
        Route("/v1/generations/{id}/events", events, methods=["GET"]),
    ]


async def _chained(first: Update | None, rest: AsyncGenerator[Update, None]) -> AsyncGenerator[Update, None]:
    async with aclosing(rest):
        if first is not None:
            yield first
        async for update in rest:
            yield update


class _Events(Response):
    """The entries from an offset on as server-sent events, then one event named `end` with the final state."""

    def __init__(self, parley: Parley, grant: Grant, generation_id: str, updates: AsyncGenerator[Update, None]) -> None:
        self.status_code = 200
        self.background = None
        self._parley = parley
        self._grant = grant
        self._id = generation_id
        self._updates = updates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = Connection(receive, send)
        try:
            async with connection:
                with while_in_force(self._parley, self._grant, connection):
                    await connection.start(200, EVENT_STREAM)
                    await connection.write(await self._last(connection), last=True)
        except HungUp:
            return  # Looking on is free: the answer goes on.
        except KeyEnded as error:
            with suppress(HungUp):
                await connection.write_soon(_error(error))

    async def _last(self, connection: Connection) -> bytes:
        """Send everything but the last event, and return that."""
        try:
            await relay(self._updates, connection, events_of)
            ended = await self._parley.generations.view(self._grant.identity, self._id)
        except HungUp:
            raise
        except Exception as error:  # The status has been sent.
            return _error(reported(error))
        return b"event: end\ndata: " + orjson.dumps(shaped(ended)) + b"\n\n"


def _error(error: ApiError) -> bytes:
    return b"event: error\ndata: " + orjson.dumps(error.body()) + b"\n\n"


def _offset(request: Request) -> int:
    said = request.headers.get("last-event-id") or request.query_params.get("offset") or "0"
    if not said.isascii() or not said.isdigit() or len(said) > 12:
        raise wrong("offset", "must be a number of characters, 0 or more")
    return int(said)
