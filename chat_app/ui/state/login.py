"""The sign-in page. The forms go to the gateway over HTTP; it returns here with the code of what went wrong."""

from urllib.parse import urlencode

import reflex as rx
from reflex.event import EventSpec

from chat_app.accounts import second_factor
from chat_app.accounts.oidc import WORDS
from chat_app.accounts.passwords import BETTER, BOUNDS, EASY, WHY
from chat_app.ui.components.form import api
from chat_app.ui.state.visitor import Visitor
from chat_app.wiring import parley

_WORDS = {
    "bad_credentials": "The e-mail address or the password is not right.",
    "bad_email": "This is not an e-mail address.",
    "bad_name": "The name has at most 100 characters.",
    "bad_password": BOUNDS,
    "weak_password": f"{EASY} {WHY} {BETTER}",
    "email_taken": "There is an account with this e-mail address already. Sign in instead.",
    "bad_setup_code": "Enter the set-up code that was printed where Parley was started.",
    "signup_closed": "New accounts are made by the administrator here: ask for one.",
    "account_disabled": "This account has been disabled. Ask your administrator.",
    "sign_in_again": "That took too long, or your password has changed. Sign in again.",
    "storage_unavailable": "Parley cannot reach its database right now. Try again in a moment.",
    "plan_unknown": "New accounts should get a plan that does not exist. Tell the administrator.",
    **WORDS,
    **second_factor.WORDS,
}

_LONGEST_CODE = 64
_WAIT = {"too_many_attempts": "Too many attempts.", "busy": "Parley is busy with other sign-ins."}


class Login(Visitor):
    """Which of the forms is shown, and what went wrong with the last one."""

    mode: str = ""
    error: str = ""
    next: str = "/"
    here: str = "/login"
    other_way: str = "/login"
    may_sign_up: bool = False
    code: str = ""
    """The set-up code for the first account, if the address that was printed beside it brought one."""
    provider: str = ""
    """What the button for the provider of identities says; empty without one."""
    through_provider: str = ""
    closed: bool = False
    """Whether an account was closed just now."""

    @rx.event
    async def open(self) -> EventSpec | None:
        """Show the right form; somebody who is signed in goes on, or is led to set up a second factor first."""
        asked = self.router.url.query_parameters
        self.next = onward(asked.get("next", "")) or "/"
        who = await self._signed_in()
        if who is not None:
            missing = parley().accounts.must_set_up(who)
            there = f"/second-factor?{urlencode({'next': self.next})}" if missing else self.next
            return rx.redirect(there, replace=True)
        self.closed = asked.get("closed") == "1"
        first = await parley().accounts.is_empty()
        self.code = asked.get("code", "")[:_LONGEST_CODE] if first else ""
        self.may_sign_up = parley().settings.signup_is_open
        up = asked.get("new") == "1" and self.may_sign_up
        code = asked.get("step") == "code" and asked.get("error") != "sign_in_again"
        self.mode = "first" if first else "code" if code else "sign-up" if up else "sign-in"
        if parley().external.is_on:
            self.provider = f"Continue with {parley().settings.oidc_name}"
            self.through_provider = api(f"/auth/oidc?{urlencode({'next': self.next})}")
        self.error = words(asked.get("error", ""), asked.get("wait", ""))
        self.here = self._address(new=up, code=code)
        self.other_way = self._address(new=not up)
        return None

    def _address(self, *, new: bool = False, code: bool = False) -> str:
        query = {
            **({"new": "1"} if new else {}),
            **({"step": "code"} if code else {}),
            **({"next": self.next} if self.next != "/" else {}),
        }
        return "/login" + (f"?{urlencode(query)}" if query else "")


def words(code: str, wait: str = "") -> str:
    """What a code means; for one that is unknown here, that something went wrong."""
    if not code:
        return ""
    if code in _WAIT:
        seconds = wait if wait.isdecimal() else "60"
        return f"{_WAIT[code]} Wait {seconds} {'second' if seconds == '1' else 'seconds'} and try again."
    return _WORDS.get(code, "That did not work. Try again.")


def onward(path: str) -> str:
    """The path if it leads to this site."""
    return path if path.startswith("/") and path[1:2] not in ("/", "\\") and path.isprintable() else ""
