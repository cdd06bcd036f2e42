"""Which pages may post a form or open the socket here: protection against cross-site request forgery.

SameSite=Lax keeps the cookie from foreign forms; this keeps foreign forms from signing a browser in or out.
"""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from chat_app.settings import Settings


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
