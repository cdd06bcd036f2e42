"""How a program speaks with an inference service: HTTP + SSE in the OpenAI shape, over a pooled aiohttp session.

Works with our own service and, for `stream`, with any OpenAI-compatible server. Lean on purpose: it lies between every
token and its reader. Knows nothing of how engines are started or chosen.
"""

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import aiohttp
import orjson

from inference.gathering import Gathering
from inference.pacing import EACH_S
from inference.protocol import (
    BadRequest,
    CannotCount,
    Chunk,
    Embeddings,
    EngineDied,
    EngineError,
    Message,
    ModelCard,
    QueuePosition,
    Request,
    Tool,
)
from inference.reading import Reading
from inference.wire import (
    GONE,
    card_in,
    completion_body,
    conversation,
    embeddings_in,
    error_from,
    error_in,
    words,
)

# Shorter than any server's own (uvicorn: 5 s), so that a pooled connection is never one the server is just closing.
KEEP_ALIVE_S = 4.0
ASK_AGAIN_S = 60.0  # A server that could not count is asked again after so long.
NO_COUNT = "this engine cannot count tokens: it has no /tokenize"
# How a pooled connection looks that the server closed nevertheless. Nothing was answered, so asking again is harmless.
STALE = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


class InferenceClient:
    """A client of one service. `url` is its root ("http://127.0.0.1:4000"), or a function that returns the present one
    ("" while there is none), since an engine that was restarted has a new address. One instance serves a whole process.

    `read_timeout`: seconds of silence after which a stream counts as dead. `pooled` False gives every request a
    connection of its own, so that none is ever sent twice. Raises only `EngineError`s.
    """

    def __init__(
        self,
        url: str | Callable[[], str],
        key: str = "",
        *,
        read_timeout: float = 120.0,
        connect_timeout: float = 5.0,
        pooled: bool = True,
    ) -> None:
        self._url = url
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._pooled = pooled
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout, sock_read=read_timeout)
        self._session: aiohttp.ClientSession | None = None
        self._streams = 0
        self._counts_from = 0.0
        self._counted_at = ""

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """The answer, chunk by chunk; the last chunk has `finish`.

        Closing the generator (`aclose`, `contextlib.aclosing`) or cancelling its reader closes the connection at once,
        which is how a stop reaches the engine. A connection that is refused, cut, silent for too long, or that ends
        without a finish raises `EngineDied`; everything yielded before that stands.
        """
        headers = {
            "X-Request-Id": request.request_id,
            "X-Parley-Weight": str(request.weight),
            "X-Parley-Gather-Ms": str(request.gather_ms),
            "X-Parley-Max-Wait-Ms": str(request.max_wait_ms),
        }
        response = await self._send("POST", "/v1/chat/completions", completion_body(request), headers)
        gathering: Gathering | None = None
        self._streams += 1
        try:
            reading = Reading(request)
            async for data in response.content.iter_any():
                for chunk in reading.feed(data):
                    yield chunk
                if reading.error:
                    raise reading.error
                if reading.done:
                    break
                if gathering is None and reading.begun and not reading.paced and request.gather_ms:
                    gathering = self._gathered(response, request.gather_ms / 1_000)
            yield reading.end()
        except GONE as error:
            self._counts_from = 0.0
            raise EngineDied(f"the connection to the engine broke: {words(error)}") from error
        except RuntimeError as error:  # How aiohttp reads from a session that `close` has just closed.
            raise EngineDied(f"the connection to the engine broke: {words(error)}") from error
        finally:
            self._streams -= 1
            if gathering is not None:
                gathering.stop()
            response.close()

    def _gathered(self, response: aiohttp.ClientResponse, most: float) -> Gathering | None:
        """What holds back the rest of the answer, for as long as `pacing` would; None if all of it is here."""
        connection = response.connection
        if connection is None or connection.transport is None or connection.protocol is None:
            return None
        # Silence must not look longer than it is.
        most = min(most, (self._timeout.sock_read or most) / 2)
        return Gathering(connection.transport, connection.protocol, lambda: min(EACH_S * self._streams, most))

    async def count(
        self, model: str, messages: Sequence[Message], continue_from: str = "", tools: Sequence[Tool] = ()
    ) -> int:
        """Tokens of the prompt that these messages and tools make, template and generation prompt included.

        With `continue_from` also those of an answer's beginning, exactly as `stream` would send it. Raises
        `CannotCount` for a server that has no /tokenize as vLLM and our service have it; it is asked again after
        `ASK_AGAIN_S`, or when it was away meanwhile.
        """
        if time.monotonic() < self._counts_from and self._counted_at == self._address():
            raise CannotCount(NO_COUNT)
        self._counted_at = self._address()
        body = orjson.dumps({"model": model, **conversation(messages, continue_from, tools)})
        try:
            return int((await self._json("POST", "/tokenize", body))["count"])
        except CannotCount:
            self._counts_from = time.monotonic() + ASK_AGAIN_S
            raise
        except (KeyError, TypeError, ValueError) as error:  # llama-server's has no count.
            self._counts_from = time.monotonic() + ASK_AGAIN_S
            raise CannotCount("this engine's /tokenize does not answer with a count") from error

    async def embed(self, model: str, texts: Sequence[str], user: str = "") -> Embeddings:
        """A vector for each text. Raises `BadRequest` if the server or the model cannot do that."""
        body = {"model": model, "input": list(texts), "encoding_format": "float", **({"user": user} if user else {})}
        return embeddings_in(await self._json("POST", "/v1/embeddings", orjson.dumps(body)), len(texts))

    async def models(self) -> list[ModelCard]:
        """The models that the service lists."""
        listed = await self.ask("GET", "/v1/models")
        try:
            return [card_in(entry) for entry in listed.get("data") or ()]
        except (AttributeError, TypeError, ValueError) as error:
            raise EngineError("/v1/models did not answer with a list of models") from error

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The JSON object that the server returns, for whatever it offers beside what has a method here."""
        return await self._json(method, path, None if body is None else orjson.dumps(body))

    async def queue_positions(self) -> dict[str, QueuePosition]:
        """Every request that waits for its turn, by its id. Empty for a service that does not list them."""
        try:
            waiting = (await self._json("GET", "/queue"))["waiting"]
            return {id: QueuePosition(int(position), float(eta_s)) for id, (position, eta_s) in waiting.items()}
        except (EngineError, KeyError, TypeError, ValueError, AttributeError):
            return {}

    async def health(self) -> bool:
        """Whether the service is up and warm. Never raises."""
        try:
            response = await self._send("GET", "/health")
        except EngineError:
            return False
        response.close()
        return True

    async def close(self) -> None:
        """Drops all connections; running streams end with `EngineDied`."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _send(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> aiohttp.ClientResponse:
        url = self._address()
        if not url:
            raise EngineDied("the engine is not running yet")
        try:
            try:
                response = await self._pool().request(method, url.rstrip("/") + path, data=body, headers=headers)
            except STALE as error:
                if not self._pooled or isinstance(error, aiohttp.ClientConnectorError):
                    raise
                response = await self._pool().request(method, url.rstrip("/") + path, data=body, headers=headers)
            if response.status == 200:
                return response
            raw = await response.read()
        except GONE as error:
            self._counts_from = 0.0  # Whatever comes back there may be something else.
            raise EngineDied(f"the engine cannot be reached: {words(error)}") from error
        except (aiohttp.InvalidURL, UnicodeError) as error:  # The second of a name that no resolver can be asked for.
            raise EngineError(f"the engine's address is no address: {url}") from error
        except aiohttp.ClientError as error:
            raise EngineError(f"the engine's answer was not understood: {words(error)}") from error
        if path == "/tokenize" and response.status in (404, 405, 501) and b"model_not_found" not in raw:
            raise CannotCount(NO_COUNT)
        if path == "/v1/embeddings" and response.status in (404, 405) and b"model_not_found" not in raw:
            raise BadRequest("this server makes no embeddings: it has no /v1/embeddings")
        raise error_from(response.status, error_in(raw), response.headers.get("Retry-After"))

    def _address(self) -> str:
        return self._url if isinstance(self._url, str) else self._url()

    async def _json(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        response = await self._send(method, path, body)
        try:
            answer = orjson.loads(await response.read())
        except GONE as error:
            raise EngineDied(f"the connection to the engine broke: {words(error)}") from error
        except orjson.JSONDecodeError as error:
            raise EngineError(f"{path} did not answer with JSON") from error
        if not isinstance(answer, dict):
            raise EngineError(f"{path} did not answer with an object")
        return answer

    def _pool(self) -> aiohttp.ClientSession:
        # Made on first use: a session belongs to the loop that is running.
        if self._session is None or self._session.closed:
            if self._pooled:
                connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
            else:
                connector = aiohttp.TCPConnector(limit=0, force_close=True)
            self._session = aiohttp.ClientSession(
                connector=connector, headers=self._headers, timeout=self._timeout, auto_decompress=False
            )
        return self._session
