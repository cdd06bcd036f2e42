"""`/account`: what the person has left this month, their API keys, their password, where they are signed in, and who
they are (`profile`)."""

# mypy: disable-error-code="no-any-return,attr-defined,operator,misc,import-untyped,arg-type,union-attr,index"
# Reflex evaluates this file once, into JavaScript: a state's attributes are expressions here, which types cannot tell.

import reflex as rx
from reflex_base.constants.base import LiteralColorMode
from reflex_base.style import color_mode, set_color_mode

from chat_app.accounts.passwords import RULE, SHORTEST
from chat_app.ui.components.browser import NewKey
from chat_app.ui.components.form import field
from chat_app.ui.components.shell import page, sign_out
from chat_app.ui.key_form import DAYS, TOKENS
from chat_app.ui.pages.profile import closing, profile, second_factor
from chat_app.ui.state.account import FORM, Account, KeyLine, SessionLine
from chat_app.ui.state.visitor import Visitor


def account() -> rx.Component:
    """The page."""
    return page(
        rx.el.main(
            rx.el.h1("Account"),
            rx.el.p(Visitor.name, " · ", Visitor.email, class_name="lead"),
            _allowance(),
            _keys(),
            _appearance(),
            profile(),
            rx.cond(Account.provider != "", _provider()),
            rx.cond(Account.has_password, rx.fragment(_password(), second_factor())),
            _sessions(),
            _kept(),
            rx.el.section(
                rx.el.h2("Sign out"),
                rx.el.p("On this browser. Your chats stay."),
                sign_out("Sign out", class_name="button plain"),
            ),
            closing(),
            id="main",
            class_name="sheet",
        ),
        title=rx.el.span("Account"),
    )


def _allowance() -> rx.Component:
    return rx.el.section(
        rx.el.h2("This month"),
        rx.el.p(
            rx.el.strong(Account.used, custom_attrs={"data-used": ""}),
            " of ",
            rx.el.strong(Account.limit, custom_attrs={"data-limit": ""}),
            " tokens used on the plan ",
            rx.el.strong(Account.plan, custom_attrs={"data-plan": ""}),
            ".",
            rx.cond(Account.held != "", f" {Account.held} more are held for answers that are being written.", ""),
        ),
        rx.cond(
            Account.limit != "unlimited",
            rx.fragment(
                rx.el.progress(
                    value=Account.percent,
                    max=100,
                    class_name="bar-of-month",
                    custom_attrs={"aria-label": "Used this month"},
                ),
                rx.el.small("Renewed on ", Account.resets, " (UTC)."),
            ),
        ),
    )


def _kept() -> rx.Component:
    return rx.el.section(
        rx.el.h2("What is kept"),
        rx.el.p(
            "Your chats, until you delete them: then their messages and answers are erased within the hour, for good."
            " What a program was told with one of your keys is kept for about an hour after the answer, the record of"
            " the call (model, tokens, times) for ",
            Account.keep_calls_days,
            " days. What answers cost stays.",
        ),
        rx.el.p(
            "Where you are signed in: the kind of browser and when it was used, for as long as you are. Which browsers"
            " you signed in from, and a name for their network address that nobody can turn back, for a"
            " year, or until you change your password."
        ),
        rx.el.p(
            "If a check refuses what you or the model wrote, staff can read a part of it, with keys masked, for as"
            " long as the chat or the record of the call is kept."
        ),
        custom_attrs={"data-kept": ""},
    )


def _keys() -> rx.Component:
    return rx.el.section(
        rx.el.h2("API keys"),
        rx.el.p(
            "Programs use a key as you, on your plan. The address is ",
            rx.el.code(
                rx.Var("typeof location === 'undefined' ? '/v1' : location.origin + '/v1'"),
                suppress_hydration_warning=True,
            ),
            "; any client of OpenAI's chat completions works.",
        ),
        NewKey.create(),
        rx.cond(Account.trouble != "", rx.el.p(Account.trouble, class_name="trouble", role="alert")),
        rx.cond(
            Account.keys.length() > 0,
            rx.el.ul(rx.foreach(Account.keys, _key), class_name="lines", custom_attrs={"data-keys": ""}),
        ),
        rx.el.form(
            field("Name of a new key", "name", placeholder="for example: my script", max_length=100),
            _choice(
                "It may",
                "use",
                rx.el.option("ask, and follow answers", value="usual"),
                rx.el.option("only ask", value="chat"),
                rx.cond(Visitor.is_staff, rx.el.option("administer too", value="admin"), rx.fragment()),
            ),
            _choice(
                "It ends",
                "days",
                rx.el.option("never", value=""),
                *(rx.el.option(f"in {days} days", value=str(days)) for days in DAYS),
            ),
            field(TOKENS, "monthly_tokens", placeholder="as my plan", input_mode="numeric", max_length=30),
            rx.el.button("Make a key", type="submit", class_name="button"),
            id=FORM,
            on_submit=Account.make_key,
            class_name="row-form",
        ),
    )


