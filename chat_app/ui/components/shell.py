"""What surrounds a page: the sidebar with threads and the person's menu, the bar on top, notices."""

# mypy: disable-error-code="no-any-return,attr-defined,operator,misc,import-untyped,arg-type,union-attr,index"
# Reflex evaluates this file once, into JavaScript: a state's attributes are expressions here, which types cannot tell.

import reflex as rx
from reflex_base.style import resolved_color_mode
from reflex_components_core.core.banner import has_connection_errors

from chat_app.accounts.passwords import SHORT
from chat_app.ui.components.browser import Behaviour
from chat_app.ui.components.dialogs import dialogs
from chat_app.ui.components.form import PostForm, api
from chat_app.ui.components.icon import icon, logo
from chat_app.ui.state.chat import Chat
from chat_app.ui.state.entry import ThreadGroup, ThreadItem
from chat_app.ui.state.visitor import Visitor


def icon_button(name: str, label: str, **props: object) -> rx.Component:
    """A button that shows an icon; `label` is its name for those who do not see it, and its tooltip."""
    custom = {"aria-label": label, **props.pop("custom_attrs", {})}  # type: ignore[dict-item]
    css = f"quiet {props.pop('class_name', '')}".strip()
    return rx.el.button(icon(name), type="button", title=label, class_name=css, custom_attrs=custom, **props)


def theme_button() -> rx.Component:
    """Switches between light and dark; until then the page follows the system."""
    dark = resolved_color_mode == "dark"
    label = rx.cond(dark, "Switch to the light theme", "Switch to the dark theme")
    return rx.el.button(
        rx.cond(dark, icon("sun"), icon("moon")),
        type="button",
        title=label,
        class_name="quiet",
        on_click=rx.toggle_color_mode,
        custom_attrs={"aria-label": label, "data-theme-toggle": ""},
    )


def page(main: rx.Component, *, title: rx.Component) -> rx.Component:
    """A page for somebody who is signed in: sidebar, bar and `main`; for who may not see it, the reason."""
    return rx.el.div(
        Behaviour.create(),
        rx.el.a("Skip to the content", href="#main", class_name="skip"),
        nav(),
        rx.el.div(class_name="veil", custom_attrs={"data-close-nav": "", "aria-hidden": "true"}),
        rx.el.div(
            banners(),
            rx.el.header(
                icon_button("panel", "Open or close the sidebar", custom_attrs={"data-toggle-nav": ""}),
                rx.el.div(title, class_name="bar-title"),
                theme_button(),
                class_name="bar",
            ),
            rx.cond(Visitor.denied != "", denied(), rx.cond(Visitor.ready, main, waiting())),
            class_name="body",
        ),
        dialogs(),
        class_name="shell",
    )


def waiting() -> rx.Component:
    """Before the server has said who looks."""
    return rx.el.main(id="main", class_name="centre", custom_attrs={"aria-busy": "true"})


def denied() -> rx.Component:
    """For a person who may not see this page."""
    return rx.el.main(
        rx.el.h1("This page is not for you"),
        rx.el.p(Visitor.denied),
        rx.el.a("Back to the chat", href="/", class_name="button"),
        id="main",
        class_name="centre message-page",
    )


def banners() -> rx.Component:
    """What is wrong with the connection, the session or the engine, as long as it is."""
    return rx.el.div(
        rx.cond(
            has_connection_errors,
            rx.el.div(
                rx.el.span(class_name="spinner", custom_attrs={"aria-hidden": "true"}),
                "The connection to the server is lost. Trying again …",
                class_name="banner warn",
                custom_attrs={"data-offline": ""},
            ),
        ),
        rx.cond(
            Visitor.gone != "",
            rx.el.div(
                Visitor.gone,
                rx.el.a(
                    "Sign in again",
                    href=Visitor.door,
                    class_name="link",
                ),
                class_name="banner warn",
                custom_attrs={"data-signed-out": ""},
            ),
        ),
        rx.cond(
            Visitor.short_password,
            rx.el.div(
                SHORT,
                rx.el.a("Change it", href="/account", class_name="link"),
                class_name="banner warn",
                custom_attrs={"data-short-password": ""},
            ),
        ),
        rx.cond(
            Visitor.notice != "",
            rx.el.div(
                Visitor.notice,
                icon_button("close", "Close this message", on_click=Visitor.close_notice),
                class_name="banner warn",
            ),
        ),
        class_name="banners",
        role="status",
        custom_attrs={"aria-live": "polite"},
    )


