"""The form for a new API key: what it offers, and what a posted one means. It does not know whose key it will be."""

from collections.abc import Mapping
from typing import Any

from chat_app.accounts.grant import DAY_MS, SCOPES, USUAL, Rights
from chat_app.accounts.identity import AccountError
from chat_app.data.ids import now_ms

USES = {"usual": USUAL, "chat": ("chat", "models"), "admin": SCOPES}
"""By the form's word, the scopes of a key."""
TOKENS = "Tokens a month"
"""What the field is called, on the page and where it is refused."""
DAYS = (30, 90, 365)
HOUR_MS = 3_600_000
OVERLAP_HOURS = 24
"""How long a secret serves beside the one that the page made in its place."""


def rights_of(form: Mapping[str, Any]) -> Rights:
    """What a posted form asks for; what is left out sets no bound. Raises `AccountError` (bad_key): a bound that was
    meant is never left out."""
    use, days, tokens = (str(form.get(field, "")).strip() for field in ("use", "days", "monthly_tokens"))
    if use not in ("", *USES):
        raise AccountError("bad_key", "“It may” has no such choice.")
    if days not in ("", *map(str, DAYS)):
        raise AccountError("bad_key", "“It ends” has no such choice.")
    number = tokens.replace(",", "").replace(" ", "")
    if number and (not number.isdecimal() or len(number) > 15):
        raise AccountError("bad_key", f"{TOKENS} must be a whole number.")
    expires = now_ms() + int(days) * DAY_MS if days else None
    return Rights(USES.get(use, USUAL), monthly_tokens=int(number) if number else None, expires_at=expires)
