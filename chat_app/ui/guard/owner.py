"""Whose a tab's state is: the browser session that filled it. Another one, or none, finds it empty.

Reflex finds a state by the name of the tab alone, which is in the socket's address. Before each event, and before
anything of a state is sent, this asks the database whether the session of the socket's cookie is in force.
"""

from typing import Any

import reflex as rx
from reflex.event import Event
from reflex.state import BaseState, StateUpdate
from reflex_base.event.context import EventContext

from chat_app.accounts.cookies import token_from
from chat_app.accounts.identity import Identity
from chat_app.accounts.tokens import digest
from chat_app.data.limits.base import LimitsUnavailable
from chat_app.telemetry.metrics import SOCKET_REFUSED
from chat_app.ui.guard.events import FROM_PAGES, NOTIFY
from chat_app.ui.state.audit_admin import AuditAdmin
from chat_app.ui.state.chat import GIVE_BACK
from chat_app.ui.state.plan_admin import PlanAdmin
from chat_app.ui.state.review_admin import ReviewAdmin
from chat_app.ui.state.visitor import Visitor
from chat_app.wiring import parley

PER_PERSON = 240
"""Events a minute that the pages of one person may send, half of them at once."""


class Owner(rx.State):
    """Whose the state is. By itself, so that it is found without the pages beside it."""

    _session: str = ""
    """Digest of the session's token; empty for nobody's."""
    _role: str = ""
    """What its person was at the last event; empty for nobody."""


def session_of(cookies: str) -> str:
    """The digest of the session token in a Cookie header, or nothing. Only the database knows if it is in force."""
    token = token_from(cookies)
    return digest(token) if token else ""


class Ownership(rx.Middleware):
    """Stands before every event, those that the server chains itself among them."""

    async def preprocess(self, app: Any, state: BaseState, event: Event) -> StateUpdate | None:
        """None if the event may run. Raises `DatabaseUnavailable`."""
        running = EventContext.get()
        cookies = running.router_data.get("headers", {}).get("cookie", "")
        chained = running.parent_txid is not None
        sid = running.router_data.get("sid", "")
        if event.name == NOTIFY:  # It may say that the database is away, so it cannot ask it.
            await give(state, session_of(cookies), in_force=False)
            app.event_namespace.settle(sid)
            return None
        who = await parley().accounts.by_cookie(token_from(cookies) or "", used=not chained)
        await give(state, session_of(cookies) if who else "", anew=not chained)
        await take_back(state, who.role if who else "")
        staff = who.role if who is not None and who.is_staff else ""
        app.event_namespace.settle(sid, somebody=who is not None, staff=staff)
        return None if chained else await _from_a_page(state, event, who)


async def give(state: BaseState, session: str, *, anew: bool = False, in_force: bool = True) -> None:
    """Make a tab's state the session's own: as it is if it is already, else emptied. Nobody gets an empty one each
    time that a page asks (`anew`). One that may not be in force any more keeps what it has, and is given nothing."""
    owner = await state.get_state(Owner)
    if owner._session != session or (anew and not session):
        await empty(state)
    # Also what is as it was is written: in Valkey it must not run out before the pages do.
    owner._session = session if in_force or owner._session == session else ""


async def take_back(state: BaseState, role: str) -> None:
    """Empty what pages for the staff hold of a person whose role is another than at the last event; the browser is told
    with the event's own changes."""
    owner = await state.get_state(Owner)
    if owner._role not in ("", role):
        for page in (ReviewAdmin, PlanAdmin, AuditAdmin):
            (await state.get_state(page)).reset()  # type: ignore[no-untyped-call]
    owner._role = role


async def empty(state: BaseState) -> None:
    """Forget everything that the pages of a tab hold, without a word to the browser: who sits there now has either
    seen it, or shall not."""
    for page in Visitor.get_substates():
        await state.get_state(page)  # With Redis only those of this event are at hand.
    visitor = await state.get_state(Visitor)
    tz = visitor.tz
    visitor.reset()  # type: ignore[no-untyped-call]
    visitor.tz = tz  # The browser's, not the person's.
    visitor._clean()  # type: ignore[no-untyped-call]


async def _from_a_page(state: BaseState, event: Event, who: Identity | None) -> StateUpdate | None:
    """None if a page may send the event now; else what it is told instead."""
    rule = FROM_PAGES.get(event.name)
    if rule is None:  # It came by another way than the pages' socket.
        return StateUpdate()
    if who is not None:
        return await _within_rate(state, who)
    if not rule.session:
        return None
    visitor = await state.get_state(Visitor)
    visitor._say_gone()
    return await _instead(state)


async def _within_rate(state: BaseState, who: Identity) -> StateUpdate | None:
    try:
        wait_ms = await parley().limits.hit(f"page:event-of:{who.user_id}", PER_PERSON, PER_PERSON // 2)
    except LimitsUnavailable:  # Then states are away as well.
        return None
    if not wait_ms:
        return None
    SOCKET_REFUSED.labels("events of one person").inc()
    visitor = await state.get_state(Visitor)
    visitor.notice = f"That was too much at once. Wait {-(-wait_ms // 1000)} s and try again."
    return await _instead(state)


async def _instead(state: BaseState) -> StateUpdate:
    """What changed, instead of the event."""
    delta = await state._get_resolved_delta()
    state._clean()  # type: ignore[no-untyped-call]
    return StateUpdate(delta=delta, events=Event.from_event_type(GIVE_BACK))
