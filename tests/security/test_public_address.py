"""The public address as its operator writes it is the one that browsers send, or it is refused at the start."""

import os
import subprocess
import sys

import pytest
from pydantic import ValidationError

from chat_app.gateway.hosts import is_known
from chat_app.gateway.origins import allowed_origins
from chat_app.settings import Settings, wrong
from tests.app import ROOT
from tests.parley import PASSWORD, StartParley, person
from tests.security.doors import door_to


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("https://chat.example.org", "https://chat.example.org"),
        ("HTTPS://Chat.Example.ORG/", "https://chat.example.org"),
        (" https://chat.example.org:443 ", "https://chat.example.org"),
        ("http://chat.example.org:80/", "http://chat.example.org"),
        ("http://chat.example.org:443", "http://chat.example.org:443"),
        ("https://chat.example.org.:8443", "https://chat.example.org:8443"),
        ("https://Müller.example", "https://xn--mller-kva.example"),
        ("https://straße.example", "https://xn--strae-oqa.example"),
        ("https://例え。テスト", "https://xn--r8jz45g.xn--zckzah"),
        ("http://[2001:DB8:0::1]:3000", "http://[2001:db8::1]:3000"),
        ("http://192.0.2.7:3000", "http://192.0.2.7:3000"),
        ("http://my_host:3000", "http://my_host:3000"),
        ("", ""),
    ],
)
def test_it_is_kept_as_browsers_write_it(written: str, meant: str) -> None:
    assert Settings(public_url=written).public_url == meant


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("chat.example.org", "is no address: write https://chat.example.org"),
        ("ftp://chat.example.org", "is no address"),
        ("https://", "is no address"),
        ("https://chat.example.org:0", "is no address"),
        ("https://chat.example.org:70000", "is no address"),
        ("https://chat.example.org:", "is no address"),
        ("https://chat example.org", "is no address"),
        ("https://chat.example.org;x", "is no address"),
        ("https://chat..example.org", "is no address"),
        ("https://[::1", "is no address"),
        ("https://[fe80::1%eth0]", "is no address"),
        ("https://xn--a\u00fc.example", "is no address"),
        ("https://chat.example.org/parley", "at the root of one: write https://chat.example.org"),
        ("https://chat.example.org/?a=b", "at the root of one: write https://chat.example.org"),
        ("https://chat.example.org#x", "at the root of one: write https://chat.example.org"),
        ("https://ada:hunter2@Chat.example.org", "without user and password is wanted: write https://chat.example.org"),
    ],
)
def test_what_is_more_or_less_than_that_is_refused(written: str, said: str) -> None:
    with pytest.raises(ValidationError) as error:
        Settings(public_url=written)
    assert wrong(error.value).startswith("PARLEY_PUBLIC_URL: ")
    assert said in wrong(error.value)
    assert "hunter2" not in wrong(error.value)


def test_a_start_ends_with_the_reason() -> None:
    env = {**os.environ, "PARLEY_PUBLIC_URL": "https://example.org/chat"}
    command = [sys.executable, "-m", "chat_app.serve"]
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "✗ PARLEY_PUBLIC_URL: " in ended.stderr and "write https://example.org" in ended.stderr


@pytest.mark.parametrize("written", ["HTTPS://MÜLLER.example:443/", "https://xn--mller-kva.example"])
async def test_a_browser_at_that_address_signs_in(start_parley: StartParley, written: str) -> None:
    parley = await start_parley(public_url=written)
    assert allowed_origins(parley.settings) == ["https://xn--mller-kva.example"]
    assert is_known("xn--mller-kva.example", parley.settings)
    await person(parley)
    async with door_to(parley) as door:
        own = {"Host": "xn--mller-kva.example", "Origin": "https://xn--mller-kva.example"}
        entered = await door.sign_in("ada@example.org", PASSWORD, **own)
        assert (entered.status, entered.error) == (303, "")
        assert entered.headers["Location"] == "https://xn--mller-kva.example/"
