"""Signing in, up and out: forms, since only an HTTP answer can set a cookie that scripts cannot read.

`POST /auth/login` (email, password), `/auth/code` (code), `/auth/signup` (email, password, name; code, the set-up code,
for the very first account), `/auth/logout`. Where an account has a second factor, login gives no session:
it returns to `back` with `?step=code`, and a cookie that is good for `/auth/code` alone, for a few minutes.

All take `next`, the path to go to afterwards, and `back`, the path of the page with the form, to which a failure
returns with `?error=<code>` (and `&wait=<seconds>`, beside Retry-After, for too_many_attempts and busy). Nothing that
was typed is ever put into an address.
"""

import html
from collections.abc import Collection, Sequence
from urllib.parse import urlencode, urlsplit

import orjson
import structlog
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Message

from chat_app.accounts.cookies import (
    clear_cookies,
    clear_half,
    device_cookie,
    device_from,
    half_cookie,
    half_from,
    set_cookie,
    token_from,
)
from chat_app.accounts.half_sign_in import LASTS_MS
from chat_app.accounts.identity import AccountError, SecondFactorNeeded
from chat_app.accounts.oidc import ProviderError
from chat_app.accounts.tokens import digest, is_host_token, new_token
from chat_app.accounts.user_agents import described
from chat_app.gateway.caller import GetParley, address, by_cookie, came_by_tls
from chat_app.gateway.completions_route import HUNG_UP
from chat_app.gateway.connection import Connection, HungUp
from chat_app.gateway.errors import STORAGE, ApiError
from chat_app.gateway.origins import is_trusted
from chat_app.settings import Settings
from chat_app.wiring import Parley

logger = structlog.get_logger(__name__)

NO_STORE = {"Cache-Control": "no-store"}


def routes(get_parley: GetParley, pages: Collection[str] = ()) -> Sequence[BaseRoute]:
    """The routes, over the running instance. `pages` as for `is_trusted`."""

    async def login(request: Request) -> Response:
        parley, form = await _own_form(get_parley(), request, pages)
        return await _enter(parley, request, form, "sign_in")

    async def code(request: Request) -> Response:
        parley, form = await _own_form(get_parley(), request, pages)
        return await _enter(parley, request, form, "enter_code")

    async def signup(request: Request) -> Response:
        parley, form = await _own_form(get_parley(), request, pages)
        return await _enter(parley, request, form, "sign_up")

    async def logout(request: Request) -> Response:
        parley, form = await _own_form(get_parley(), request, pages)
        there = await _end_there(parley, request)
        await forget_session(parley, request)
        response = _onward(there) if there else _to(request, _path(form, "next") or "/")
        for cookie in clear_cookies():
            response.headers.append("Set-Cookie", cookie)
        return response

    async def session(request: Request) -> Response:
        parley = get_parley()
        who = await by_cookie(parley, request)
        waits = who is not None and parley.accounts.must_set_up(who)
        user = (
            who
            and not waits
            and {
                "id": who.user_id,
                "email": who.email,
                "name": who.name,
                "role": who.role,
                "plan": who.plan_id,
            }
        )
        body = {
            "user": user or None,
            "signup": "open" if parley.settings.signup_is_open else "closed",
            "must_set_up_second_factor": waits,
        }
        return Response(orjson.dumps(body), headers=NO_STORE, media_type="application/json")

    return [
        Route("/auth/login", login, methods=["POST"]),
        Route("/auth/code", code, methods=["POST"]),
        Route("/auth/signup", signup, methods=["POST"]),
        Route("/auth/logout", logout, methods=["POST"]),
        Route("/auth/session", session, methods=["GET"]),
    ]


