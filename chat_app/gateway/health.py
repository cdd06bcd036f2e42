"""What operators' programs ask: is it alive, is it ready, and its figures."""

import asyncio
import hmac
from collections.abc import Awaitable, Sequence
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from chat_app.gateway.caller import GetParley
from chat_app.gateway.errors import ApiError
from chat_app.telemetry.metrics import REGISTRY
from chat_app.wiring import Parley

PATIENCE_S = 2.0
"""How long each part may take to answer before it counts as failing."""


def routes(get_parley: GetParley) -> Sequence[BaseRoute]:
    """The routes, over the running instance."""

    async def healthz(request: Request) -> Response:
        return _json({"status": "ok"})

    async def readyz(request: Request) -> Response:
        try:
            parley = get_parley()
        except RuntimeError:
            return _json({"status": "starting"}, 503)
        body = await _state(parley)
        return _json(body, 503 if body["status"] == "failing" else 200)

    async def metrics(request: Request) -> Response:
        token = get_parley().settings.metrics_token.get_secret_value()
        if not token:  # To come from this machine proves nothing: so does all that a proxy on it passes on.
            raise ApiError(403, "no_metrics_token", "Set PARLEY_METRICS_TOKEN to read the figures.")
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise ApiError(401, "invalid_token", "Send the metrics token.", headers={"WWW-Authenticate": "Bearer"})
        return Response(generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return [
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]


async def _state(parley: Parley) -> dict[str, Any]:
    """Every part's state. Without storage nothing works (`failing`). Without an engine pages do, and answers
    say what is wrong (`degraded`, or `starting` while it loads its model for the first time): taking such a replica
    out of service would turn a clear message into an unclear one."""
    # Looked at first: an engine that is ready while it is asked would be neither "starting" nor heard of.
    loading = parley.supervisor is not None and parley.supervisor.state == "starting"
    database, log, leases, engine = await asyncio.gather(
        _works(parley.db.query("SELECT 1")),
        _works(parley.log.read("readyz")),
        _works(parley.leases.held(["readyz"])),
        _works(parley.client.models()),
    )
    if engine != "ok" and loading:
        engine = "starting"
    stored = database == log == leases == "ok"
    status = "failing" if not stored else engine if engine in ("ok", "starting") else "degraded"
    parts = {"database": database, "log": log, "leases": leases, "engine": engine}
    own = {"engine_process": parley.supervisor.state} if parley.supervisor else {}
    return {"status": status, **parts, **own}


async def _works(asked: Awaitable[object]) -> str:
    """`ok`, or why not: without addresses or other details, since anybody may ask."""
    try:
        await asyncio.wait_for(asked, PATIENCE_S)
    except TimeoutError:
        return "no answer"
    except Exception as error:
        return type(error).__name__
    return "ok"


def _json(body: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, {"Cache-Control": "no-store"}, "application/json")
