"""The service over HTTP: OpenAI's chat completions (SSE or whole), embeddings and models, vLLM's tokenize, and numbers.

A client that closes its connection cancels its job at once, wherever that is: aiohttp cancels the handler, which
closes the service's stream. Knows no engine.
"""

import asyncio
import hmac
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import orjson
from aiohttp import web
from aiohttp.typedefs import Middleware
from prometheus_client import CONTENT_TYPE_LATEST

from inference.answer import Answer, card_body, embeddings_body, error_body
from inference.body import Completion, Conversation, Detokenize, Embedding, Load, Tokenize, Unload, fields, parse
from inference.models import Models
from inference.pacing import joined
from inference.protocol import BadRequest, Chunk, EngineDied, EngineError, Overloaded

MAX_BODY = 4 * 2**20
STALLED_S = 30.0  # A client that takes nothing for so long has gone, whatever its socket says.
QUIET_S = 5.0  # So often a waiting client hears that we are still here.
PROGRESS_S = 0.2
OPEN = frozenset({"/health"})
OURS = "X-Parley-Gather-Ms"  # Who sends it reads what only our events have.
LOAD, UNLOAD = "/models/load", "/models/unload"
ADMIN_ONLY = "this wants the administrator's key"
NO_ADMIN = "this service was started without an administrator's key (--admin-key-file)"

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(models: Models, key: str = "", admin_key: str = "") -> web.Application:
    """The web application; with a `key`, everything but `/health` wants it as a bearer token. Loading and unloading
    wants the `admin_key`, which also opens everything else; without one nobody may.

    Run it with `handler_cancellation=True`, or clients that leave are not noticed.
    """
    app = web.Application(client_max_size=MAX_BODY, middlewares=[_errors, _keyed(key, admin_key)])
    routes = _Routes(models)
    app.add_routes(
        [
            web.post("/v1/chat/completions", routes.chat),
            web.post("/v1/embeddings", routes.embeddings),
            web.get("/v1/models", routes.models),
            web.post("/tokenize", routes.tokenize),
            web.post("/detokenize", routes.detokenize),
            web.get("/queue", routes.queue),
            web.post(LOAD, routes.load),
            web.post(UNLOAD, routes.unload),
            web.get("/health", routes.health),
            web.get("/metrics", routes.metrics),
            web.get("/status", routes.status),
        ]
    )
    return app


