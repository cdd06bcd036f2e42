"""The Reflex app: pages, and the gateway mounted beside them. No logic."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from reflex.event import EventSpec
from reflex_base.config import get_config
from reflex_base.event.context import EventContext
from starlette.types import ASGIApp, Receive, Scope, Send

from chat_app.data.db.base import DatabaseUnavailable
from chat_app.gateway.app import api
from chat_app.gateway.caller import address
from chat_app.gateway.completions_route import CompletionsRoute
from chat_app.gateway.hosts import KnownHosts
from chat_app.ui.document import HEAD, error_boundary
from chat_app.ui.guard.app import GuardedApp
from chat_app.ui.guard.door import SocketDoor
from chat_app.ui.guard.ended import watching
from chat_app.ui.lifetime import with_parent
from chat_app.ui.pages.account import account
from chat_app.ui.pages.audit import audit
from chat_app.ui.pages.chat import chat
from chat_app.ui.pages.login import login
from chat_app.ui.pages.moderation import moderation
from chat_app.ui.pages.plans import plans
from chat_app.ui.pages.second_factor import second_factor
from chat_app.ui.state.account import Account
from chat_app.ui.state.audit_admin import AuditAdmin
from chat_app.ui.state.chat import GIVE_BACK, Chat
from chat_app.ui.state.login import Login
from chat_app.ui.state.plan_admin import PlanAdmin
from chat_app.ui.state.profile import Profile
from chat_app.ui.state.proof import Proof
from chat_app.ui.state.review_admin import ReviewAdmin
from chat_app.ui.state.second_factor import SecondFactor
from chat_app.ui.state.visitor import Visitor
from chat_app.ui.static import StaticFiles
from chat_app.wiring import lifespan, parley

logger = structlog.get_logger(__name__)

_told: deque[str] = deque(maxlen=1_000)
"""The last events whose failure pages were told of, by Reflex's ids."""


def unexpected(exception: Exception) -> list[EventSpec]:
    """What a page says when an event failed in a way that nobody foresaw; the composer gets its text back."""
    if isinstance(exception, DatabaseUnavailable):
        logger.warning("storage unavailable", error=str(exception))
        said = "Parley cannot reach its database right now. Try again in a moment."
    else:
        logger.error("event failed", exc_info=exception)
        said = "Something went wrong on our side. Try again; if it happens again, tell your administrator."
    running = EventContext.get()
    if running.parent_txid in _told:  # Telling has failed, too: it would do so for as long as the states are away.
        return []
    _told.append(running.txid)
    return [Visitor.notify(said), GIVE_BACK]  # type: ignore[operator]  # Reflex makes an event of the method.


completions = CompletionsRoute(parley)
"""One for both places in which it stands: what a person may send at a time holds over both."""


def in_front(rest: ASGIApp) -> ASGIApp:
    """What is served before everything else is looked at."""
    return SocketDoor(completions.before(rest), parley, address)


class App(GuardedApp):
    """Reflex's app, with the completions in front of its middleware too: every wrapper is paid with each piece sent."""

    def __call__(self) -> ASGIApp:
        whole = super().__call__()
        at_once = completions.before(whole)

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            # A page of another origin needs what is in between: the middleware that lets it read, or does not.
            foreign = scope["type"] == "http" and any(name == b"origin" for name, _ in scope["headers"])
            await (whole if foreign else at_once)(scope, receive, send)

        return KnownHosts(serve, parley)


app = App(
    stylesheets=["/parley.css"],
    reset_style=False,
    toaster=None,
    app_wraps={(55, "ErrorBoundary"): error_boundary},
    head_components=HEAD,
    html_lang="en",
    api_transformer=[api(parley, get_config().cors_allowed_origins), StaticFiles, in_front],
    backend_exception_handler=unexpected,
)
app.add_page(chat, route="/[[section]]/[[thread]]", title="Parley", on_load=[Chat.open, Proof.cancel])
app.add_page(login, route="/login", title="Sign in · Parley", on_load=Login.open)
app.add_page(
    account, route="/account", title="Account · Parley", on_load=[Account.open, Profile.open, Chat.leave, Proof.cancel]
)
app.add_page(second_factor, route="/second-factor", title="Second factor · Parley", on_load=SecondFactor.open)
app.add_page(plans, route="/admin/plans", title="Plans · Parley", on_load=[PlanAdmin.open, Chat.leave, Proof.cancel])
app.add_page(
    moderation,
    route="/admin/moderation",
    title="Moderation · Parley",
    on_load=[ReviewAdmin.open, Chat.leave, Proof.cancel],
)
app.add_page(
    audit, route="/admin/audit", title="Audit trail · Parley", on_load=[AuditAdmin.open, Chat.leave, Proof.cancel]
)


@asynccontextmanager
async def running() -> AsyncIterator[None]:
    """Parley runs as long as the server does."""
    async with with_parent(), lifespan(), watching(app):
        yield


app.register_lifespan_task(running)
