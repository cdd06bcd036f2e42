"""Codes that people type: of letters and digits that are not taken for one another, in groups of four."""

import secrets

_LETTERS = "ABCDEFGHJKMNPQRSTVWXYZ23456789"
_EACH = 4


def new_code(groups: int) -> str:
    """A random code of about 20 bits a group: `K7WM-3QHP`."""
    return "-".join("".join(secrets.choice(_LETTERS) for _ in range(_EACH)) for _ in range(groups))


def normal(code: str) -> str:
    """The code however it was typed: capitals, without blanks and hyphens."""
    return "".join(c for c in code.upper() if c.isalnum())
