"""`GET /v1/models`: the models that the engine offers now."""

from collections.abc import Sequence
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from chat_app.gateway.caller import GetParley, by_key
from chat_app.gateway.errors import ApiError
from chat_app.turn.abilities import within
from inference.protocol import ModelCard

NOT_SERVED = ("logprobs", "embeddings")
"""What engines can and no route of this API does."""


def routes(get_parley: GetParley) -> Sequence[BaseRoute]:
    """The routes, over the running instance."""

    async def models(request: Request) -> Response:
        parley = get_parley()
        grant = await by_key(parley, request, "models")
        cards = within(grant.rights.models, await parley.client.models())
        return _json({"object": "list", "data": [_card(card) for card in cards]})

    async def model(request: Request) -> Response:
        parley = get_parley()
        grant = await by_key(parley, request, "models")
        for card in within(grant.rights.models, await parley.client.models()):
            if card.id == request.path_params["id"]:
                return _json(_card(card))
        raise ApiError(404, "model_not_found", "There is no such model here.", param="model")

    return [
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/models/{id:path}", model, methods=["GET"]),
    ]


def _card(card: ModelCard) -> dict[str, Any]:
    # `created` is part of the shape, and unknown: engines do not say when a model was made.
    return {
        "id": card.id,
        "object": "model",
        "created": 0,
        "owned_by": card.engine or "parley",
        "context_window": card.context or None,
        "ready": card.ready,
        "abilities": [ability for ability in card.abilities if ability not in NOT_SERVED],
    }


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")
