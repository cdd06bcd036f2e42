"""The page's static files on their way out: which file an address means, how long it may be kept, what a page may do.

Files under `/assets/` carry a hash in their name, so they are kept for good; everything else is asked for each time.
It does not know the API, whose responses have headers of their own.
"""

from functools import cached_property

from reflex.utils.prerequisites import get_web_dir
from reflex_base import constants
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FOR_GOOD = "public, max-age=31536000, immutable"
# Reflex starts its page with inline scripts and runs its own events by eval; what it never needs is closed: pictures,
# frames, plug-ins and connections to other places, and being framed itself.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "frame-src 'none'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)


class StaticFiles:
    """Wraps the whole app and touches only responses to GET that are a page or a static file."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    @cached_property
    def _pages(self) -> set[str]:
        """Addresses of the pages that lie ready as `<address>/index.html`."""
        directory = get_web_dir() / constants.Dirs.STATIC
        return {f"/{page.parent.relative_to(directory)}" for page in directory.glob("*/**/index.html")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if path in self._pages:  # Or the file server would redirect to the address with a slash.
            scope = {**scope, "path": f"{path}/index.html"}

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add(MutableHeaders(scope=message), path, message["status"])
            await send(message)

        await self._app(scope, receive, with_headers)


def _add(headers: MutableHeaders, path: str, status: int) -> None:
    if headers.get("content-type", "").startswith("text/html"):
        headers["content-security-policy"] = POLICY
        headers["x-content-type-options"] = "nosniff"
        headers["referrer-policy"] = "same-origin"
        headers["cache-control"] = "no-cache"
    elif path.startswith("/assets/"):
        headers["x-content-type-options"] = "nosniff"
        headers["cache-control"] = FOR_GOOD if status in (200, 304) else "no-store"
