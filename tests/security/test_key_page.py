"""The account page's keys: made with the bounds that the form names, a new secret, and a password that ends them."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from chat_app.accounts.grant import DAY_MS, SCOPES, USUAL, Rights
from chat_app.accounts.identity import AccountError
from chat_app.data.db.base import DatabaseUnavailable, Statement
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
        ({"use": "usual", "days": "", "monthly_tokens": " "}, Rights(USUAL), None),
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


@pytest.mark.parametrize("typed", ["10k", "1.000.000", "-5", "ten", "1e6", "9" * 16])
def test_a_limit_that_is_no_number_is_refused(typed: str) -> None:
    with pytest.raises(AccountError, match="Tokens a month must be a whole number"):
        rights_of({"monthly_tokens": typed})


@pytest.mark.parametrize("form", [{"days": "1"}, {"days": {}}, {"use": "everything"}])
def test_a_choice_that_is_not_offered_is_refused(form: dict[str, Any]) -> None:
    with pytest.raises(AccountError, match="no such choice"):
        rights_of(form)


async def told(events: AsyncIterator[Any]) -> str:
    """The key that a page is told in the course of an event."""
    found = re.search(r"sk-parley-[\w-]+", str([event async for event in events]))
    assert found is not None
    return found[0]


async def in_silence(events: AsyncIterator[Any]) -> None:
    """The event has the page do nothing: show no key, empty no form."""
    assert [event async for event in events] == []


async def test_a_key_from_the_page_has_its_bounds_and_gets_a_new_secret(
    start_parley: StartParley, monkeypatch: pytest.MonkeyPatch
) -> None:
    parley = await start_parley()
    await person(parley, "root@example.org")
    page = page_of(Account, await person(parley), monkeypatch)
    await in_silence(page.make_key({"name": "script", "use": "admin"}))
    assert "Only staff" in page.trouble and page.keys == []
    first = await told(page.make_key({"name": "script", "use": "chat", "monthly_tokens": "500"}))
    [line] = page.keys
    assert "chat, models" in line.rights and "500 tokens a month" in line.rights
    page.ask_rotate(line.id)
    assert page.rotating == line.id
    second = await told(page.rotate(line.id))
    assert page.rotating == ""
    assert second != first and "its former secret serves until" in page.keys[0].rights
    for key in (first, second):
        grant = await parley.accounts.grant(key)
        assert grant is not None and (grant.key_id, grant.rights.monthly_tokens) == (line.id, 500)
    await in_silence(page.rotate(line.id))
    assert "former secret of this key still serves" in page.trouble
    assert await parley.accounts.grant(first) is not None and await parley.accounts.grant(second) is not None


async def test_a_new_key_is_shown_even_if_the_page_cannot_be_loaded_then(
    start_parley: StartParley, monkeypatch: pytest.MonkeyPatch
) -> None:
    parley = await start_parley()
    ada = await person(parley)
    page = page_of(Account, ada, monkeypatch)

    async def away(*_: object) -> None:
        raise DatabaseUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(parley.plans, "terms", away)
        made = page.make_key({"name": "script"})
        assert "sk-parley-" in str(await anext(made))
        with pytest.raises(DatabaseUnavailable):
            await anext(made)
        [line] = await parley.accounts.keys(ada.user_id)
        rotated = page.rotate(line.id)
        assert "sk-parley-" in str(await anext(rotated))
        with pytest.raises(DatabaseUnavailable):
            await anext(rotated)


@pytest.mark.parametrize("how", ["revoked", "with the password"])
async def test_the_page_shows_which_key_is_new_and_no_longer_than_it_is_there(
    how: str, start_parley: StartParley, monkeypatch: pytest.MonkeyPatch
) -> None:
    parley = await start_parley()
    page = page_of(Account, await person(parley), monkeypatch)
    await told(page.make_key({"name": "other"}))
    [other] = page.keys
    assert '"name": "script"' in str([e async for e in page.make_key({"name": "script"})]).replace("\\", "")
    if how == "revoked":
        assert await page.revoke(other.id) is None
        gone = await page.revoke(page.keys[0].id)
    else:
        gone = await page.change_password({"current": PASSWORD, "new": NEW, "again": NEW, "end_keys": "yes"})
    assert "detail: null" in str(gone)


async def test_a_key_that_has_expired_is_not_said_to_work(
    start_parley: StartParley, monkeypatch: pytest.MonkeyPatch
) -> None:
    parley = await start_parley()
    page = page_of(Account, await person(parley), monkeypatch)
    for name in ("one", "two"):
        await told(page.make_key({"name": name, "days": "30"}))
    await parley.db.batch(Statement("UPDATE api_key SET expires_at = 1 WHERE name = 'one'"))
    await page.change_password({"current": PASSWORD, "new": NEW, "again": NEW})
    assert page.password_said == f"{CHANGED} Your API key still works."


@pytest.mark.parametrize(("form", "left"), [({}, 1), ({"end_keys": "yes"}, 0)])
async def test_a_new_password_says_what_becomes_of_the_keys(
    form: dict[str, Any], left: int, start_parley: StartParley, monkeypatch: pytest.MonkeyPatch
) -> None:
    parley = await start_parley()
    page = page_of(Account, await person(parley), monkeypatch)
    await told(page.make_key({"name": "script"}))
    await page.change_password({"current": PASSWORD, "new": NEW, "again": NEW, **form})
    said = "Your API key still works." if left else "You have no API key that works."
    assert (page.password_said, len(page.keys)) == (f"{CHANGED} {said}", left)
