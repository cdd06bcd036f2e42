"""How often each disaster strikes, and accounts that can take it."""

import os

import pytest

from tests.app import RunningApp


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`round` counts the disasters: 3 of each, or as many as PARLEY_CHAOS_ROUNDS says."""
    if "round" in metafunc.fixturenames:
        metafunc.parametrize("round", range(int(os.environ.get("PARLEY_CHAOS_ROUNDS", "3"))))


def account(app: RunningApp, email: str = "ada@example.org") -> str:
    """An account without a limit; returns its API key."""
    app.sign_up(email)
    app.unlimited(email)
    return app.api_key(email)
