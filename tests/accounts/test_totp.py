"""Codes of authenticator apps: those of the standard, by the clock, and secrets that the database alone cannot tell."""

import base64

import pyotp
import pytest

from chat_app.accounts.totp import STEP_S, address_of, mark_of, new_seed, secret_of, step_of

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
STANDARD = base64.b32encode(b"12345678901234567890").decode()
"""The secret of the examples in RFC 6238, appendix B."""


@pytest.mark.parametrize(
    ("second", "code"),
    [(59, "287082"), (1_111_111_109, "081804"), (2_000_000_000, "279037"), (20_000_000_000, "353130")],
)
def test_codes_are_the_standards(second: int, code: str) -> None:
    assert step_of(STANDARD, code, second * 1000) == second // STEP_S


@pytest.mark.parametrize(("late_s", "taken"), [(-31, False), (-30, True), (0, True), (59, True), (60, False)])
def test_a_clock_may_be_wrong_by_one_step(late_s: int, taken: bool) -> None:
    begins_s = 1_000_000 * STEP_S
    code = pyotp.TOTP(STANDARD).at(begins_s)
    assert step_of(STANDARD, code, (begins_s + late_s) * 1000) == (1_000_000 if taken else None)


@pytest.mark.parametrize("code", ["", "28708", "2870820", "28708x", "２８７０８２", "-87082", "28 082"])
def test_what_is_no_code_is_of_no_step(code: str) -> None:
    assert step_of(STANDARD, code, 59_000) is None


def test_a_secret_is_of_one_key_one_seed_and_one_person() -> None:
    seeds = new_seed(), new_seed()
    made = {secret_of(key, seed, who) for key in (KEY, OTHER_KEY) for seed in seeds for who in ("ada", "eve")}
    assert len(made) == 8
    assert secret_of(KEY, seeds[0], "ada") in made  # The same each time.
    assert all(len(base64.b32decode(secret)) == 20 for secret in made)


def test_a_keys_mark_tells_keys_apart_and_holds_nothing_of_them() -> None:
    assert mark_of(KEY) == mark_of(bytes(KEY)) != mark_of(OTHER_KEY)
    assert len(mark_of(KEY)) == 16 and KEY.hex()[:8] not in mark_of(KEY)


def test_the_address_is_what_apps_read() -> None:
    app = pyotp.parse_uri(address_of(STANDARD, "ada+1@example.org"))
    assert isinstance(app, pyotp.TOTP)
    assert (app.issuer, app.name, app.secret, app.digits, app.interval) == (
        "Parley", "ada+1@example.org", STANDARD, 6, STEP_S,
    )  # fmt: skip
