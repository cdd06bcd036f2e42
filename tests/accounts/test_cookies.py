"""The cookie: what is set, and that it is found among whatever else a browser sends."""

import pytest

from chat_app.accounts.cookies import clear_cookies, device_cookie, device_from, set_cookie, token_from
from chat_app.accounts.tokens import digest, is_host_token, is_key, is_token, new_key, new_token

TOKEN = "t0ken-_" * 6 + "x"
HOST_TOKEN = f"h.{TOKEN}"


def test_the_cookie_is_hidden_from_scripts_and_from_foreign_forms() -> None:
    cookie = set_cookie(TOKEN, 30)
    assert cookie.startswith(f"parley_session={TOKEN}; ")
    assert {"HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=2592000"} == set(cookie.split("; ")[1:])


def test_behind_tls_no_other_site_can_plant_it() -> None:
    for cookie, name in ((set_cookie(HOST_TOKEN, 30), "session"), (device_cookie(HOST_TOKEN), "device")):
        assert cookie.startswith(f"__Host-parley_{name}={HOST_TOKEN}; ")
        assert {"HttpOnly", "SameSite=Lax", "Path=/", "Secure"} < set(cookie.split("; "))
        assert "Domain" not in cookie


def test_clearing_ends_the_cookie_at_once_under_either_name() -> None:
    cleared = clear_cookies()
    assert {cookie.partition("=")[0] for cookie in cleared} == {"parley_session", "__Host-parley_session"}
    assert all("Max-Age=0" in cookie for cookie in cleared)
    assert all(("Secure" in cookie) == cookie.startswith("__Host-") for cookie in cleared)


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (f"__Host-parley_session={HOST_TOKEN}", HOST_TOKEN),
        (f"parley_session={TOKEN}; __Host-parley_session={HOST_TOKEN}", HOST_TOKEN),
        (f"parley_session={TOKEN}; __Host-parley_session=nonsense", TOKEN),
        (f"parley_session={HOST_TOKEN}", None),  # Planted by another site of the domain.
        (f"__Host-parley_session={TOKEN}", None),
    ],
)
def test_a_token_is_found_only_under_the_name_it_was_given(header: str, token: str | None) -> None:
    assert token_from(header) == token
    assert device_from(header) is None
    assert device_from(header.replace("session", "device")) == token


@pytest.mark.parametrize(
    "header",
    [
        f"parley_session={TOKEN}",
        f"a=b; parley_session={TOKEN}; c=d",
        f'odd="quo;ted"; {{json}}; parley_session={TOKEN}',
        f"parley_session=; parley_session={TOKEN}",
        f"x_parley_session=no;parley_session={TOKEN}",
    ],
)
def test_the_token_is_found(header: str) -> None:
    assert token_from(header) == TOKEN


@pytest.mark.parametrize("header", ["", "parley_session", "parley_session=short", f"PARLEY_SESSION={TOKEN}", ";;="])
def test_what_is_no_token_is_none(header: str) -> None:
    assert token_from(header) is None


def test_tokens_are_long_random_and_stored_only_as_a_digest() -> None:
    tokens = {new_token() for _ in range(1_000)}
    assert len(tokens) == 1_000
    assert all(is_token(token) and not is_host_token(token) for token in tokens)
    assert is_token(host := new_token(host_only=True)) and is_host_token(host)
    assert digest(TOKEN) != TOKEN
    assert len(digest(TOKEN)) == 64


def test_a_key_names_what_it_is() -> None:
    key = new_key()
    assert key.startswith("sk-parley-")
    assert is_key(key)
    assert not is_key(TOKEN)
    assert not is_key(f"sk-parley-{HOST_TOKEN}")
