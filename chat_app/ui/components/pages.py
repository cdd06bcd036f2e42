"""The ways from one page of a long list to those on either side."""

# mypy: disable-error-code="no-any-return,attr-defined,operator,misc,import-untyped,arg-type,union-attr,index"
# Reflex evaluates this file once, into JavaScript: a state's attributes are expressions here, which types cannot tell.

from typing import Any

import reflex as rx


def pages(label: str, newer: rx.Var[str], older: rx.Var[str], show: Any) -> rx.Component:
    """The ways to the pages on either side; none where there is but one page. `show` is sent a page's name."""

    def way(words: str, at: rx.Var[str]) -> rx.Component:
        return rx.el.button(words, type="button", class_name="button plain small", disabled=at == "", on_click=show(at))

    return rx.cond(
        (newer != "") | (older != ""),
        rx.el.nav(way("Newer", newer), way("Older", older), class_name="pages", custom_attrs={"aria-label": label}),
    )
