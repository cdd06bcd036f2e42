"""What people type into the fields of an account, brought into one form. It does not know who has an
account."""

import re
import unicodedata

from chat_app.accounts.identity import AccountError

MAX_EMAIL, MAX_NAME = 254, 100
# Deliberately loose: only mail that arrives proves an address. "admin@localhost" is fine on a laptop.
_EMAIL = re.compile(r"""[^@\s<>()\[\],;:"'\\]+@[^@\s<>()\[\],;:"'\\]+""")


def normal_email(email: str) -> str:
    """Trimmed, in Unicode's compatibility form and lower case. Raises `AccountError` (bad_email)."""
    normal = unicodedata.normalize("NFKC", email).strip().lower()
    if not _EMAIL.fullmatch(normal) or not normal.isprintable() or len(normal) > MAX_EMAIL:
        raise AccountError("bad_email", "This is not an e-mail address. It should look like name@example.org.")
    return normal


def normal_name(name: str, fallback: str = "") -> str:
    """Without control characters and surplus blanks; `fallback` if nothing is left. Raises `AccountError`
    (bad_name)."""
    visible = "".join(c if c.isprintable() else " " for c in unicodedata.normalize("NFC", name))
    normal = " ".join(visible.split()) or fallback
    if len(normal) > MAX_NAME:
        raise AccountError("bad_name", f"A name can have at most {MAX_NAME} characters.")
    return normal
