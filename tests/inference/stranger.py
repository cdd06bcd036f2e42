"""Somebody else's server, as good or bad as a test wants it to be."""

import asyncio

import orjson
from aiohttp import web


class Stranger:
    """It has no /health and no /tokenize, a /status only if one is given, and says `words`, or does as its mood is:
    "refuses", "dies", "hangs" at everything, or "falls silent" behind the words and hangs from then on."""

    def __init__(self, mood: str = "answers", retry_after: int = 1, words: str = "stranger"):
        self.mood = mood
        self.status: dict[str, object] | None = None
        self.retry_after = retry_after
        self.words = words
        self.asked = 0

    async def serve(self, http: web.Request) -> web.StreamResponse:
        if self.mood == "hangs":
            await asyncio.Event().wait()
        if http.path == "/v1/models":
            return web.json_response({"data": [{"id": "scripted", "max_model_len": 4_096}]})
        if http.path == "/status" and self.status is not None:
            return web.json_response(self.status)
        if http.path != "/v1/chat/completions":
            return web.json_response({"error": {"message": "no such page"}}, status=404)
        self.asked += 1
        if self.mood == "refuses":
            return web.json_response({}, status=429, headers={"Retry-After": str(self.retry_after)})
        if self.mood == "dies":
            assert http.transport is not None
            http.transport.abort()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        await response.write(self._event({"delta": {"content": self.words}}))
        if self.mood == "falls silent":
            self.mood = "hangs"
            await asyncio.Event().wait()
        await response.write(self._event({"delta": {}, "finish_reason": "stop"}) + b"data: [DONE]\n\n")
        return response

    def _event(self, choice: dict[str, object]) -> bytes:
        return b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n"
