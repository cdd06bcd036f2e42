"""How often one network address may ask what costs a look at the stores before anybody has shown who they are.

Plain ASGI; counted in this process, since it has to hold while the shared store is away. It does not know what the
addresses say.
"""

from contextlib import suppress

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from chat_app.data.limits.memory import MemoryLimits
from chat_app.gateway.caller import GetParley, address
from chat_app.gateway.errors import ApiError

METERED = ("/readyz", "/v1/models", "/auth/session", "/auth/oidc")
"""Beginnings of the paths that are counted, all of them together. Completions and forms have limits of their own."""
PER_PAGE, AT_ONCE_PER_PAGE = 10, 2
"""Requests a minute, and at once, for each page that an address may hold open (`PARLEY_PAGES_PER_ADDRESS`)."""


class AddressRates:
    """Wraps the gateway's app; what comes too often gets 429. `get_parley` as for `api`."""

    def __init__(self, app: ASGIApp, get_parley: GetParley) -> None:
        self._app = app
        self._get_parley = get_parley
        self._limits = MemoryLimits()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wait_ms = await self._wait_ms(scope) if scope["type"] == "http" and scope["path"].startswith(METERED) else 0
        if not wait_ms:
            await self._app(scope, receive, send)
            return
        message = "Too many requests from this network address. Wait a little."
        error = ApiError(429, "rate_limit_exceeded", message, retry_after=wait_ms / 1000)
        await error.response()(scope, receive, send)

    async def _wait_ms(self, scope: Scope) -> int:
        with suppress(RuntimeError):  # It is starting, which `/readyz` says.
            settings = self._get_parley().settings
            pages = settings.pages_per_address
            caller = address(HTTPConnection(scope), settings)
            return await self._limits.hit(caller, PER_PAGE * pages, AT_ONCE_PER_PAGE * pages)
        return 0
