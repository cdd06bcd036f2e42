"""The page's static files on their way out: which file an address means, how long it may be kept, what a page may do.

Files under `/assets/` carry a hash in their name, so they are kept for good; everything else is asked for each time.
It does not know the API, whose responses have headers of their own.
"""

from functools import cached_property

from reflex.utils.prerequisites import get_web_dir
from reflex_base import constants
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_app.ui.content_policy import ContentPolicy

FOR_GOOD = "public, max-age=31536000, immutable"


class StaticFiles:
    """Wraps the whole app and touches only responses to GET that are a page or a static file."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    @cached_property
    def _pages(self) -> set[str]:
        """Addresses of the pages that lie ready as `<address>/index.html`."""
        directory = get_web_dir() / constants.Dirs.STATIC
        return {f"/{page.parent.relative_to(directory)}" for page in directory.glob("*/**/index.html")}

    @cached_property
    def _policy(self) -> ContentPolicy:
        return ContentPolicy((get_web_dir() / constants.Dirs.STATIC).glob("**/*.html"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if path in self._pages:  # Or the file server would redirect to the address with a slash.
            scope = {**scope, "path": f"{path}/index.html"}

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if path.startswith("/assets/"):
                    headers["cache-control"] = FOR_GOOD if message["status"] in (200, 304) else "no-store"
                # A page that has not changed comes without its type, and what comes with it replaces what is cached.
                elif message["status"] == 304 or headers.get("content-type", "").startswith("text/html"):
                    headers["content-security-policy"] = self._policy.header(Headers(scope=scope).get("host", ""))
                    headers["cache-control"] = "no-cache"
            await send(message)

        await self._app(scope, receive, with_headers)
