"""Fields of forms, and where plain forms are posted to."""

# mypy: disable-error-code="no-any-return,attr-defined,operator,misc,import-untyped,arg-type,union-attr,index"
# Reflex evaluates this file once, into JavaScript: a state's attributes are expressions here, which types cannot tell.

from typing import Literal

import reflex as rx
from reflex.utils.exec import is_prod_mode
from reflex_base.config import get_config
from reflex_components_core.el.element import Element


class PostForm(Element):
    """A form that the browser posts itself. Reflex's own form never leaves the page."""

    tag = "form"
    action: rx.Var[str]
    method: rx.Var[Literal["post"]] = rx.Var.create("post")


def api(path: str) -> str:
    """The address of the gateway's `path`: beside the page in production, on the back end's port in development."""
    return path if is_prod_mode() else f"{get_config().api_url}{path}"


def api_link(*children: object, href: str | rx.Var[str], **props: object) -> rx.Component:
    """A link to an address of the gateway. Reflex would take any other for a page of its own and never ask for it."""
    return rx.el.a(*children, href=href, custom_attrs={"reloadDocument": rx.Var("true")}, **props)


def field(label: str, name: str, *, hint: str | rx.Component = "", **props: object) -> rx.Component:
    """A labelled input."""
    return rx.el.label(
        rx.el.span(label, class_name="label"),
        rx.el.input(name=name, **props),
        rx.el.small(hint) if hint else rx.fragment(),
        class_name="field",
    )


def code_field(label: str = "Code", *, recovery: bool = True) -> rx.Component:
    """A field for a code of the second factor."""
    hint = "Of your authenticator app, or one of your recovery codes." if recovery else ""
    keyboard = {} if recovery else {"input_mode": "numeric"}
    return field(
        label,
        "code",
        required=True,
        auto_complete="one-time-code",
        auto_focus=True,
        spell_check=False,
        max_length=40,
        hint=hint,
        **keyboard,
    )
