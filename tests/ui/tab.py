"""A browser tab without a browser: the pages' states as Reflex makes them."""

from typing import Any

import pytest
import reflex as rx

from chat_app.accounts.identity import Identity
from chat_app.ui.state.visitor import Visitor


def page_of(state: type[Visitor], who: Identity | None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A page's state as Reflex makes it, with `who` as the database's answer to its cookie."""
    return page_of_tab(rx.State(_reflex_internal_init=True), state, who, monkeypatch)  # type: ignore[call-arg]


def page_of_tab(tab: Any, state: type[Visitor], who: Identity | None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One of the pages of a tab that has been used before."""
    page = tab.get_substate(state.get_full_name().split("."))

    async def identity(self: Visitor) -> Identity | None:
        return who

    monkeypatch.setattr(Visitor, "_identity", identity)
    return page
