"""Questions and answers in the transcript, with what can be done with them."""

# mypy: disable-error-code="no-any-return,attr-defined,operator,misc,import-untyped,arg-type,union-attr,index"
# Reflex evaluates this file once, into JavaScript: a state's attributes are expressions here, which types cannot tell.

import reflex as rx

from chat_app.ui.components.browser import CopyButton, block, tail
from chat_app.ui.components.icon import icon
from chat_app.ui.components.shell import icon_button
from chat_app.ui.components.steps import part
from chat_app.ui.parts import Part
from chat_app.ui.state.chat import Chat
from chat_app.ui.state.entry import EMPTY, GONE, Entry, Fact


def message(entry: rx.Var[Entry]) -> rx.Component:
    """A finished message."""
    return rx.fragment(
        rx.cond(
            entry.role == "user",
            question(text=entry.text),
            answer(
                parts=entry.parts,
                status=entry.status,
                error=entry.error,
                receipt=entry.receipt,
                steps=entry.steps,
                answer_id=entry.id,
            ),
        ),
        key=entry.id,
    )


@rx.memo
def question(text: rx.Var[str]) -> rx.Component:
    """What the person said, as they typed it."""
    return rx.el.article(
        rx.el.h3("You said", class_name="unseen"),
        rx.el.div(text, class_name="bubble", dir="auto", custom_attrs={"data-question": ""}),
        class_name="question",
    )


@rx.memo
def answer(
    parts: rx.Var[list[Part]],
    status: rx.Var[str],
    error: rx.Var[str],
    receipt: rx.Var[list[Fact]],
    steps: rx.Var[list[Fact]],
    answer_id: rx.Var[str],
) -> rx.Component:
    """An answer that is followed by others."""
    return rx.el.article(
        rx.el.h3("Parley said", class_name="unseen"),
        rx.el.div(rx.foreach(parts, lambda each: part(part=each, thought="")), class_name="prose"),
        outcome(status, error),
        rx.el.div(
            CopyButton.create(text=parts, label="Copy the answer"),
            receipt_button(receipt, steps, answer_id),
            class_name="actions",
        ),
        class_name="answer",
    )


def live_answer() -> rx.Component:
    """The last answer: written before the reader's eyes, or just finished."""
    live = Chat.live
    running = (live.status == "queued") | (live.status == "streaming")
    return rx.cond(
        live.id != "",
        rx.el.article(
            rx.el.h3("Parley said", class_name="unseen"),
            rx.el.div(
                rx.foreach(
                    Chat.parts,
                    lambda each: part(part=each, thought=rx.cond(each.state == "running", Chat.thought, "")),
                ),
                rx.foreach(Chat.finished, lambda source: block(source=source)),
                rx.cond(Chat.tail != "", tail(source=Chat.tail)),
                class_name="prose",
                custom_attrs={"data-answer": ""},
            ),
            rx.cond(
                running,
                rx.cond(
                    Chat.silent,
                    rx.fragment(
                        rx.el.div(
                            rx.el.span(),
                            rx.el.span(),
                            rx.el.span(),
                            class_name="thinking",
                            role="status",
                            custom_attrs={"aria-label": "The answer is coming"},
                        ),
                        rx.cond(
                            Chat.waiting != "",
                            rx.el.p(
                                Chat.waiting,
                                class_name="outcome waiting",
                                role="status",
                                custom_attrs={"data-waiting": ""},
                            ),
                        ),
                    ),
                ),
                rx.fragment(
                    outcome(live.status, live.error, retry=True),
                    rx.el.div(
                        CopyButton.create(
                            text=rx.Var.create([Chat.parts, Chat.finished, Chat.tail]), label="Copy the answer"
                        ),
                        rx.cond(
                            (live.status != "failed") & (live.status != EMPTY),
                            icon_button(
                                "again", "Answer again", on_click=Chat.regenerate, custom_attrs={"data-regenerate": ""}
                            ),
                        ),
                        receipt_button(live.receipt, live.steps, live.id),
                        class_name="actions",
                    ),
                ),
            ),
            class_name="answer live",
            custom_attrs={
                "data-id": live.id,
                "data-status": live.status,
                "aria-busy": rx.cond(running, "true", "false"),
            },
            key=live.id,
        ),
    )


def outcome(status: rx.Var[str], error: rx.Var[str], *, retry: bool = False) -> rx.Component:
    """Why an answer is not a whole one."""
    again = rx.el.button("Try again", type="button", class_name="button plain small", on_click=Chat.regenerate)
    if not retry:
        again = rx.fragment()
    return rx.match(
        status,
        (
            "failed",
            rx.el.div(rx.el.p(error), again, class_name="outcome failed", role="alert"),
        ),
        ("refused", rx.el.div(icon("shield"), rx.el.p(error), class_name="outcome refused", role="alert")),
        ("stopped", rx.el.p("You stopped this answer.", class_name="outcome stopped")),
        (GONE, rx.el.p(error, class_name="outcome stopped")),
        (EMPTY, rx.el.div(rx.el.p(error), again, class_name="outcome empty")),
        rx.cond(error != "", rx.el.p(error, class_name="outcome stopped")),
    )


def receipt_button(receipt: rx.Var[list[Fact]], steps: rx.Var[list[Fact]], answer_id: rx.Var[str]) -> rx.Component:
    """What the answer turned out to be: model, tokens, times, cost; and its steps, if there were several."""
    menu = f"receipt-{answer_id}"
    return rx.cond(
        receipt.length() > 0,
        rx.fragment(
            icon_button("receipt", "Receipt", custom_attrs={"popoverTarget": menu}),
            rx.el.div(
                rx.el.h4("Receipt"),
                _facts(receipt),
                rx.cond(steps.length() > 0, rx.fragment(rx.el.h4("Steps"), _facts(steps, class_name="steps"))),
                class_name="menu receipt",
                custom_attrs={"popover": "auto", "id": menu},
            ),
        ),
    )


def _facts(facts: rx.Var[list[Fact]], class_name: str = "") -> rx.Component:
    lines = rx.foreach(facts, lambda fact: rx.el.div(rx.el.dt(fact.label), rx.el.dd(fact.value)))
    return rx.el.dl(lines, class_name=class_name)
