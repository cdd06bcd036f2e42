"""A flood of sockets of bounded size: how many come in, what they cost, and that an honest page works beside them."""

from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from chat_app.ui.guard.events import BOOT
from chat_app.ui.state.chat import Chat
from tests.app import RunningApp
from tests.parley import script
from tests.security.conftest import PAGES
from tests.security.tab import Refused, Tab, boot

pytestmark = pytest.mark.e2e

ADDRESSES = ("127.5.0.1", "127.5.0.2", "127.5.0.3")
SPARE = 10
"""Pages that an address tries to open beyond those that it may."""
PAGE_BYTES = 500_000
"""What an open page of nobody may cost, its share of everything."""
MARK = "planted-by-the-flood"


async def test_a_flood_of_pages_is_bounded_in_number_and_memory(app: RunningApp, person: Callable[[str], str]) -> None:
    async with Tab(app, cookie := person("grace")) as warm:  # What every page needs once is there.
        await warm.opened()
    before, refused = app.idle_memory(), 0
    async with AsyncExitStack() as flood:
        tabs = []
        for source in ADDRESSES:
            for _ in range(PAGES + SPARE):
                try:
                    tabs.append(await flood.enter_async_context(Tab(app, path="/login", source=source)))
                except Refused:
                    refused += 1
        assert (len(tabs), refused) == (len(ADDRESSES) * PAGES, len(ADDRESSES) * SPARE)
        for tab in tabs:
            await tab.send(Chat.ask_rename, thread_id="t", title=MARK)
            await tab.send("reflex___state____state.no_such_event", text=MARK * 1_000)
            await tab.send(BOOT, **boot()["payload"])
        async with Tab(app, cookie) as honest:
            await honest.opened()
            await honest.send(Chat.send, form={"text": script(text="It goes on.")})
            assert "It goes on." in await honest.until('"receipt":[{')
        for tab in tabs:
            await tab.raw('42/_event,["ping"]')
            await tab.until("pong")
        grown = app.idle_memory() - before
    assert MARK not in "".join(tab.seen for tab in tabs)
    assert grown < len(tabs) * PAGE_BYTES
