"""What an answer has besides its text: reasoning and the use of tools, each as a line that folds open."""

# mypy: disable-error-code="no-any-return,attr-defined,operator,misc,import-untyped,arg-type,union-attr,index"
# Reflex evaluates this file once, into JavaScript: a state's attributes are expressions here, which types cannot tell.

import reflex as rx

from chat_app.ui.components.browser import block
from chat_app.ui.components.icon import icon
from chat_app.ui.parts import Part


@rx.memo
def part(part: rx.Var[Part], thought: rx.Var[str]) -> rx.Component:
    """A part of an answer; `thought` is the end of its reasoning while that runs."""
    return rx.match(
        part.kind,
        ("reasoning", _reasoning(part, thought)),
        ("tool", _tool(part)),
        rx.fragment(rx.foreach(part.blocks, lambda source: block(source=source))),
    )


def _reasoning(part: rx.Var[Part], thought: rx.Var[str]) -> rx.Component:
    # Plain text: whatever a model thinks is no Markdown of the answer, and is never part of it.
    return _folded(
        part,
        "thought",
        rx.el.div(
            rx.foreach(part.blocks, lambda piece: rx.el.span(piece)),
            rx.cond(thought != "", rx.el.span(thought)),
            class_name="thoughts",
            dir="auto",
        ),
    )


def _tool(part: rx.Var[Part]) -> rx.Component:
    return _folded(
        part,
        "tool",
        rx.el.dl(
            rx.cond(part.arguments != "", _exchange("Asked", part.arguments)),
            rx.cond(part.result != "", _exchange("Result", part.result)),
        ),
    )


def _exchange(label: str, text: rx.Var[str]) -> rx.Component:
    return rx.el.div(rx.el.dt(label), rx.el.dd(rx.el.pre(text, custom_attrs={"tabIndex": 0})))


def _folded(part: rx.Var[Part], symbol: str, body: rx.Component) -> rx.Component:
    """The browser's own disclosure: it opens by click and by key, and stays open while its content changes."""
    return rx.el.details(
        rx.el.summary(
            icon(symbol),
            rx.el.span(part.label, class_name="step-label", dir="auto"),
            icon("fold"),
        ),
        body,
        class_name="step",
        custom_attrs={"data-step": part.kind, "data-state": part.state},
    )
