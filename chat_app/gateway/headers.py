"""Security headers on every response, pages and API alike. Plain ASGI: nothing is buffered, streams stay streams.

The content policy here is for what is no page: it may load and run nothing. What a page may is said by the pages
themselves (`ui.content_policy`), whose own policy stays.
"""

from urllib.parse import urlsplit

from secure import (
    ContentSecurityPolicy,
    CrossOriginOpenerPolicy,
    CrossOriginResourcePolicy,
    PermissionsPolicy,
    ReferrerPolicy,
    Secure,
    StrictTransportSecurity,
    XContentTypeOptions,
    XFrameOptions,
)
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_app.gateway.caller import GetParley, came_by_tls
from chat_app.gateway.connection import Pairs
from chat_app.settings import Settings

UNUSED = ("camera", "display-capture", "geolocation", "hid", "microphone", "midi", "payment", "serial", "usb")
"""What a browser can do for a page and no page of ours asks for; a page that is framed in one could not either."""
PERSONAL = ("/v1/", "/auth/")
"""Beginnings of addresses whose responses are for one person: no cache keeps them, the browser's own neither."""
A_YEAR_S = 31_536_000


def _pairs(built: Secure) -> Pairs:
    return tuple((name.lower().encode(), value.encode()) for name, value in built.header_items())


def _nothing_allowed() -> ContentSecurityPolicy:
    policy = ContentSecurityPolicy().default_src("'none'").base_uri("'none'")
    return policy.form_action("'none'").frame_ancestors("'none'")


def _permissions() -> PermissionsPolicy:
    policy = PermissionsPolicy()
    for feature in UNUSED:
        policy = policy.add_directive(feature)
    return policy


HEADERS = _pairs(
    Secure(
        xcto=XContentTypeOptions().nosniff(),
        xfo=XFrameOptions().deny(),
        referrer=ReferrerPolicy().same_origin(),
        coop=CrossOriginOpenerPolicy().same_origin(),
        corp=CrossOriginResourcePolicy().same_origin(),
        permissions=_permissions(),
        csp=_nothing_allowed(),
    )
)
# Only of this name: the names below it are not Parley's to bind.
ONLY_TLS = _pairs(Secure(hsts=StrictTransportSecurity().max_age(A_YEAR_S)))
NO_STORE: Pairs = ((b"cache-control", b"no-store"),)


def headers_for(scope: Scope, settings: Settings) -> Pairs:
    """The headers for the response to a request."""
    tls = ONLY_TLS if _by_tls_alone(scope, settings) else ()
    return (*HEADERS, *tls, *(NO_STORE if scope["path"].startswith(PERSONAL) else ()))


def _by_tls_alone(scope: Scope, settings: Settings) -> bool:
    """Whether browsers may be told to ask for this name by TLS alone: it came so, at the usual port. What else a
    machine serves under another one may know no TLS."""
    if settings.public_url:
        address = settings.public_url
    else:
        request = HTTPConnection(scope)
        address = f"http{'s' if came_by_tls(request, settings) else ''}://{request.headers.get('host', '')}"
    parts = urlsplit(address)
    return parts.scheme == "https" and not parts.netloc.rpartition("]")[2].partition(":")[2]


class SecurityHeaders:
    """Wraps an ASGI app; a header that the app sets itself stays as it is. `get_parley` as for `api`."""

    def __init__(self, app: ASGIApp, get_parley: GetParley) -> None:
        self._app = app
        self._get_parley = get_parley

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        always = self._always(scope)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in always if pair[0] not in present)]
            await send(message)

        await self._app(scope, receive, with_headers)

    def _always(self, scope: Scope) -> Pairs:
        try:
            return headers_for(scope, self._get_parley().settings)
        except RuntimeError:  # It is starting, which `/readyz` says.
            return HEADERS
