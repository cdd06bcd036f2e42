"""The cookie: what is set, and that it is found among whatever else a browser sends."""

import pytest

from chat_app.accounts.cookies import clear_cookie, set_cookie, token_from
from chat_app.accounts.tokens import digest, is_key, is_token, new_key, new_token

TOKEN = "t0ken-_" * 6 + "x"


def test_the_cookie_is_hidden_from_scripts_and_from_foreign_forms() -> None:
    cookie = set_cookie(TOKEN, 30, secure=True)
    assert cookie.startswith(f"parley_session={TOKEN}; ")
    assert {"HttpOnly", "SameSite=Lax", "Path=/", "Secure", "Max-Age=2592000"} <= set(cookie.split("; "))
    assert "Secure" not in set_cookie(TOKEN, 30, secure=False)


def test_clearing_ends_the_cookie_at_once() -> None:
    assert "Max-Age=0" in clear_cookie(secure=False)


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
    assert all(is_token(token) for token in tokens)
    assert digest(TOKEN) != TOKEN
    assert len(digest(TOKEN)) == 64


def test_a_key_names_what_it_is() -> None:
    key = new_key()
    assert key.startswith("sk-parley-")
    assert is_key(key)
    assert not is_key(TOKEN)
