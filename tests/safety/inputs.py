"""Texts that the check of the input refuses."""

from chat_app.safety.input import inspect
from chat_app.safety.verdict import Verdict


def refusal(text: str) -> Verdict:
    """Why this text is refused."""
    finding = inspect(text)
    assert finding is not None, f"let through: {text[:80]!r}"
    return finding.verdict
