"""`/second-factor`: set one up, new recovery codes, turn it off. For whoever has to, before they see anything else."""

# mypy: disable-error-code="no-any-return,attr-defined,operator,misc,import-untyped,arg-type,union-attr,index"
# Reflex evaluates this file once, into JavaScript: a state's attributes are expressions here, which types cannot tell.

from typing import Any

import reflex as rx

from chat_app.ui.components.browser import Behaviour, NewFactor, RecoveryCodes
from chat_app.ui.components.form import code_field, field
from chat_app.ui.components.icon import logo
from chat_app.ui.components.shell import sign_out, theme_button
from chat_app.ui.state.second_factor import SecondFactor
from chat_app.ui.state.visitor import Visitor


def second_factor() -> rx.Component:
    """The page."""
    return rx.el.div(
        Behaviour.create(),
        rx.el.div(theme_button(), class_name="corner"),
        rx.el.main(
            logo(),
            rx.el.h1("Second factor"),
            _ended(),
            rx.cond(SecondFactor.said != "", rx.el.p(SecondFactor.said, class_name="said", role="status")),
            rx.cond(SecondFactor.trouble != "", rx.el.p(SecondFactor.trouble, class_name="trouble", role="alert")),
            NewFactor.create(),
            RecoveryCodes.create(),
            rx.match(SecondFactor.mode, ("off", _off()), ("confirming", _confirming()), ("on", _on()), rx.fragment()),
            id="main",
            class_name="door",
        ),
        class_name="entrance",
    )


def _ended() -> rx.Component:
    again = rx.el.a("Sign in again", href=Visitor.door, class_name="link")
    return rx.cond(Visitor.gone != "", rx.el.p(Visitor.gone, " ", again, class_name="trouble", role="alert"))


def _off() -> rx.Component:
    return rx.fragment(
        rx.el.p(
            rx.cond(
                SecondFactor.required,
                "Your account needs one here before you go on: a code of an authenticator app on your phone, beside the"
                " password, each time you sign in.",
                "Signing in then takes a code of an authenticator app on your phone, beside the password.",
            ),
            class_name="lead",
        ),
        rx.el.form(
            _password(),
            rx.el.button("Set it up", type="submit", class_name="button wide"),
            on_submit=SecondFactor.begin,
            reset_on_submit=True,
            key="begin",
        ),
        rx.cond(SecondFactor.required, sign_out("Sign out", class_name="link"), _back("Back to the account")),
    )


def _confirming() -> rx.Component:
    return rx.el.form(
        code_field("Code that the app shows", recovery=False),
        rx.el.button("Turn it on", type="submit", class_name="button wide"),
        on_submit=SecondFactor.confirm,
        reset_on_submit=True,
        key="confirm",
    )


def _on() -> rx.Component:
    return rx.fragment(
        rx.el.p(
            "It is on for ", rx.el.strong(Visitor.email), ". Recovery codes left: ",
            rx.el.strong(SecondFactor.codes_left, custom_attrs={"data-codes-left": ""}), ".",
            class_name="lead",
        ),
        rx.el.a("Go on", href=SecondFactor.next, class_name="button wide"),
        _more("New recovery codes", "Make new codes", SecondFactor.renew, danger=False),
        _more("Turn it off, or change to another phone", "Turn it off", SecondFactor.turn_off, danger=True),
    )  # fmt: skip


def _more(title: str, button: str, event: Any, *, danger: bool) -> rx.Component:
    return rx.el.details(
        rx.el.summary(title),
        rx.el.form(
            _password(),
            code_field(),
            rx.el.button(button, type="submit", class_name="button danger wide" if danger else "button wide"),
            on_submit=event,
            reset_on_submit=True,
        ),
        class_name="fold",
    )


def _password() -> rx.Component:
    return field("Your password", "password", type="password", required=True, auto_complete="current-password")


def _back(words: str) -> rx.Component:
    return rx.el.p(rx.el.a(words, href=SecondFactor.next, class_name="link"))
