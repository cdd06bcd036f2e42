"""The form for a new API key: what it offers, and what a posted one means. It does not know whose key it will be."""

from collections.abc import Mapping
from typing import Any

from chat_app.accounts.grant import DAY_MS, SCOPES, USUAL, Rights
from chat_app.data.ids import now_ms

USES = {"usual": USUAL, "chat": ("chat", "models"), "admin": SCOPES}
"""By the form's word, the scopes of a key."""
DAYS = (30, 90, 365)
HOUR_MS = 3_600_000
OVERLAP_HOURS = 24
"""How long a secret serves beside the one that the page made in its place."""


def rights_of(form: Mapping[str, Any]) -> Rights:
    """What a posted form asks for; what makes no sense is as if it were left out."""
    days, tokens = (str(form.get(field, "")).strip() for field in ("days", "monthly_tokens"))
    expires = now_ms() + int(days) * DAY_MS if days in map(str, DAYS) else None
    number = tokens.replace(",", "")
    limit = int(number) if number.isascii() and number.isdigit() and len(number) <= 15 else None
    return Rights(USES.get(str(form.get("use", "")), USUAL), monthly_tokens=limit, expires_at=expires)
