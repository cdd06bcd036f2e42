"""`/v1/generations/{id}`: an answer as the durable job that it is, for its owner, on any replica.

A program whose connection broke asks here for the rest: `events` goes on from any offset, and each event's
`id` is the offset behind it, so a client that sends Last-Event-ID (as browsers' EventSource does) misses and
repeats nothing.
"""

import re
from collections.abc import Sequence
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from chat_app.accounts.identity import Identity
from chat_app.data.log.base import Piece
from chat_app.gateway.caller import GetParley, by_key
from chat_app.gateway.completion_shape import usage_of
from chat_app.gateway.completions import COMMENT, EVENT_STREAM
from chat_app.gateway.errors import STORAGE, ApiError, api_error
from chat_app.gateway.pieces import HungUp, carry
from chat_app.sessions.generations import GenerationView
from chat_app.wiring import Parley

_ID = re.compile(r"(?:chatcmpl-)?([0-9a-f]{32})")


def routes(get_parley: GetParley) -> Sequence[BaseRoute]:
    """The routes, over the running instance."""

    async def found(request: Request) -> tuple[Parley, Identity, GenerationView]:
        parley = get_parley()
        identity = await by_key(parley, request)
        match = _ID.fullmatch(request.path_params["id"])
        if match is None:
            raise ApiError(404, "not_found", "There is no such generation, or it is not yours.")
        return parley, identity, await parley.generations.view(identity, match[1])

    async def view(request: Request) -> Response:
        parley, _, generation = await found(request)
        text = await parley.viewer.text(generation.id)
        return Response(orjson.dumps({**_json(generation), "text": text}), media_type="application/json")

    async def stop(request: Request) -> Response:
        parley, identity, generation = await found(request)
        await parley.turns.stop(identity, generation.id)
        return Response(orjson.dumps(_json(generation)), 202, media_type="application/json")

    async def events(request: Request) -> Response:
        parley, identity, generation = await found(request)
        return _Events(parley, identity, generation.id, _offset(request))

    return [
        Route("/v1/generations/{id}", view, methods=["GET"]),
        Route("/v1/generations/{id}/stop", stop, methods=["POST"]),
        Route("/v1/generations/{id}/events", events, methods=["GET"]),
    ]


class _Events(Response):
    """The text from an offset on as server-sent events, then one event named `end` with the final state."""

    def __init__(self, parley: Parley, identity: Identity, generation_id: str, offset: int) -> None:
        self.status_code = 200
        self.background = None
        self._parley = parley
        self._identity = identity
        self._id = generation_id
        self._offset = offset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name.lower().encode(), value.encode()) for name, value in EVENT_STREAM.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def write(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        async def deliver(piece: Piece) -> None:
            if piece.text:
                await write(_event(piece.offset + len(piece.text), {"offset": piece.offset, "text": piece.text}))

        try:
            await carry(self._parley.viewer.follow(self._id, self._offset), deliver, receive, lambda: write(COMMENT))
            ended = await self._parley.generations.view(self._identity, self._id)
            await write(b"event: end\ndata: " + orjson.dumps(_json(ended)) + b"\n\n")
        except STORAGE as error:
            await write(b"event: error\ndata: " + orjson.dumps(api_error(error).body()) + b"\n\n")
        except HungUp:
            return  # Looking on is free: the answer goes on.
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _json(view: GenerationView) -> dict[str, Any]:
    return {
        "id": view.id,
        "object": "generation",
        "status": view.status,
        "model": view.model,
        "created": view.created_at // 1000,
        "error": view.error or None,
        "usage": usage_of(view),
        "receipt": view.receipt,
    }


def _event(offset: int, data: dict[str, Any]) -> bytes:
    return b"id: %d\ndata: %b\n\n" % (offset, orjson.dumps(data))


def _offset(request: Request) -> int:
    said = request.headers.get("last-event-id") or request.query_params.get("offset") or "0"
    if not said.isascii() or not said.isdigit() or len(said) > 12:
        raise ApiError(400, "bad_input", "offset: must be a number of characters, 0 or more.", param="offset")
    return int(said)