class _Routes:
    def __init__(self, models: Models) -> None:
        self._models = models
        self._works: set[asyncio.Task[None]] = set()

    async def chat(self, http: web.Request) -> web.StreamResponse:
        body = parse(Completion, fields(await http.read()))
        request = body.request(http.headers)
        answer = Answer(self._models.hosted(request.model).id, request.request_id, OURS in http.headers)
        async with aclosing(self._models.stream(request)) as chunks:
            if body.stream:
                return await _stream(http, answer, chunks, body.wants_usage)
            whole = joined([chunk async for chunk in chunks])
            return _json(answer.whole(whole, whole.logprobs if body.logprobs else None))

    async def embeddings(self, http: web.Request) -> web.StreamResponse:
        body = parse(Embedding, fields(await http.read()))
        async with self._models.use(body.model) as service:
            made = await service.embed(body.texts, body.user or "")
            return _json(embeddings_body(service.engine.capabilities.model, made, body.encoding_format))

    async def models(self, http: web.Request) -> web.StreamResponse:
        return _json({"object": "list", "data": [card_body(card) for card in self._models.cards()]})

    async def tokenize(self, http: web.Request) -> web.StreamResponse:
        body = fields(await http.read())
        asked = parse(Conversation, body) if "messages" in body else parse(Tokenize, body)
        async with self._models.use(asked.model) as service:
            engine = service.engine
            if isinstance(asked, Tokenize):
                tokens = await engine.tokenize(asked.prompt)
            else:
                tokens = await service.prompt(*asked.split(), asked.offered)
            return _json({"count": len(tokens), "max_model_len": engine.capabilities.context, "tokens": tokens})

    async def detokenize(self, http: web.Request) -> web.StreamResponse:
        body = parse(Detokenize, fields(await http.read()))
        async with self._models.use(body.model) as service:
            return _json({"prompt": await service.engine.detokenize(body.tokens)})

    async def queue(self, http: web.Request) -> web.StreamResponse:
        positions = self._models.queue_positions()
        return _json({"waiting": {id: [at.position, at.eta_s] for id, at in positions.items()}})

    async def load(self, http: web.Request) -> web.StreamResponse:
        body = parse(Load, fields(await http.read()))
        one = self._models.hosted(body.model)
        work = self._begun(self._models.load(body.model, body.switch))
        if not body.stream:
            await asyncio.shield(work)
            return _json({"model": one.id, "state": one.state})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(http)
        said = b""
        while not work.done():
            event = _event({"model": one.id, "state": one.state, "progress": round(one.progress, 2)})
            if event != said:
                await _write(response, event)
                said = event
            await asyncio.wait({work}, timeout=PROGRESS_S)
        failed = work.exception()
        await _write(
            response,
            _event(error_body(failed))
            if isinstance(failed, EngineError)
            else _event({"model": one.id, "state": one.state}),
        )
        await response.write_eof()
        return response

    async def unload(self, http: web.Request) -> web.StreamResponse:
        body = parse(Unload, fields(await http.read()))
        one = self._models.hosted(body.model)
        await asyncio.shield(self._begun(self._models.unload(body.model, body.drain_s)))
        return _json({"model": one.id, "state": one.state})

    def _begun(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """The work as a task that goes on when whoever asked for it has left: half of it would be worse than none."""
        task = asyncio.create_task(work)
        self._works.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._works.discard(task)
        if not task.cancelled():
            task.exception()

    async def health(self, http: web.Request) -> web.StreamResponse:
        if await self._models.healthy():
            return _json({"status": "ok"})
        return _json({"status": self._models.hosted("").state}, 503)

    async def metrics(self, http: web.Request) -> web.StreamResponse:
        return web.Response(body=self._models.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def status(self, http: web.Request) -> web.StreamResponse:
        return _json(self._models.status())


async def _stream(
    http: web.Request, answer: Answer, chunks: AsyncGenerator[Chunk, None], wants_usage: bool
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    # Nothing is sent before the first chunk, so that a refusal still has its status; unless that takes long.
    coming = asyncio.ensure_future(anext(chunks))
    try:
        while not (await asyncio.wait({coming}, timeout=QUIET_S))[0]:
            if not response.prepared:
                await response.prepare(http)
            await _write(response, b": waiting\n\n")
        chunk = coming.result()
        if not response.prepared:
            await response.prepare(http)
        while chunk.finish is None:
            await _write(response, answer.event(chunk))
            chunk = await anext(chunks)
        await asyncio.wait_for(response.write_eof(answer.end(chunk, wants_usage)), STALLED_S)
    except EngineDied:
        if not response.prepared:
            raise
        if http.transport is not None:
            http.transport.close()  # An end without a finish is how a stream says that its engine died.
    except EngineError as error:
        if not response.prepared:
            raise
        await response.write_eof(_event(error_body(error)))
    except TimeoutError:
        if http.transport is not None:
            http.transport.abort()
    finally:
        if not coming.done():
            coming.cancel()
            await asyncio.wait({coming})
    return response


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(STALLED_S):
        await response.write(data)


def _event(body: object) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Overloaded as error:
        refused = _json(error_body(error), error.status)
        refused.headers["Retry-After"] = str(max(1, round(error.retry_after)))
        return refused
    except EngineError as error:
        return _json(error_body(error), error.status)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        wrong = BadRequest(f"{error.reason}: {request.method} {request.path}")
        return _json(error_body(wrong), error.status)
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return _json(error_body(EngineError("the service itself has failed; its log says why")), 500)


def _keyed(key: str, admin_key: str) -> Middleware:
    expected, admin = f"Bearer {key}".encode(), f"Bearer {admin_key}".encode()

    @web.middleware
    async def keyed(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        administers = bool(admin_key) and hmac.compare_digest(given, admin)
        if key and not administers and request.path not in OPEN and not hmac.compare_digest(given, expected):
            return _refused(401, "invalid_api_key", "wrong or missing key")
        if request.path in (LOAD, UNLOAD) and not administers:
            return _refused(403, "admin_only", ADMIN_ONLY if admin_key else NO_ADMIN)
        return await handler(request)

    return keyed


def _refused(status: int, code: str, message: str) -> web.Response:
    return _json({"error": {"message": message, "type": "authentication_error", "code": code}}, status)
