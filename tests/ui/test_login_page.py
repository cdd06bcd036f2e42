"""The sign-in page of a new installation: it asks for the set-up code, and takes it from the printed address."""

from typing import Any

import pytest
from reflex.istate.data import RouterData

from chat_app.ui.state.login import Login
from tests.parley import StartParley, person
from tests.ui.tab import page_of


async def opened(monkeypatch: pytest.MonkeyPatch, **query: str) -> Login:
    page: Any = page_of(Login, None, monkeypatch)
    address = {"pathname": "/login", "asPath": "/login" + "".join(f"?{name}={value}" for name, value in query.items())}
    page.router = RouterData.from_router_data({**address, "query": query, "headers": {"host": "localhost:3000"}})
    await page.open()
    return page


async def test_the_code_of_the_printed_address_is_filled_in_for_the_first_account_only(
    start_parley: StartParley, monkeypatch: pytest.MonkeyPatch
) -> None:
    parley = await start_parley()
    page = await opened(monkeypatch, code="ABCD-EFGH")
    assert (page.mode, page.code) == ("first", "ABCD-EFGH")
    assert len((await opened(monkeypatch, code="x" * 10_000)).code) == 64
    await person(parley)
    page = await opened(monkeypatch, code="ABCD-EFGH")
    assert (page.mode, page.code) == ("sign-in", "")
