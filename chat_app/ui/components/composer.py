"""Where the person types. What it does while they type is in `assets/behaviour.js`."""

# mypy: disable-error-code="no-any-return,attr-defined,operator,misc,import-untyped,arg-type,union-attr,index"
# Reflex evaluates this file once, into JavaScript: a state's attributes are expressions here, which types cannot tell.

import reflex as rx

from chat_app.ui.components.browser import TooLong
from chat_app.ui.components.icon import icon
from chat_app.ui.state.chat import Chat
from chat_app.ui.state.visitor import Visitor


def composer() -> rx.Component:
    """The form with the question."""
    running = (Chat.live.status == "queued") | (Chat.live.status == "streaming")
    return rx.el.form(
        rx.cond(
            Chat.trouble != "",
            rx.el.p(Chat.trouble, class_name="trouble", role="alert"),
        ),
        TooLong.create(),
        rx.el.div(
            rx.el.textarea(
                name="text",
                rows=1,
                placeholder="Ask anything",
                dir="auto",
                custom_attrs={"aria-label": "Your message", "enterKeyHint": "send", "autoComplete": "off"},
            ),
            rx.cond(
                running,
                rx.el.button(
                    rx.el.span(class_name="stop-square", custom_attrs={"aria-hidden": "true"}),
                    type="button",
                    title="Stop",
                    class_name="round",
                    on_click=Chat.stop,
                    custom_attrs={"aria-label": "Stop the answer", "data-busy": ""},
                    key="stop",
                ),
                rx.el.button(
                    icon("send"),
                    type="submit",
                    title="Send",
                    class_name="round",
                    custom_attrs={"aria-label": "Send the message", "data-send": ""},
                    key="send",
                ),
            ),
            class_name="composer-box",
        ),
        on_submit=Chat.send,
        class_name="composer",
        custom_attrs={"data-composer": "", "data-for": Visitor.email, "data-most": Chat.most_chars},
    )


def model_picker() -> rx.Component:
    """Which model answers."""
    return rx.cond(
        Chat.models.length() > 0,
        rx.el.select(
            rx.foreach(Chat.models, lambda model: rx.el.option(model, value=model)),
            value=Chat.model,
            on_change=Chat.choose_model,
            class_name="picker",
            custom_attrs={"aria-label": "Model"},
        ),
        rx.el.span("Parley", class_name="picker none"),
    )
