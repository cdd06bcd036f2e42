"""The page of the second factor: what it tells once goes to the browser alone, and never lies in a state."""

import re

import pyotp
import pytest

from chat_app.accounts.identity import Identity
from chat_app.ui.state.login import onward
from chat_app.ui.state.second_factor import SecondFactor
from chat_app.ui.state.visitor import Visitor
from chat_app.wiring import Parley
from tests.parley import PASSWORD, StartParley, person
from tests.ui.tab import new_page


@pytest.fixture
async def running(start_parley: StartParley) -> Parley:
    return await start_parley()


async def test_secret_and_codes_are_told_once(running: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = await person(running)
    page = new_page(SecondFactor)

    async def signed_in(self: Visitor) -> Identity | None:
        return await running.accounts.by_email(ada.email)

    monkeypatch.setattr(Visitor, "_signed_in", signed_in)
    begun = str(await page.begin({"password": PASSWORD}))
    [secret] = re.findall(r"(?:[A-Z2-7]{4} ){7}[A-Z2-7]{4}", begun)
    assert "<svg" in begun and page.mode == "confirming"
    assert await page.confirm({"code": "no code"}) == []
    assert "not right" in page.trouble
    confirmed = str(await page.confirm({"code": pyotp.TOTP(secret.replace(" ", "")).now()}))
    codes = re.findall(r"\w{4}(?:-\w{4}){5}", confirmed)
    assert len(set(codes)) == 10 and (page.mode, page.codes_left) == ("on", 10)
    renewed = str(await page.renew({"password": PASSWORD, "code": codes[0]}))
    new = re.findall(r"\w{4}(?:-\w{4}){5}", renewed)
    assert len(set(new) | set(codes)) == 20
    kept = "".join(str(vars(state)) for state in (page, page.parent_state, page.parent_state.parent_state))
    assert "'codes_left': 10" in kept
    assert not any(told in kept for told in (secret, secret.replace(" ", ""), PASSWORD, *codes, *new))
    assert "parley:codes" in str(await page.turn_off({"password": PASSWORD, "code": new[0]}))
    assert page.mode == "off"


@pytest.mark.parametrize(
    "path", ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:1", "/\n/x", ""]
)
def test_it_leads_to_no_other_site(path: str) -> None:
    assert onward(path) == ""
