"""A browser tab without a browser: the pages' states as Reflex makes them."""

from typing import Any

import pytest
import reflex as rx

from chat_app.accounts.identity import Identity
from chat_app.ui.state.visitor import Visitor


def new_page(state: type[Visitor]) -> Any:
    """A page's state as Reflex makes it."""
    tab: Any = rx.State(_reflex_internal_init=True)  # type: ignore[call-arg]
    return tab.get_substate(state.get_full_name().split("."))


def page_of(state: type[Visitor], who: Identity | None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A page's state as Reflex makes it, with `who` as the database's answer to its cookie, and their password shown
    lately."""
    page = new_page(state)

    async def identity(self: Visitor) -> Identity | None:
        return who

    async def proven(self: Visitor) -> bool:
        return True

    monkeypatch.setattr(Visitor, "_identity", identity)
    monkeypatch.setattr(Visitor, "_is_proven", proven)
    return page