def nav() -> rx.Component:
    """The sidebar."""
    return rx.el.aside(
        rx.el.div(
            rx.el.a(logo(), "Parley", href="/", class_name="brand", custom_attrs={"data-close-nav": ""}),
            icon_button("panel", "Close the sidebar", custom_attrs={"data-toggle-nav": ""}, class_name="nav-close"),
            class_name="nav-head",
        ),
        rx.el.a(icon("new"), "New chat", href="/", class_name="nav-item new-chat", custom_attrs={"data-close-nav": ""}),
        rx.el.nav(
            rx.foreach(Chat.groups, thread_group),
            rx.cond(
                Chat.has_older,
                rx.el.button("Show older chats", type="button", class_name="nav-item older", on_click=Chat.list_older),
            ),
            class_name="threads",
            custom_attrs={"aria-label": "Chats"},
        ),
        rx.el.div(person(), class_name="nav-foot"),
        class_name="nav",
        custom_attrs={"data-nav": "", "aria-label": "Sidebar"},
    )


def thread_group(group: rx.Var[ThreadGroup]) -> rx.Component:
    """Threads of some days under their heading."""
    return rx.el.section(
        rx.el.h2(group.label),
        rx.el.ul(
            rx.foreach(
                group.threads,
                lambda thread: rx.fragment(
                    thread_line(thread=thread, current=thread.id == Chat.shown_id), key=thread.id
                ),
            )
        ),
        key=group.label,
    )


@rx.memo
def thread_line(thread: rx.Var[ThreadItem], current: rx.Var[bool]) -> rx.Component:
    """A thread, and what can be done with it."""
    menu = f"menu-{thread.id}"
    return rx.el.li(
        rx.el.a(
            thread.title,
            href=f"/c/{thread.id}",
            title=thread.title,
            class_name="nav-item",
            dir="auto",
            custom_attrs={"aria-current": rx.cond(current, "page", "false"), "data-close-nav": ""},
        ),
        rx.el.button(
            icon("more"),
            type="button",
            class_name="quiet more",
            custom_attrs={"aria-label": f"Options of “{thread.title}”", "popoverTarget": menu},
        ),
        rx.el.div(
            menu_button("pencil", "Rename", menu, on_click=Chat.ask_rename(thread.id, thread.title)),
            menu_button("bin", "Delete", menu, on_click=Chat.ask_delete(thread.id, thread.title), danger=True),
            class_name="menu",
            custom_attrs={"popover": "auto", "id": menu},
        ),
        class_name=rx.cond(current, "thread current", "thread"),
    )


def menu_button(name: str, text: str, menu: object, *, danger: bool = False, **props: object) -> rx.Component:
    """An entry of a menu; choosing it closes the menu."""
    return rx.el.button(
        icon(name),
        text,
        type="button",
        class_name="menu-item danger" if danger else "menu-item",
        custom_attrs={"popoverTarget": menu, "popoverTargetAction": "hide"},
        **props,
    )


def person() -> rx.Component:
    """Who is signed in, and where else they can go."""
    link = "menu-item"
    return rx.fragment(
        rx.el.button(
            rx.el.span(
                rx.cond(Visitor.name != "", Visitor.name[0].upper(), "?"), class_name="avatar", aria_hidden=True
            ),
            rx.el.span(Visitor.name, class_name="person-name"),
            type="button",
            class_name="nav-item person",
            custom_attrs={"popoverTarget": "person-menu", "aria-label": "Your menu"},
        ),
        rx.el.div(
            rx.el.p(Visitor.email, class_name="menu-note"),
            rx.el.a(icon("person"), "Account", href="/account", class_name=link),
            rx.cond(Visitor.is_admin, rx.el.a(icon("plans"), "Plans and people", href="/admin/plans", class_name=link)),
            rx.cond(Visitor.is_staff, rx.el.a(icon("shield"), "Moderation", href="/admin/moderation", class_name=link)),
            rx.cond(Visitor.is_admin, rx.el.a(icon("receipt"), "Audit trail", href="/admin/audit", class_name=link)),
            sign_out(icon("leave"), "Sign out", class_name=link),
            id="person-menu",
            class_name="menu",
            custom_attrs={"popover": "auto"},
        ),
    )


def sign_out(*children: rx.Component | str, class_name: str) -> rx.Component:
    """A plain form: only an HTTP answer can take the cookie away."""
    return PostForm.create(
        rx.el.input(type="hidden", name="next", value="/login"),
        rx.el.button(*children, type="submit", class_name=class_name),
        action=api("/auth/logout"),
        custom_attrs={"data-sign-out": ""},
    )
