"""Counts HTTP requests by route and status. Plain ASGI, so streams stay streams; sockets pass untouched.

A route is a template (`/v1/generations/{id}`), never an address that somebody typed: the number of figures stays
small and holds nothing private. It does not know what a request wants.
"""

import inspect
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_app.telemetry.metrics import HTTP, HTTP_SECONDS

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class MeasuredHttp:
    """Wraps an app whose routes Starlette resolves."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500
        path = scope["path"]

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                HTTP_SECONDS.labels(_route(scope, path)).observe(time.perf_counter() - begun)
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            _count(scope["method"], _route(scope, path), status)


class RouteFigures:
    """The same figures for one route that measures itself."""

    def __init__(self, route: str) -> None:
        self._route = route
        self._seconds = HTTP_SECONDS.labels(route)

    def responding(self, seconds: float) -> None:
        """Its headers are sent, `seconds` after the request came."""
        self._seconds.observe(seconds)

    def over(self, method: str, status: int) -> None:
        """A request is over."""
        _count(method, self._route, status)


def _count(method: str, route: str, status: int) -> None:
    HTTP.labels(method if method in _METHODS else "other", route, str(status)).inc()


def _route(scope: Scope, path: str) -> str:
    """The route's template; `pages` for the apps that are mounted beside the routes."""
    endpoint = scope.get("endpoint")
    if endpoint is None:
        return "unmatched"
    if not inspect.isroutine(endpoint):
        return "pages"
    for name, value in (scope.get("path_params") or {}).items():
        if path.endswith(f"/{value}"):  # The last segment, or the whole rest of the address.
            path = f"{path[: len(path) - len(str(value))]}{{{name}}}"
        else:
            path = path.replace(f"/{value}/", f"/{{{name}}}/", 1)
    return path
