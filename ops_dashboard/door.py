"""The dashboard's door: shows the sign-in form until the app says that someone may look. Asks the app each time a page
is drawn, so whoever is signed out or loses the role there sees nothing more here."""

from dataclasses import dataclass

import streamlit as st

from chat_app.settings import settings
from ops_dashboard.gate import COOKIES, DEFAULT_ADDRESS, Gate, GateError, Person

_TOKEN = "door_token"  # noqa: S105
_IGNORED = "door_ignores_cookie"


@dataclass(frozen=True, slots=True)
class Visit:
    """Who stands at the door, if that could be found out."""

    person: Person | None = None
    trouble: str = ""

    @property
    def is_open(self) -> bool:
        return self.person is not None and self.person.may_look


def visit() -> Visit:
    """Ask the app who is looking. Draws nothing."""
    token = _token()
    try:
        return Visit(_gate().who(token) if token else None)
    except GateError as error:
        return Visit(trouble=str(error))


def draw(visit: Visit) -> None:
    """What stands on a closed door: the form, or why it stays closed."""
    _, middle, _ = st.columns([1, 1.4, 1])
    with middle:
        st.markdown("## :material/monitoring: Parley operations")
        if visit.trouble:
            st.error(visit.trouble, icon=":material/cloud_off:")
            st.button("Try again")
        elif visit.person is not None:
            st.warning(
                f"`{visit.person.email}` has no access to this dashboard. An administrator can give the role “staff”.",
                icon=":material/lock:",
            )
            st.button("Sign in as someone else", on_click=_forget)
        else:
            _form()


def signed_in_as(visit: Visit) -> None:
    """A line that says who is looking, and the way out."""
    assert visit.person is not None
    st.divider()
    st.caption(f"{visit.person.name or visit.person.email} · {visit.person.role}")
    st.button("Sign out", icon=":material/logout:", on_click=_leave)


def _gate() -> Gate:
    return Gate(settings().public_url or DEFAULT_ADDRESS)


def _token() -> str:
    """The session of this visit, or the one that the browser has in the app on the same host."""
    own = st.session_state.get(_TOKEN, "")
    if own or st.session_state.get(_IGNORED):
        return str(own)
    return next((str(token) for name in COOKIES if (token := st.context.cookies.get(name))), "")


def _form() -> None:
    st.caption("For administrators and staff. Sign in with your Parley account.")
    with st.form("sign_in"):
        email = st.text_input("E-mail", autocomplete="username")
        password = st.text_input("Password", type="password", autocomplete="current-password")
        sent = st.form_submit_button("Sign in", type="primary", width="stretch")
    if not sent:
        return
    try:
        st.session_state[_TOKEN] = _gate().sign_in(email.strip(), password)
    except GateError as error:
        st.error(str(error))
        return
    st.rerun()


def _forget() -> None:
    """Leave the app's own session alone; only this visit asks anew."""
    st.session_state.pop(_TOKEN, None)
    st.session_state[_IGNORED] = True


def _leave() -> None:
    own = st.session_state.get(_TOKEN)
    _forget()
    if own:
        try:
            _gate().sign_out(own)
        except GateError as error:
            st.toast(str(error))
