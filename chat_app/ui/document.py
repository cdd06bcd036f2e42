"""What surrounds every page of the app: the document's head, and what shows when a page breaks."""

# mypy: disable-error-code="no-any-return,attr-defined,operator,misc,import-untyped,arg-type,union-attr,index"
# Reflex evaluates this file once, into JavaScript: a state's attributes are expressions here, which types cannot tell.

from typing import Any

import reflex as rx
from reflex_components_core.base.error_boundary import ErrorBoundary

# The time zone goes along with the first event, so that the server can say "Yesterday" as the person would.
_TIME_ZONE = "try{localStorage.setItem('parley.tz',Intl.DateTimeFormat().resolvedOptions().timeZone)}catch{}"

HEAD: list[rx.Component] = [
    rx.el.script(_TIME_ZONE),
    rx.el.link(rel="icon", href="/favicon.svg", type="image/svg+xml"),
    rx.el.meta(name="color-scheme", content="light dark"),
    rx.el.meta(name="robots", content="noindex"),
]


def error_boundary(stateful: bool) -> rx.Component:
    """Instead of a blank page: a way on. What was typed is kept by the browser."""
    broken = rx.el.main(
        rx.el.h1("This page broke"),
        rx.el.p("Nothing is lost: your chats are kept on the server."),
        rx.el.button("Reload", type="button", class_name="button", on_click=rx.run_script("location.reload()")),
        class_name="centre message-page",
    )
    props: dict[str, Any] = {} if stateful else {"on_error": rx.noop()}
    return ErrorBoundary.create(fallback_render=rx.Var.create(broken), **props)
