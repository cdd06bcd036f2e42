"""Which names Parley may be addressed by: protection against DNS rebinding.

A page of a foreign site whose name its owner points at this machine shares its origin with what answers here; only the
Host header still says the foreign name. Plain ASGI, in front of pages, API and sockets alike.
"""

import re
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from chat_app.gateway.caller import GetParley
from chat_app.gateway.errors import ApiError
from chat_app.gateway.headers import HEADERS
from chat_app.setting_values import is_loopback
from chat_app.settings import Settings

OPEN = frozenset({"/healthz", "/readyz"})
"""What orchestrators ask, by whatever address they know a container: it says nothing that is anybody's secret."""
METRICS = "/metrics"
"""Where a token guards the figures, it is proof enough: a collector finds its targets by addresses, too."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s\[\]:/?#@\\]+)(?::\d{1,5})?")

_UNKNOWN = (
    "Parley does not go by the name that this request is addressed to. If it should, its operator sets"
    " PARLEY_PUBLIC_URL to the address that browsers use, or adds the name to PARLEY_ALLOWED_HOSTS."
)


class KnownHosts:
    """Wraps the whole app; a request that is addressed to another name gets 421, a socket's handshake too."""

    def __init__(self, app: ASGIApp, get_parley: GetParley) -> None:
        self._app = app
        self._get_parley = get_parley

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or self._passes(scope):
            await self._app(scope, receive, send)
            return
        # A handshake is refused with a whole response, too: Starlette sends it in the messages of its kind.
        await _refusal(scope["path"])(scope, receive, send)

    def _passes(self, scope: Scope) -> bool:
        path = scope["path"]
        if path in OPEN:
            return True
        settings = self._get_parley().settings
        if path == METRICS and settings.metrics_token.get_secret_value():
            return True
        given = [value for name, value in scope["headers"] if name == b"host"]
        return len(given) == 1 and is_known(given[0].decode("latin-1"), settings)


def is_known(host: str, settings: Settings) -> bool:
    """Whether a Host header names this installation, under whatever port."""
    found = _HOST.fullmatch(host.lower())
    if not found:
        return False
    name = found[1].strip("[]").rstrip(".")
    if is_loopback(name) or name in _names(settings.public_url, f"{settings.host},{settings.allowed_hosts}"):
        return True
    # Nobody can point a number elsewhere; but where only this machine reaches Parley, no other number leads here.
    return not (settings.public_url or settings.private) and _is_address(name)


@lru_cache(maxsize=8)
def _names(public_url: str, allowed: str) -> frozenset[str]:
    named = (urlsplit(public_url).hostname or "", *allowed.split(","))
    return frozenset(name.strip().lower().strip("[]").rstrip(".") for name in named if name.strip())


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _refusal(path: str) -> Response:
    headers = {name.decode(): value.decode() for name, value in HEADERS}
    if path.startswith("/v1/"):
        return ApiError(421, "unknown_host", _UNKNOWN, headers=headers).response()
    return PlainTextResponse(_UNKNOWN + "\n", 421, headers)