async def _enter(parley: Parley, request: Request, form: FormData, way: str) -> Response:
    device = browser_device(request, secure=is_secure(parley.settings, request))
    try:
        # Whoever goes away while they wait for their turn leaves the queue.
        async with Connection(request.receive, _nothing):
            token = await _token(parley, request, form, way, device)
        await forget_session(parley, request)
    except HungUp:
        return Response(status_code=HUNG_UP)
    except SecondFactorNeeded as needed:
        response = _returned(request, form, step="code")
        response.headers.append("Set-Cookie", half_cookie(needed.proof, LASTS_MS // 1000))
        return response
    except AccountError as error:
        return _back(request, form, error.code, error.retry_after)
    except STORAGE as error:
        logger.warning("storage unavailable", error=str(error))
        return _back(request, form, "storage_unavailable")
    response = _to(request, _path(form, "next") or "/")
    response.headers.append("Set-Cookie", set_cookie(token, parley.settings.session_days))
    response.headers.append("Set-Cookie", device_cookie(device))
    for cookie in clear_half() if way == "enter_code" else ():
        response.headers.append("Set-Cookie", cookie)
    return response


async def _token(parley: Parley, request: Request, form: FormData, way: str, device: str) -> str:
    """The token of a new session. Raises `AccountError`."""
    email, password, name, code = (str(form.get(field, "")) for field in ("email", "password", "name", "code"))
    browser = described(request.headers.get("user-agent", ""))
    accounts, hit, caller = parley.accounts, parley.limits.hit, address(request, parley.settings)
    if way == "sign_in":
        return await accounts.sign_in(email, password, address=caller, device=device, hit=hit, browser=browser)
    if way == "enter_code":
        proof = half_from(request.headers.get("cookie", "")) or ""
        return await accounts.enter_code(proof, code, address=caller, device=device, hit=hit, browser=browser)
    return await accounts.sign_up(
        email, password, name, address=caller, device=device, hit=hit, code=code, browser=browser
    )


def browser_device(request: Request, *, secure: bool) -> str:
    """The token of the browser's device cookie; a new one if it has none, or one of another kind."""
    found = device_from(request.headers.get("cookie", ""))
    return found if found and is_host_token(found) == secure else new_token(host_only=secure)


async def _nothing(_: Message) -> None:
    """Nothing is sent while somebody waits."""


async def _own_form(parley: Parley, request: Request, pages: Collection[str]) -> tuple[Parley, FormData]:
    """The posted form, if one of our own pages posted it. Raises `ApiError` (403)."""
    if not is_trusted(request, parley.settings, pages):
        raise ApiError(403, "foreign_origin", "This form was sent from another site.")
    return parley, await request.form(max_files=0, max_fields=20)


def _onward(url: str) -> Response:
    """A page that leads to another site: a form's own redirect must not (form-action of the pages' policy)."""
    link = html.escape(url)
    page = (
        f'<!doctype html><title>Signing out</title><meta http-equiv="refresh" content="0; url={link}">'
        f'<p>You are signed out of Parley. <a href="{link}">Sign out of your company account, too</a>.</p>'
    )
    return Response(page, media_type="text/html", headers=NO_STORE)


async def _end_there(parley: Parley, request: Request) -> str:
    """Where the browser ends its session with the provider too; empty if it was not opened through it."""
    token = token_from(request.headers.get("cookie", ""))
    if not token or not parley.external.is_on or not await parley.external.signed_in_there(digest(token)):
        return ""
    try:
        return await parley.external.provider.end_session_url(own_address(parley.settings, request) + "/login")
    except ProviderError as error:
        logger.warning("not signed out with the provider", error=str(error))
        return ""


async def forget_session(parley: Parley, request: Request) -> None:
    """End the session that the browser had."""
    token = token_from(request.headers.get("cookie", ""))
    if token:
        await parley.accounts.sign_out(token, address=address(request, parley.settings))


def _back(request: Request, form: FormData, code: str, wait: int | None = None) -> Response:
    response = _returned(request, form, error=code, **({"wait": str(wait)} if wait else {}))
    if wait:
        response.headers["Retry-After"] = str(wait)  # For programs; a browser goes on to the page, which says it.
    return response


def _returned(request: Request, form: FormData, **said: str) -> Response:
    """To the page with the form, with this in its query."""
    page = _path(form, "back") or plain_path(urlsplit(request.headers.get("referer", "")).path) or "/"
    return _to(request, f"{page}{'&' if '?' in page else '?'}{urlencode(said)}")


def _to(request: Request, path: str) -> Response:
    # To the origin that the form came from: in development pages and API live on two ports.
    return RedirectResponse(request.headers.get("origin", "") + path, 303, NO_STORE)


def _path(form: FormData, field: str) -> str:
    return plain_path(str(form.get(field, "")))


def plain_path(path: str) -> str:
    """The path if it leads to this site, else nothing: browsers read `//host` and `/\\host` as other
    sites."""
    leads_here = path.startswith("/") and path[1:2] not in ("/", "\\") and path.isprintable() and len(path) < 500
    return path if leads_here else ""


def own_address(settings: Settings, request: Request) -> str:
    """Scheme and host by which the browser knows Parley."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
    return f"{'https' if is_secure(settings, request) else 'http'}://{request.headers['host']}"


def is_secure(settings: Settings, request: Request) -> bool:
    """Whether cookies are for TLS only."""
    if settings.secure_cookies is not None:
        return settings.secure_cookies
    return settings.public_url.startswith("https://") or came_by_tls(request, settings)
