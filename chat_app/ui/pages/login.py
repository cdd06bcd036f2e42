"""`/login`: sign in, sign up, and on the first visit the administrator's account. Plain forms for the gateway."""

# mypy: disable-error-code="no-any-return,attr-defined,operator,misc,import-untyped,arg-type,union-attr,index"
# Reflex evaluates this file once, into JavaScript: a state's attributes are expressions here, which types cannot tell.

import reflex as rx

from chat_app.accounts.passwords import RULE
from chat_app.ui.components.browser import Behaviour
from chat_app.ui.components.form import PostForm, api, api_link, code_field, field
from chat_app.ui.components.icon import logo
from chat_app.ui.components.shell import theme_button
from chat_app.ui.state.login import Login


def login() -> rx.Component:
    """The page."""
    return rx.el.div(
        Behaviour.create(),
        rx.el.div(theme_button(), class_name="corner"),
        rx.el.main(
            logo(),
            rx.match(
                Login.mode,
                ("first", _first()),
                ("sign-up", _sign_up()),
                ("sign-in", _sign_in()),
                ("code", _second_step()),
                rx.fragment(),
            ),
            id="main",
            class_name="door",
        ),
        class_name="entrance",
    )


def _sign_in() -> rx.Component:
    return rx.fragment(
        rx.el.h1("Welcome back"),
        rx.cond(Login.closed, rx.el.p("Your account is closed.", class_name="said", role="status")),
        _form("/auth/login", "Sign in", _email(), _password("current-password")),
        _provider(),
        rx.cond(
            Login.may_sign_up,
            rx.el.p("New here? ", rx.el.a("Create an account", href=Login.other_way, class_name="link")),
            rx.cond(
                Login.provider == "",
                rx.el.p("No account? Ask the administrator here: nobody can sign up by themselves."),
            ),
        ),
    )


def _second_step() -> rx.Component:
    return rx.fragment(
        rx.el.h1("One more step"),
        PostForm.create(
            rx.cond(Login.error != "", rx.el.p(Login.error, class_name="trouble", role="alert")),
            rx.el.input(type="hidden", name="next", value=Login.next),
            rx.el.input(type="hidden", name="back", value=Login.here),
            code_field(),
            rx.el.button("Go on", type="submit", class_name="button wide"),
            action=api("/auth/code"),
            key="code",
        ),
        rx.el.p(rx.el.a("Sign in as somebody else", href="/login", class_name="link")),
    )


def _sign_up() -> rx.Component:
    return rx.fragment(
        rx.el.h1("Create your account"),
        _form("/auth/signup", "Create account", _name(), _email(), _password("new-password")),
        _provider(),
        rx.el.p("You have an account? ", rx.el.a("Sign in", href=Login.other_way, class_name="link")),
    )


def _first() -> rx.Component:
    return rx.fragment(
        rx.el.h1("Welcome to Parley"),
        rx.el.p("Create the first account. It becomes the administrator’s.", class_name="lead"),
        _form(
            "/auth/signup",
            "Create the administrator’s account",
            _code(),
            _name(),
            _email(),
            _password("new-password"),
        ),
        _provider(),
    )


def _provider() -> rx.Component:
    """The way in through a provider of identities, where there is one."""
    return rx.cond(
        Login.provider != "",
        rx.el.div(
            rx.el.p("or", class_name="or"),
            api_link(Login.provider, href=Login.through_provider, class_name="button plain wide"),
            class_name="provider",
        ),
    )


def _form(action: str, button: str, *fields: rx.Component) -> rx.Component:
    return PostForm.create(
        rx.cond(Login.error != "", rx.el.p(Login.error, class_name="trouble", role="alert")),
        rx.el.input(type="hidden", name="next", value=Login.next),
        rx.el.input(type="hidden", name="back", value=Login.here),
        *fields,
        rx.el.button(button, type="submit", class_name="button wide"),
        action=api(action),
        key=button,  # Another form, not the same one with other fields.
        custom_attrs={"data-entry": ""},
    )


def _code() -> rx.Component:
    hint = "Printed where Parley was started; “python -m chat_app setup-code” prints it again."
    options = {"required": True, "auto_complete": "off", "spell_check": False}
    return field("Set-up code", "code", default_value=Login.code, hint=hint, **options)


def _name() -> rx.Component:
    return field("Name", "name", auto_complete="name", max_length=100)


def _email() -> rx.Component:
    return field("E-mail", "email", type="email", required=True, auto_complete="username", auto_focus=True)


def _password(purpose: str) -> rx.Component:
    new = purpose == "new-password"
    hint = RULE if new else ""
    return field("Password", "password", type="password", required=True, auto_complete=purpose, hint=hint)
