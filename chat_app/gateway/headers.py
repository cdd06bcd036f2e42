"""Security headers on every answer, pages and API alike. Plain ASGI: nothing is buffered, streams stay streams.

The content policy here closes what nothing of ours ever needs. What a page may load and run is said by the pages
themselves (`ui.static`), whose own policy stays.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "frame-ancestors 'none'; object-src 'none'; base-uri 'none'; form-action 'self'"

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"content-security-policy", POLICY.encode()),
)
_NAMES = frozenset(name for name, _ in HEADERS)


class SecurityHeaders:
    """Wraps an ASGI app; a header that the app sets itself stays as it is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]} & _NAMES
                message["headers"] = [
                    *message["headers"],
                    *(header for header in HEADERS if header[0] not in present),
                ]
            await send(message)

        await self._app(scope, receive, with_headers)
