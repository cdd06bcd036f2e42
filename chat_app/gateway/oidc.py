"""Through the provider and back: `GET /auth/oidc` sends a browser there, `/auth/oidc/callback` takes it back, and at
`POST /auth/oidc/ended` the provider itself says that somebody has signed out there (back-channel logout).

`/auth/oidc` takes `next`, the path to go to afterwards; `link=1` connects the account that is signed in; `fresh=1` has
the person prove anew who they are. A failure leads to `/login?error=<code>`, or to the account page from there.
"""

from collections.abc import Sequence
from urllib.parse import urlencode

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from chat_app.accounts.cookies import device_cookie, flow_cookie, flow_from, set_cookie, token_from
from chat_app.accounts.identity import AccountError
from chat_app.accounts.oidc import ProviderError
from chat_app.accounts.oidc.flows import LASTS_MS
from chat_app.accounts.user_agents import described
from chat_app.gateway.caller import GetParley, address, by_cookie
from chat_app.gateway.errors import STORAGE, ApiError
from chat_app.gateway.sign_in import NO_STORE, browser_device, forget_session, is_secure, own_address, plain_path
from chat_app.wiring import Parley

logger = structlog.get_logger(__name__)

CALLBACK = "/auth/oidc/callback"


def routes(get_parley: GetParley) -> Sequence[BaseRoute]:
    """The routes, over the running instance; 404 while no provider is set."""

    async def begin(request: Request) -> Response:
        parley, asked = _on(get_parley()), request.query_params
        link, fresh = asked.get("link") == "1", asked.get("fresh") == "1"
        # A link on another site must not connect anybody's account, or send them anywhere.
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise ApiError(403, "foreign_origin", "Signing in begins on a page of Parley.")
        onward = plain_path(asked.get("next", "")) or "/"
        try:
            who = await by_cookie(parley, request) if link else None
            if link and (who is None or parley.accounts.must_set_up(who)):
                return _failed("/login", "oidc_expired")
            # What connects is a way in for good: a session that lies open must not be enough for it.
            if link and not await parley.accounts.is_proven(token_from(request.headers.get("cookie", "")) or ""):
                return _failed("/account", "oidc_prove_first")
            token, url = await parley.external.begin(
                _redirect_uri(parley, request),
                onward,
                link=who.user_id if who else None,
                fresh=fresh,
                host_only=is_secure(parley.settings, request),
                address=address(request, parley.settings),
                hit=parley.limits.hit,
            )
        except AccountError as error:
            return _failed("/account" if link else "/login", error.code, error.retry_after)
        except STORAGE as error:
            return _unavailable(error)
        response = RedirectResponse(url, 303, NO_STORE)
        response.headers.append("Set-Cookie", flow_cookie(token, LASTS_MS // 1000))
        return response

    async def callback(request: Request) -> Response:
        parley = _on(get_parley())
        cookies = request.headers.get("cookie", "")
        device = browser_device(request, secure=is_secure(parley.settings, request))
        who = None
        try:
            who = await by_cookie(parley, request)
            done = await parley.external.finish(
                _redirect_uri(parley, request),
                request.query_params,
                flow_from(cookies) or "",
                who=who,
                device=device,
                address=address(request, parley.settings),
                browser=described(request.headers.get("user-agent", "")),
            )
            if done.token:
                await forget_session(parley, request)
        except AccountError as error:
            return _failed("/account" if who else "/login", error.code, error.retry_after)
        except STORAGE as error:
            return _unavailable(error)
        response = RedirectResponse(done.onward, 303, NO_STORE)
        if done.token:
            response.headers.append("Set-Cookie", set_cookie(done.token, parley.settings.session_days))
            response.headers.append("Set-Cookie", device_cookie(device))
        return response

    async def ended(request: Request) -> Response:
        parley = _on(get_parley())
        form = await request.form(max_files=0, max_fields=5)
        try:
            sessions = await parley.external.ended(str(form.get("logout_token", "")))
        except ProviderError as error:
            logger.warning("a logout token proves nothing", error=str(error))
            raise ApiError(400, "invalid_request", "This logout token proves nothing.", headers=NO_STORE) from error
        logger.info("signed out by the provider", sessions=sessions)
        return Response(status_code=200, headers=NO_STORE)

    return [
        Route("/auth/oidc", begin, methods=["GET"]),
        Route(CALLBACK, callback, methods=["GET"]),
        Route("/auth/oidc/ended", ended, methods=["POST"]),
    ]


def _redirect_uri(parley: Parley, request: Request) -> str:
    return own_address(parley.settings, request) + CALLBACK


def _on(parley: Parley) -> Parley:
    if not parley.external.is_on:
        raise ApiError(404, "oidc_off", "No provider of identities is set up here.")
    return parley


def _failed(page: str, code: str, wait: int | None = None) -> Response:
    query = urlencode({"error": code, **({"wait": wait} if wait else {})})
    return RedirectResponse(f"{page}?{query}", 303, NO_STORE)


def _unavailable(error: Exception) -> Response:
    logger.warning("storage unavailable", error=str(error))
    return _failed("/login", "storage_unavailable")
