"""The account page's keys: made with the bounds that the form names, a new secret, and a password that ends them."""

import re
from typing import Any

import pytest

from chat_app.accounts.grant import DAY_MS, SCOPES, USUAL, Rights
from chat_app.data.ids import now_ms
from chat_app.ui.key_form import rights_of
from chat_app.ui.state.account import CHANGED, Account
from tests.parley import PASSWORD, StartParley, person
from tests.ui.tab import page_of

NEW = "another long password"


@pytest.mark.parametrize(
    ("form", "rights", "days"),
    [
        ({}, Rights(), None),
        ({"use": "chat", "days": "30", "monthly_tokens": "1,000"}, Rights(("chat", "models"), (), 1_000), 30),
        ({"use": "admin"}, Rights(SCOPES), None),
        ({"use": ["x"], "days": "1", "monthly_tokens": "-5"}, Rights(USUAL), None),
        ({"days": {}, "monthly_tokens": "9" * 5_000}, Rights(), None),
    ],
)
def test_a_form_says_what_a_key_may(form: dict[str, Any], rights: Rights, days: int | None) -> None:
    read = rights_of(form)
    assert (read.scopes, read.monthly_tokens) == (rights.scopes, rights.monthly_tokens)
    if days is None:
        assert read.expires_at is None
    else:
        assert read.expires_at is not None
        assert 0 <= now_ms() + days * DAY_MS - read.expires_at < DAY_MS


def told(event: Any) -> str:
    """The key that an event tells the page."""
    found = re.search(r"sk-parley-[\w-]+", str(event))
    assert found is not None
    return found[0]


async def test_a_key_from_the_page_has_its_bounds_and_gets_a_new_secret(
    start_parley: StartParley, monkeypatch: pytest.MonkeyPatch
) -> None:
    parley = await start_parley()
    await person(parley, "root@example.org")
    page = page_of(Account, await person(parley), monkeypatch)
    await page.make_key({"name": "script", "use": "admin"})
    assert "Only staff" in page.trouble and page.keys == []
    first = told(await page.make_key({"name": "script", "use": "chat", "monthly_tokens": "500"}))
    [line] = page.keys
    assert "chat, models" in line.rights and "500 tokens a month" in line.rights
    second = told(await page.rotate(line.id))
    assert second != first and "its former secret serves until" in page.keys[0].rights
    for key in (first, second):
        grant = await parley.accounts.grant(key)
        assert grant is not None and (grant.key_id, grant.rights.monthly_tokens) == (line.id, 500)


@pytest.mark.parametrize(("form", "left"), [({}, 1), ({"end_keys": "yes"}, 0)])
async def test_a_new_password_says_what_becomes_of_the_keys(
    form: dict[str, Any], left: int, start_parley: StartParley, monkeypatch: pytest.MonkeyPatch
) -> None:
    parley = await start_parley()
    page = page_of(Account, await person(parley), monkeypatch)
    await page.make_key({"name": "script"})
    await page.change_password({"current": PASSWORD, "new": NEW, "again": NEW, **form})
    said = "Your API key still works." if left else "You have no API key."
    assert (page.password_said, len(page.keys)) == (f"{CHANGED} {said}", left)
