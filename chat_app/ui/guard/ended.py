"""Drops the states of tabs whose session has ended: signed out, expired, of another password, of a disabled person; and
what the staff's pages hold of somebody who is not of the staff any more, or in another role.

None of it could be read any more (`owner`); this is so that they are gone, and that a page which lies open says so by
itself. It does not know how a session ends, only that the database has it no more.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import reflex as rx
import structlog
from reflex.istate.manager.token import BaseStateToken
from reflex.state import StateUpdate

from chat_app.data.db.base import DatabaseUnavailable
from chat_app.ui.guard.owner import Owner, give, take_back
from chat_app.ui.state.visitor import Visitor
from chat_app.wiring import parley

logger = structlog.get_logger(__name__)

LOOK_S = 1.0


@asynccontextmanager
async def watching(app: Any) -> AsyncIterator[None]:
    """For as long as the block lasts. One round that fails is none."""
    watch = asyncio.create_task(_watch(app))
    try:
        yield
    finally:
        watch.cancel()


async def _watch(app: Any) -> None:
    with app.set_contexts():
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await drop_ended(app.event_namespace, app.state_manager)
            except DatabaseUnavailable:
                continue
            except Exception as error:
                logger.error("states of ended sessions stay for now", exc_info=error)


async def drop_ended(namespace: Any, states: Any) -> None:
    """Empty the states of all tabs of this process whose session has ended. Raises `DatabaseUnavailable`."""
    tabs = dict(namespace.tabs)
    ended = await parley().accounts.ended(set(tabs.values()))
    for tab, session in tabs.items():
        if session not in ended:
            continue
        try:
            await _drop(namespace, states, tab, session)
        except Exception as error:  # Its state could not be read or written: the next round comes back to it.
            logger.error("the state of an ended session stays for now", exc_info=error)
            continue
        if namespace.tabs.get(tab) == session:
            del namespace.tabs[tab]
            namespace.staff.pop(tab, None)
    await _take_back_changed(namespace, states)


async def _take_back_changed(namespace: Any, states: Any) -> None:
    staff = {tab: (namespace.tabs[tab], role) for tab, role in namespace.staff.items() if tab in namespace.tabs}
    roles = await parley().accounts.roles({session for session, _ in staff.values()})
    for tab, (session, role) in staff.items():
        now = roles.get(session, role)
        if now == role:
            continue
        try:
            await _take_back(namespace, states, tab, session, now)
        except Exception as error:
            logger.error("what the staff's pages hold stays for now", exc_info=error)
            continue
        namespace.staff.pop(tab, None)


async def _take_back(namespace: Any, states: Any, tab: str, session: str, role: str) -> None:
    async with states.modify_state(BaseStateToken(ident=tab, cls=rx.State)) as state:
        if (await state.get_state(Owner))._session != session:
            return
        await take_back(state, role)
        delta = await state._get_resolved_delta()
        state._clean()
    await _send(namespace, delta, tab)


async def _drop(namespace: Any, states: Any, tab: str, session: str) -> None:
    async with states.modify_state(BaseStateToken(ident=tab, cls=rx.State)) as state:
        if (await state.get_state(Owner))._session != session:
            return
        await give(state, "")
        (await state.get_state(Visitor))._say_gone()
        delta = await state._get_resolved_delta()
        state._clean()
    await _send(namespace, delta, tab)


async def _send(namespace: Any, delta: Any, tab: str) -> None:
    if tab in namespace._token_manager.token_to_socket:
        await namespace.emit_update(StateUpdate(delta=delta), tab)
