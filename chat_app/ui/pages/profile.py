"""Parts of the account page: name, address, the way to the second factor, and the end of the account."""

# mypy: disable-error-code="no-any-return,attr-defined,operator,misc,import-untyped,arg-type,union-attr,index"
# Reflex evaluates this file once, into JavaScript: a state's attributes are expressions here, which types cannot tell.

import reflex as rx

from chat_app.ui.components.form import code_field, field
from chat_app.ui.state.profile import Profile
from chat_app.ui.state.visitor import Visitor


def profile() -> rx.Component:
    """Name and address."""
    return rx.el.section(
        rx.el.h2("Name and e-mail"),
        rx.el.form(
            field("Name", "name", default_value=Visitor.name, required=True, max_length=100, auto_complete="name"),
            _said(Profile.name_said, Profile.name_saved),
            rx.el.button("Save the name", type="submit", class_name="button"),
            on_submit=Profile.rename,
            class_name="narrow",
            key=Visitor.name,
        ),
        rx.cond(Profile.has_password, _email()),
        custom_attrs={"data-profile": ""},
    )


def _email() -> rx.Component:
    return rx.el.form(
        field("New e-mail", "email", type="email", required=True, auto_complete="email"),
        field("Your password", "password", type="password", required=True, auto_complete="current-password"),
        _said(Profile.email_said, Profile.email_saved),
        rx.el.button("Change the e-mail", type="submit", class_name="button"),
        on_submit=Profile.change_email,
        reset_on_submit=True,
        class_name="narrow",
    )


def second_factor() -> rx.Component:
    """Whether there is one, and the way to its page."""
    return rx.el.section(
        rx.el.h2("Second factor"),
        rx.el.p(
            rx.cond(
                Profile.has_second_factor,
                "On: signing in takes a code of your authenticator app beside the password.",
                "Off: whoever knows your password can sign in. With a second factor it takes a code of your phone too.",
            )
        ),
        rx.el.a(
            rx.cond(Profile.has_second_factor, "Manage it", "Set it up"),
            href="/second-factor",
            class_name="button plain",
        ),
        custom_attrs={"data-second-factor": ""},
    )


def closing() -> rx.Component:
    """The end of the account, asked twice."""
    return rx.el.section(
        rx.el.h2("Leave for good"),
        rx.cond(
            ~Profile.has_password,
            rx.el.p("You sign in without a password here: ask your administrator to disable your account."),
        ),
        rx.cond(
            Profile.closing,
            rx.fragment(
                rx.el.p(
                    "At once you are signed out everywhere, your API keys end, answers that are being written stop, and"
                    " your name, e-mail and password are erased. Your chats are erased within the hour, the records of"
                    " your programs’ calls when their time is over. What stays is what answers cost, under a number."
                ),
                rx.el.p("This cannot be undone. The e-mail address is free for another account then."),
                rx.el.form(
                    field(
                        "Your password", "password", type="password", required=True, auto_complete="current-password"
                    ),
                    rx.cond(Profile.has_second_factor, code_field()),
                    rx.cond(
                        Profile.close_trouble != "",
                        rx.el.p(Profile.close_trouble, class_name="trouble", role="alert"),
                    ),
                    rx.el.div(
                        rx.el.button("Keep it", type="button", class_name="button plain", on_click=Profile.keep),
                        rx.el.button("Close it for good", type="submit", class_name="button danger"),
                        class_name="buttons",
                    ),
                    on_submit=Profile.close,
                    class_name="narrow",
                ),
            ),
            rx.cond(
                Profile.has_password,
                rx.el.button(
                    "Close my account", type="button", class_name="button plain danger", on_click=Profile.ask_close
                ),
            ),
        ),
        custom_attrs={"data-closing": ""},
    )


def _said(words: rx.Var[str], went_well: rx.Var[bool]) -> rx.Component:
    return rx.cond(words != "", rx.el.p(words, class_name=rx.cond(went_well, "said", "trouble"), role="status"))
