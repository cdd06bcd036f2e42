"""`/` and `/c/<thread>`: the chat. One route for both, so that a new chat gets its address without a new page."""

# mypy: disable-error-code="no-any-return,attr-defined,operator,misc,import-untyped,arg-type,union-attr,index"
# Reflex evaluates this file once, into JavaScript: a state's attributes are expressions here, which types cannot tell.

import reflex as rx

from chat_app.ui.components.composer import composer, model_picker
from chat_app.ui.components.icon import icon
from chat_app.ui.components.message import live_answer, message
from chat_app.ui.components.shell import page
from chat_app.ui.state.chat import Chat
from chat_app.ui.state.visitor import Visitor

SUGGESTIONS = (
    ("Explain something", "Explain how a rainbow forms, in three sentences."),
    ("Write a message", "Write a short, friendly message that moves our meeting to Thursday."),
    ("Plan a day", "Plan a rainy Sunday in a city with two children."),
    ("Help with code", "Write a Python function that tells whether a word is a palindrome."),
)


def chat() -> rx.Component:
    """The page."""
    return page(rx.cond(Chat.missing, _missing(), _conversation()), title=model_picker())


def _conversation() -> rx.Component:
    empty = (Chat.messages.length() == 0) & (Chat.live.id == "")
    return rx.el.main(
        rx.cond(empty, _greeting(), _transcript()),
        rx.el.div(
            _engine(),
            _loading(),
            composer(),
            rx.cond(
                empty,
                _suggestions(),
                rx.el.p("Models make mistakes. Check what matters.", class_name="fine-print"),
            ),
            class_name="foot",
        ),
        id="main",
        class_name=rx.cond(empty, "conversation new", "conversation"),
    )


def _greeting() -> rx.Component:
    return rx.el.div(rx.el.h1("What’s on your mind, ", Visitor.name, "?"), class_name="greeting", dir="auto")


def _suggestions() -> rx.Component:
    return rx.el.div(
        *(
            rx.el.button(
                rx.el.strong(title),
                rx.el.span(prompt),
                type="button",
                class_name="suggestion",
                custom_attrs={"data-suggest": prompt},
            )
            for title, prompt in SUGGESTIONS
        ),
        class_name="suggestions",
    )


def _transcript() -> rx.Component:
    return rx.el.div(
        rx.el.div(
            rx.cond(
                Chat.has_earlier,
                rx.el.button(
                    "Load earlier messages",
                    type="button",
                    class_name="button plain small earlier",
                    on_click=Chat.load_earlier,
                    custom_attrs={"data-earlier": ""},
                ),
            ),
            rx.foreach(Chat.messages, message),
            live_answer(),
            class_name="column",
            role="log",
            custom_attrs={"aria-label": "Conversation", "aria-live": "off"},
        ),
        rx.el.button(
            icon("down"),
            type="button",
            class_name="jump",
            title="To the latest",
            custom_attrs={"data-jump": "", "aria-label": "Jump to the latest message"},
        ),
        class_name="transcript",
        custom_attrs={"data-transcript": "", "data-thread": Chat.shown_id, "tabIndex": 0},
    )


def _loading() -> rx.Component:
    return rx.cond(
        Chat.loading != "",
        rx.el.p(
            rx.el.span(class_name="spinner", custom_attrs={"aria-hidden": "true"}),
            f"{Chat.loading} is being loaded. This takes a few seconds.",
            class_name="engine",
            role="status",
            custom_attrs={"data-loading": ""},
        ),
    )


def _engine() -> rx.Component:
    return rx.cond(
        Chat.engine != "ready",
        rx.el.p(
            rx.el.span(class_name="spinner", custom_attrs={"aria-hidden": "true"}),
            rx.match(
                Chat.engine,
                ("starting", rx.fragment("The model is being loaded. This takes a few seconds.")),
                rx.fragment(
                    rx.cond(Chat.engine_error != "", Chat.engine_error, "The model’s engine is restarting."),
                    " Answers go on by themselves.",
                ),
            ),
            class_name="engine",
            role="status",
        ),
    )


def _missing() -> rx.Component:
    return rx.el.main(
        rx.el.h1("There is no such chat"),
        rx.el.p("It was deleted, or it belongs to somebody else."),
        rx.el.a("Start a new chat", href="/", class_name="button"),
        id="main",
        class_name="centre message-page",
    )
