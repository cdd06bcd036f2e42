"""The questions that are asked before a chat is renamed or deleted, and for the password before other things."""

# mypy: disable-error-code="no-any-return,attr-defined,operator,misc,import-untyped,arg-type,union-attr,index"
# Reflex evaluates this file once, into JavaScript: a state's attributes are expressions here, which types cannot tell.

import reflex as rx

from chat_app.accounts.passwords import LONGEST
from chat_app.ui.components.form import api_link, field
from chat_app.ui.state.chat import Chat
from chat_app.ui.state.proof import Proof
from chat_app.ui.state.visitor import Visitor


def dialogs() -> rx.Component:
    """The dialog that is open, if one is."""
    return rx.fragment(
        rx.match(Chat.dialog, ("rename", _rename()), ("delete", _delete()), rx.fragment()),
        rx.cond(Proof.asked != "", rx.cond(Proof.elsewhere != "", _proof_elsewhere(), _proof())),
    )


def _rename() -> rx.Component:
    return _dialog(
        "Rename this chat",
        rx.el.form(
            field("Title", "title", default_value=Chat.dialog_title, auto_focus=True, max_length=120, required=True),
            _buttons(rx.el.button("Rename", type="submit", class_name="button")),
            on_submit=Chat.rename,
        ),
    )


def _delete() -> rx.Component:
    return _dialog(
        "Delete this chat?",
        rx.el.p("“", Chat.dialog_title, "” will be gone for good.", dir="auto"),
        rx.el.p(
            "Nobody sees it from now on. Its messages and answers are erased within the hour; what they cost stays."
        ),
        _buttons(rx.el.button("Delete", type="button", class_name="button danger", on_click=Chat.delete)),
    )


def _proof() -> rx.Component:
    return _dialog(
        "Your password again",
        rx.el.p("Enter it to ", Proof.asked, ". You are asked again after a while."),
        rx.el.form(
            rx.el.input(type="hidden", name="username", value=Visitor.email, auto_complete="username"),
            field(
                "Password",
                "password",
                type="password",
                required=True,
                auto_focus=True,
                auto_complete="current-password",
                max_length=LONGEST,
            ),
            rx.cond(Proof.trouble != "", rx.el.p(Proof.trouble, class_name="trouble", role="alert")),
            _buttons(rx.el.button("Go on", type="submit", class_name="button"), Proof.cancel),
            on_submit=Proof.confirm,
            reset_on_submit=True,
        ),
    )


def _proof_elsewhere() -> rx.Component:
    return _dialog(
        "Sign in again",
        rx.el.p("Show once more who you are to ", Proof.asked, ". You come back to this page; then do it again."),
        _buttons(api_link("Sign in again", href=Proof.elsewhere, class_name="button"), Proof.cancel),
    )


def _dialog(title: str, *children: rx.Component) -> rx.Component:
    return rx.el.dialog(
        rx.el.h2(title),
        *children,
        class_name="dialog",
        custom_attrs={"data-modal": "", "aria-label": title},
    )


def _buttons(act: rx.Component, on_cancel: object = Chat.close_dialog) -> rx.Component:
    cancel = rx.el.button(
        "Cancel", type="button", class_name="button plain", on_click=on_cancel, custom_attrs={"data-cancel": ""}
    )
    return rx.el.div(cancel, act, class_name="buttons")
