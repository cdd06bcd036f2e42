"""Who is calling: the identity behind an API key or a cookie, and the network address. It decides nothing."""

from collections.abc import Callable
from ipaddress import ip_address

from starlette.requests import HTTPConnection, Request

from chat_app.accounts.cookies import token_from
from chat_app.accounts.grant import Grant
from chat_app.accounts.identity import Identity
from chat_app.gateway.errors import ApiError
from chat_app.wiring import Parley

GetParley = Callable[[], Parley]
"""Gives the process's running instance; the routes are made before it runs."""

NOT_VALID = "unknown, expired, revoked, or of a disabled account"

FORWARDED = ("x-forwarded-for", "forwarded", "x-real-ip")


async def by_key(parley: Parley, request: Request, scope: str) -> Grant:
    """What the request's API key allows, if that has this scope. Raises `ApiError` (401, 403)."""
    return await by_authorization(parley, request.headers.get("authorization", ""), scope)


async def by_authorization(parley: Parley, header: str, scope: str) -> Grant:
    """The same for an Authorization header. Raises `ApiError` (401, 403)."""
    scheme, _, key = header.partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise _unknown("missing_api_key", "Send an API key: “Authorization: Bearer sk-parley-…”.")
    grant = await parley.accounts.grant(key)
    if grant is None:
        raise _unknown("invalid_api_key", f"This API key is not valid: {NOT_VALID}.")
    if scope not in grant.rights.scopes:
        raise ApiError(403, "missing_scope", f"This API key does not have the scope “{scope}”. Make one that has.")
    return grant


async def by_cookie(parley: Parley, request: HTTPConnection) -> Identity | None:
    """Who is signed in in this browser, if anybody."""
    token = token_from(request.headers.get("cookie", ""))
    return await parley.accounts.by_cookie(token) if token else None


def address(request: HTTPConnection) -> str:
    """The caller's network address, for limits.

    What a proxy says is believed only from a machine of the local network, and of that only the last entry,
    which is the proxy's own: earlier ones are whatever the caller wrote.
    """
    peer = request.client.host if request.client else ""
    said = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return said if said and _is_local(peer) else peer


def is_this_machine(request: HTTPConnection) -> bool:
    """Whether the request comes from this machine itself, and not through a proxy that runs on it."""
    if any(name in request.headers for name in FORWARDED):
        return False
    try:
        return request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_private
    except ValueError:
        return False


def _unknown(code: str, message: str) -> ApiError:
    return ApiError(401, code, message, headers={"WWW-Authenticate": "Bearer"})
