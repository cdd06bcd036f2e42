"""The gateway's app, which Reflex mounts beside its pages. It only puts the parts together.

`completions_route` is not among them: it goes in front.
"""

from collections.abc import Collection

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from chat_app.gateway import admin, generations, health, models, oidc, sign_in
from chat_app.gateway.address_rates import AddressRates
from chat_app.gateway.caller import GetParley
from chat_app.gateway.edge import Edge
from chat_app.gateway.errors import ApiError, install, not_allowed
from chat_app.gateway.headers import SecurityHeaders
from chat_app.gateway.origins import OwnPagesOnly

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]


def api(get_parley: GetParley, pages: Collection[str] = ()) -> FastAPI:
    """The app. `get_parley` returns the running instance and is called at each request, never before; `pages` are the
    origins of our own pages, beside those in the settings and the address that was asked."""
    app = FastAPI(title="Parley", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(OwnPagesOnly, get_parley=get_parley, pages=pages)
    app.add_middleware(AddressRates, get_parley=get_parley)
    app.add_middleware(Edge)
    app.add_middleware(
        SecurityHeaders, get_parley=get_parley
    )  # Reflex mounts its pages inside this app, so they have them too.
    install(app)
    for part in (generations, models, health, oidc):
        app.router.routes.extend(part.routes(get_parley))
    app.router.routes.extend(sign_in.routes(get_parley, pages))
    app.include_router(admin.router(get_parley))
    app.add_api_route("/v1/{path:path}", _nothing_here, methods=METHODS, response_model=None)
    return app


async def _nothing_here(request: Request) -> Response:
    """JSON for every unknown address under /v1, where the pages' catch-all would answer with HTML."""
    allowed = sorted(
        {
            method
            for route in request.app.router.routes
            if route.matches(request.scope)[0] is Match.PARTIAL
            for method in getattr(route, "methods", None) or ()
        }
    )
    if allowed:
        raise not_allowed(request.method, request.url.path, allowed)
    raise ApiError(404, "unknown_url", f"Unknown request URL: {request.method} {request.url.path}.")
