"""What the sign-in page says of each way in which a form can come back."""

import pytest

from chat_app.ui.state.login import words

OTHER = words("something_new")


@pytest.mark.parametrize(
    "code",
    ["bad_credentials", "bad_email", "bad_name", "bad_password", "weak_password", "bad_setup_code", "email_taken",
     "signup_closed", "account_disabled", "too_many_attempts", "busy", "storage_unavailable", "plan_unknown"],
)  # fmt: skip
def test_every_refusal_has_words_of_its_own(code: str) -> None:
    assert words(code) not in ("", OTHER)


def test_how_long_to_wait() -> None:
    assert words("busy", "5") == "Parley is busy with other sign-ins. Wait 5 seconds and try again."
    assert words("too_many_attempts", "1") == "Too many attempts. Wait 1 second and try again."
    assert "<" not in words("busy", "<b>") and "60 seconds" in words("busy", "<b>")
