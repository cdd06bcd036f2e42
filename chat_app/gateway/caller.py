"""Who is calling: the identity behind an API key or a cookie, and where from. It decides nothing."""

from collections.abc import Callable

from starlette.requests import HTTPConnection, Request

from chat_app.accounts import addresses
from chat_app.accounts.cookies import token_from
from chat_app.accounts.grant import Grant
from chat_app.accounts.identity import Identity
from chat_app.gateway.errors import ApiError
from chat_app.setting_values import networks_of
from chat_app.settings import Settings
from chat_app.wiring import Parley

GetParley = Callable[[], Parley]
"""Gives the process's running instance; the routes are made before it runs."""

NOT_VALID = "unknown, expired, revoked, or of a disabled account"


async def by_key(parley: Parley, request: Request, scope: str) -> Grant:
    """What the request's API key allows, if that has this scope. Raises `ApiError` (401, 403)."""
    return await by_authorization(parley, request.headers.get("authorization", ""), scope)


async def by_authorization(parley: Parley, header: str, scope: str) -> Grant:
    """The same for an Authorization header. Raises `ApiError` (401, 403)."""
    grant = await granted(parley, header)
    check_scope(grant, scope)
    return grant


async def granted(parley: Parley, header: str) -> Grant:
    """What the API key in an Authorization header allows, whatever that is. Raises `ApiError` (401)."""
    scheme, _, key = header.partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise _unknown("missing_api_key", "Send an API key: “Authorization: Bearer sk-parley-…”.")
    grant = await parley.accounts.grant(key)
    if grant is None:
        raise _unknown("invalid_api_key", f"This API key is not valid: {NOT_VALID}.")
    return grant


def check_scope(grant: Grant, scope: str) -> None:
    """Raises `ApiError` (403) if the key does not have this scope."""
    if scope not in grant.rights.scopes:
        raise ApiError(403, "missing_scope", f"This API key does not have the scope “{scope}”. Make one that has.")


async def by_cookie(parley: Parley, request: HTTPConnection) -> Identity | None:
    """Who is signed in in this browser, if anybody."""
    token = token_from(request.headers.get("cookie", ""))
    return await parley.accounts.by_cookie(token, used=True) if token else None


def address(request: HTTPConnection, settings: Settings) -> str:
    """Whose limits the request counts against; see `caller_address`."""
    trusted = networks_of(settings.trusted_proxies)
    return addresses.caller_address(_peer(request), request.headers.getlist("x-forwarded-for"), trusted)


def came_by_tls(request: HTTPConnection, settings: Settings) -> bool:
    """Whether the browser spoke TLS: with us, or with a trusted proxy that says so."""
    said = ",".join(request.headers.getlist("x-forwarded-proto")).lower().split(",")
    trusted = addresses.is_trusted_proxy(_peer(request), networks_of(settings.trusted_proxies))
    return request.url.scheme in ("https", "wss") or (trusted and "https" in map(str.strip, said))


def _peer(request: HTTPConnection) -> str:
    return request.client.host if request.client else ""


def _unknown(code: str, message: str) -> ApiError:
    return ApiError(401, code, message, headers={"WWW-Authenticate": "Bearer"})
