"""Which pages may have a browser change something here: protection against cross-site request forgery.

SameSite=Lax keeps the cookie from foreign forms; this keeps foreign forms from signing a browser in or out, and holds
for every route that there is or will be.
"""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from chat_app.gateway.caller import GetParley
from chat_app.gateway.errors import ApiError
from chat_app.settings import Settings

READING = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""
BY_KEY = "/v1/"
"""Beginning of the addresses that know API keys only, which no browser sends unasked."""


class OwnPagesOnly:
    """Wraps the gateway's app: what would change something, and comes from another site's page, gets 403. `get_parley`
    and `pages` as for `api`."""

    def __init__(self, app: ASGIApp, get_parley: GetParley, pages: Collection[str] = ()) -> None:
        self._app = app
        self._get_parley = get_parley
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        changes = scope["type"] == "http" and scope["method"] not in READING and not scope["path"].startswith(BY_KEY)
        if not changes or is_trusted(HTTPConnection(scope), self._get_parley().settings, self._pages):
            await self._app(scope, receive, send)
            return
        await ApiError(403, "foreign_origin", "This was sent from another site.").response()(scope, receive, send)


def is_trusted(request: HTTPConnection, settings: Settings, pages: Collection[str] = ()) -> bool:
    """Whether the request comes from one of our own pages, or from no page at all: a program sends no cookie
    unasked. `pages` are further origins of ours: in development the pages come from a port of their own."""
    origin = request.headers.get("origin", "")
    if not origin:
        return request.headers.get("sec-fetch-site", "none") in ("same-origin", "none")
    if origin in pages or origin in allowed_origins(settings):
        return True
    page = urlsplit(origin)
    if settings.public_url:
        return False
    return page.netloc.lower() == request.headers.get("host", "").lower() and page.scheme in ("http", "https")


def allowed_origins(settings: Settings) -> list[str]:
    """The configured origins, the public address's first."""
    configured = (settings.public_url, *settings.allowed_origins.split(","))
    return [f"{u.scheme}://{u.netloc}" for u in map(urlsplit, map(str.strip, configured)) if u.scheme and u.netloc]
