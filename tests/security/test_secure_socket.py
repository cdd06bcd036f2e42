"""Where the cookies are `__Host-` ones, as behind TLS, the pages know who is signed in."""

from collections.abc import Callable

import pytest

from chat_app.ui.state.chat import Chat
from tests.app import RunningApp
from tests.parley import script
from tests.security.tab import Tab

pytestmark = pytest.mark.e2e

ENV = {"PARLEY_SECURE_COOKIES": "true"}


async def test_a_socket_with_a_secure_cookie_is_its_persons(app: RunningApp, person: Callable[[str], str]) -> None:
    cookie = person("grace")
    assert cookie.startswith("__Host-parley_session=")
    async with Tab(app, cookie) as tab:
        assert "Grace" in await tab.opened()
        await tab.send(Chat.send, form={"text": script(text="It is 391.")})
        await tab.until('"receipt":[{')
    assert "It is 391." in tab.seen
    async with Tab(app, cookie, token=tab.token) as again:
        assert "Grace" in await again.opened()


async def test_a_secure_session_under_the_plain_name_is_nobodys(app: RunningApp, person: Callable[[str], str]) -> None:
    async with Tab(app, person("grace").removeprefix("__Host-")) as tab:
        assert "Grace" not in await tab.opened()
