"""The sign-in page asks for the set-up code exactly where the gateway wants it."""

from typing import Any

import pytest
from reflex.istate.data import RouterData

import chat_app.chat_app
from chat_app.ui.guard.namespace import PageNamespace
from chat_app.ui.state.login import Login
from tests.parley import StartParley
from tests.security.doors import door_to
from tests.ui.tab import page_of


def environ(**headers: str) -> dict[str, Any]:
    """Of a page's socket that comes from this machine."""
    raw = [(name.lower().replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"asgi.scope": {"type": "websocket", "client": ("127.0.0.1", 5000), "headers": raw}}


@pytest.mark.parametrize("headers", [{}, {"X_Forwarded_For": "192.0.2.7"}, {"Forwarded": "for=192.0.2.7"}])
async def test_page_and_gateway_agree_on_who_needs_the_code(
    headers: dict[str, str], start_parley: StartParley, monkeypatch: pytest.MonkeyPatch
) -> None:
    parley = await start_parley()
    page = page_of(Login, None, monkeypatch)
    namespace = PageNamespace("/_event", chat_app.chat_app.app)
    sent = namespace._build_static_router_data("sid", environ(Host="localhost:3000", **headers))
    page.router = RouterData.from_router_data({**sent, "pathname": "/login", "asPath": "/login", "query": {}})
    await page.open()
    async with door_to(parley) as door:
        refused = await door.sign_up("ada@example.org", **headers)
    assert (page.mode, page.asks_code) == ("first", refused.error == "bad_setup_code") == ("first", bool(headers))
    assert "192.0.2.7" not in str(sent["headers"])
