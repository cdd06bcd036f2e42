"""The service over HTTP: OpenAI's chat completions (SSE or whole) and models, vLLM's tokenize, health and numbers.

A client that closes its connection cancels its job at once, wherever that is: aiohttp cancels the handler, which
closes the service's stream. Knows no engine.
"""

import asyncio
import hmac
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import orjson
from aiohttp import web
from aiohttp.typedefs import Middleware
from prometheus_client import CONTENT_TYPE_LATEST

from inference.answer import Answer, card_body, error_body
from inference.body import Completion, Conversation, Detokenize, Tokenize, fields, parse
from inference.pacing import FRAME_S, paced
from inference.protocol import BadRequest, Chunk, EngineDied, EngineError, Finish, Overloaded, Usage
from inference.service import Service

MAX_BODY = 4 * 2**20
STALLED_S = 30.0  # A client that takes nothing for so long has gone, whatever its socket says.
QUIET_S = 5.0  # So often a waiting client is told that we are still here.
OPEN = frozenset({"/health"})

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(service: Service, key: str = "") -> web.Application:
    """The web application; with a `key`, everything but `/health` wants it as a bearer token.

    Run it with `handler_cancellation=True`, or clients that leave are not noticed.
    """
    app = web.Application(client_max_size=MAX_BODY, middlewares=[_errors, _keyed(key)])
    routes = _Routes(service)
    app.add_routes(
        [
            web.post("/v1/chat/completions", routes.chat),
            web.get("/v1/models", routes.models),
            web.post("/tokenize", routes.tokenize),
            web.post("/detokenize", routes.detokenize),
            web.get("/queue", routes.queue),
            web.get("/health", routes.health),
            web.get("/metrics", routes.metrics),
            web.get("/status", routes.status),
        ]
    )
    return app


class _Routes:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def chat(self, http: web.Request) -> web.StreamResponse:
        body = parse(Completion, fields(await http.read()))
        request = body.request(http.headers)
        answer = Answer(self._service.card().id, request.request_id)
        async with aclosing(self._service.stream(request)) as chunks:
            if body.stream and request.gather_ms:
                most = request.gather_ms / 1_000
                async with aclosing(paced(chunks, lambda: min(FRAME_S * self._service.queue.running, most))) as pieces:
                    return await _stream(http, answer, pieces, body.wants_usage)
            if body.stream:
                return await _stream(http, answer, chunks, body.wants_usage)
            text: list[str] = []
            finish: Finish = "stop"
            usage: Usage | None = None
            async for chunk in chunks:
                text.append(chunk.text)
                finish, usage = chunk.finish or finish, chunk.usage or usage
            return _json(answer.whole("".join(text), finish, usage))

    async def models(self, http: web.Request) -> web.StreamResponse:
        return _json({"object": "list", "data": [card_body(self._service.card())]})

    async def tokenize(self, http: web.Request) -> web.StreamResponse:
        body = fields(await http.read())
        engine, context = self._service.engine, self._service.engine.capabilities.context
        if "messages" in body:
            conversation = parse(Conversation, body)
            self._service.check(conversation.model)
            tokens = await engine.prompt(*conversation.split())
        else:
            text = parse(Tokenize, body)
            self._service.check(text.model)
            tokens = await engine.tokenize(text.prompt)
        return _json({"count": len(tokens), "max_model_len": context, "tokens": tokens})

    async def detokenize(self, http: web.Request) -> web.StreamResponse:
        body = parse(Detokenize, fields(await http.read()))
        self._service.check(body.model)
        return _json({"prompt": await self._service.engine.detokenize(body.tokens)})

    async def queue(self, http: web.Request) -> web.StreamResponse:
        standings = self._service.queue.standings()
        return _json({"waiting": {id: [at.position, at.eta_s] for id, at in standings.items()}})

    async def health(self, http: web.Request) -> web.StreamResponse:
        state = self._service.state
        healthy = state == "ready" and await self._service.engine.health()
        return _json({"status": "ok" if healthy else state}, 200 if healthy else 503)

    async def metrics(self, http: web.Request) -> web.StreamResponse:
        return web.Response(body=self._service.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def status(self, http: web.Request) -> web.StreamResponse:
        return _json(self._service.status())


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
        await response.write_eof(b"data: " + orjson.dumps(error_body(error)) + b"\n\n")
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


def _keyed(key: str) -> Middleware:
    expected = f"Bearer {key}".encode()

    @web.middleware
    async def keyed(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if key and request.path not in OPEN and not hmac.compare_digest(given, expected):
            refused = {"message": "wrong or missing key", "type": "authentication_error", "code": "invalid_api_key"}
            return _json({"error": refused}, 401)
        return await handler(request)

    return keyed
