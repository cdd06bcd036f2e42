"""A person's own name and address, and the end of their account."""

from typing import Any

import reflex as rx
from reflex.event import EventSpec

from chat_app.accounts.emails import normal_email, normal_name
from chat_app.accounts.identity import AccountError
from chat_app.ui.state.visitor import Visitor, text_of
from chat_app.wiring import parley

CLOSED = "/login?closed=1"


class Profile(Visitor):
    """What the account page shows of them. `…_said`: what came of the last attempt, and whether it went well."""

    has_second_factor: bool = False
    name_said: str = ""
    name_saved: bool = False
    email_said: str = ""
    email_saved: bool = False
    has_password: bool = True
    closing: bool = False
    """Whether the person is asked if their account shall really end."""
    close_trouble: str = ""

    @rx.event
    async def open(self) -> None:
        """Show how it stands."""
        self.name_said = self.email_said = self.close_trouble = ""
        self.closing = False
        who = await self._identity()
        self.has_second_factor = who is not None and who.has_second_factor
        self.has_password = who is None or who.has_password

    @rx.event
    async def rename(self, form: dict[str, Any]) -> None:
        """Give oneself another name."""
        who = await self._present()
        if who is None:
            return
        name = text_of(form, "name")
        try:
            await parley().accounts.rename(who.user_id, name, address=self._network_address())
        except AccountError as error:
            self.name_said, self.name_saved = error.message, False
            return
        self.name, self.name_said, self.name_saved = normal_name(name), "Saved.", True

    @rx.event
    async def change_email(self, form: dict[str, Any]) -> None:
        """Sign in with another address from now on."""
        who = await self._present()
        if who is None:
            return
        email, password = text_of(form, "email"), text_of(form, "password")
        try:
            await parley().accounts.change_email(
                who.user_id, email, password, address=self._network_address(), hit=parley().limits.hit
            )
        except AccountError as error:
            self.email_said, self.email_saved = error.message, False
            return
        self.email, self.email_saved = normal_email(email), True
        self.email_said = f"From now on you sign in as {self.email}."

    @rx.event
    def ask_close(self) -> None:
        """Say what closing means, and ask for the password."""
        self.closing, self.close_trouble = True, ""

    @rx.event
    def keep(self) -> None:
        """The account stays."""
        self.closing, self.close_trouble = False, ""

    @rx.event
    async def close(self, form: dict[str, Any]) -> EventSpec | None:
        """Close the account for good."""
        who = await self._present()
        if who is None:
            return None
        password, code = text_of(form, "password"), text_of(form, "code")
        try:
            await parley().closing.close(
                who.user_id, password, code, address=self._network_address(), hit=parley().limits.hit
            )
        except AccountError as error:
            self.close_trouble = error.message
            return None
        return rx.redirect(CLOSED, replace=True)