def _choice(label: str, name: str, *options: rx.Component) -> rx.Component:
    return rx.el.label(rx.el.span(label, class_name="label"), rx.el.select(*options, name=name), class_name="field")


def _key(key: rx.Var[KeyLine]) -> rx.Component:
    return rx.el.li(
        rx.el.div(
            rx.el.strong(key.name),
            rx.el.code(f"{key.prefix}…"),
            rx.el.small(f"made {key.made} · last used {key.used}"),
            rx.el.small(key.rights),
        ),
        rx.cond(
            Account.rotating == key.id,
            rx.el.button(
                "Make a new secret", type="button", class_name="button small", on_click=Account.rotate(key.id)
            ),
            rx.el.button(
                "New secret",
                type="button",
                class_name="button plain small",
                on_click=Account.ask_rotate(key.id),
                title="The one it has serves for another day.",
            ),
        ),
        rx.cond(
            Account.revoking == key.id,
            rx.el.button(
                "Revoke for good", type="button", class_name="button danger small", on_click=Account.revoke(key.id)
            ),
            rx.el.button("Revoke", type="button", class_name="button plain small", on_click=Account.ask_revoke(key.id)),
        ),
        key=key.id,
    )


def _appearance() -> rx.Component:
    def choice(mode: LiteralColorMode, label: str) -> rx.Component:
        return rx.el.button(
            label,
            type="button",
            on_click=set_color_mode(mode),
            custom_attrs={"aria-pressed": rx.cond(color_mode == mode, "true", "false")},
        )

    return rx.el.section(
        rx.el.h2("Appearance"),
        rx.el.div(
            choice("system", "As the system"),
            choice("light", "Light"),
            choice("dark", "Dark"),
            class_name="choices",
            role="group",
            custom_attrs={"aria-label": "Theme"},
        ),
    )


def _provider() -> rx.Component:
    return rx.el.section(
        rx.el.h2("Sign-in with ", Account.provider),
        rx.cond(Account.provider_said != "", rx.el.p(Account.provider_said, class_name="trouble", role="alert")),
        rx.cond(
            Account.connected,
            rx.fragment(
                rx.el.p(
                    "You can sign in with it. What else it asks for is up to it:"
                    " your second factor here is not asked for then."
                ),
                rx.cond(
                    Account.has_password,
                    rx.el.button("Disconnect", type="button", class_name="button plain", on_click=Account.disconnect),
                ),
            ),
            rx.fragment(
                rx.el.p("Connect it, and you can sign in with it as well as with your password."),
                rx.el.button("Connect", type="button", class_name="button plain", on_click=Account.connect),
            ),
        ),
    )


def _password() -> rx.Component:
    return rx.el.section(
        rx.el.h2("Password"),
        rx.el.form(
            rx.el.input(type="hidden", name="username", value=Visitor.email, auto_complete="username"),
            field("Current password", "current", type="password", required=True, auto_complete="current-password"),
            field(
                "New password",
                "new",
                type="password",
                required=True,
                min_length=SHORTEST,
                auto_complete="new-password",
                hint=RULE,
            ),
            field("New password again", "again", type="password", required=True, auto_complete="new-password"),
            rx.el.label(
                rx.el.input(type="checkbox", name="end_keys", value="yes"),
                " Revoke my API keys too",
                class_name="check",
            ),
            rx.cond(
                Account.password_said != "",
                rx.el.p(
                    Account.password_said,
                    class_name=rx.cond(Account.password_changed, "said", "trouble"),
                    role="status",
                ),
            ),
            rx.el.button("Change the password", type="submit", class_name="button"),
            on_submit=Account.change_password,
            reset_on_submit=True,
            class_name="narrow",
        ),
    )


def _sessions() -> rx.Component:
    return rx.el.section(
        rx.el.h2("Where you are signed in"),
        rx.cond(Account.sessions_said != "", rx.el.p(Account.sessions_said, class_name="said", role="status")),
        rx.el.ul(rx.foreach(Account.sessions, _session), class_name="lines", custom_attrs={"data-sessions": ""}),
        rx.cond(
            Account.sessions.length() > 1,
            rx.el.button(
                "Sign out everywhere else",
                type="button",
                class_name="button plain",
                on_click=Account.end_other_sessions,
            ),
        ),
    )


def _session(session: rx.Var[SessionLine]) -> rx.Component:
    return rx.el.li(
        rx.el.div(
            rx.el.strong(session.browser),
            rx.cond(session.here, rx.el.span("this browser", class_name="tag")),
            rx.el.small(f"signed in {session.since} · last used {session.used}"),
        ),
        rx.cond(
            session.here,
            rx.fragment(),
            rx.el.button(
                "Sign out",
                type="button",
                class_name="button plain small",
                on_click=Account.end_session(session.id),
                custom_attrs={"aria-label": f"Sign out {session.browser}, last used {session.used}"},
            ),
        ),
        key=session.id,
    )
