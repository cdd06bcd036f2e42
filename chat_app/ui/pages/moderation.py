"""`/admin/moderation`: what the checks refused, and what people decided about it."""

# mypy: disable-error-code="no-any-return,attr-defined,operator,misc,import-untyped,arg-type,union-attr,index"
# Reflex evaluates this file once, into JavaScript: a state's attributes are expressions here, which types cannot tell.

import reflex as rx

from chat_app.ui.components.form import field
from chat_app.ui.components.pages import pages
from chat_app.ui.components.shell import page
from chat_app.ui.state.review_admin import ReviewAdmin, ReviewLine


def moderation() -> rx.Component:
    """The page."""
    return page(
        rx.el.main(
            rx.el.h1("Moderation"),
            rx.el.p(
                "What the checks refused. Say whether each refusal was right; what you decide is recorded"
                " with your name and changes no answer.",
                class_name="lead",
            ),
            rx.cond(ReviewAdmin.trouble != "", rx.el.p(ReviewAdmin.trouble, class_name="trouble", role="alert")),
            rx.el.section(
                rx.el.h2("Waiting"),
                rx.cond(
                    ReviewAdmin.waiting.length() > 0,
                    rx.el.div(rx.foreach(ReviewAdmin.waiting, _waiting), class_name="reviews"),
                    rx.el.p("Nothing waits."),
                ),
                pages(
                    "Pages of what waits",
                    ReviewAdmin.waiting_newer,
                    ReviewAdmin.waiting_older,
                    ReviewAdmin.show_waiting,
                ),
            ),
            rx.el.section(
                rx.el.h2("Decided"),
                rx.cond(
                    ReviewAdmin.decided.length() > 0,
                    rx.el.div(rx.foreach(ReviewAdmin.decided, _decided), class_name="reviews"),
                    rx.el.p("Nothing yet."),
                ),
                pages(
                    "Pages of what was decided",
                    ReviewAdmin.decided_newer,
                    ReviewAdmin.decided_older,
                    ReviewAdmin.show_decided,
                ),
            ),
            id="main",
            class_name="sheet",
        ),
        title=rx.el.span("Moderation"),
    )


def _waiting(review: rx.Var[ReviewLine]) -> rx.Component:
    return rx.el.article(
        _about(review),
        rx.el.form(
            rx.el.input(type="hidden", name="review_id", value=review.id),
            field("Note", "note", max_length=2000, placeholder="Why (optional)"),
            rx.el.label(
                rx.el.span("Decision", class_name="label"),
                rx.el.select(
                    rx.el.option("Uphold it", value="upheld"),
                    rx.el.option("Overturn it", value="overturned"),
                    name="decision",
                ),
                class_name="field",
            ),
            rx.el.button("Record", type="submit", class_name="button"),
            on_submit=ReviewAdmin.decide,
            class_name="row-form",
        ),
        key=review.id,
        class_name="review",
        custom_attrs={"data-review": review.id},
    )


def _decided(review: rx.Var[ReviewLine]) -> rx.Component:
    return rx.el.article(
        _about(review),
        rx.el.p(
            rx.el.span(review.decision, class_name=f"tag {review.decision}"),
            rx.cond(review.note != "", f" “{review.note}”", ""),
            rx.el.small(" ", review.decided),
        ),
        key=review.id,
        class_name="review",
    )


def _about(review: rx.Var[ReviewLine]) -> rx.Component:
    return rx.fragment(
        rx.el.p(
            rx.el.span(review.stage, class_name="tag"),
            rx.el.span(review.category, class_name="tag"),
            rx.el.code(review.rule),
            rx.el.small(" ", review.by, ", ", review.at),
            rx.cond(review.further != "", rx.el.small(", ", rx.el.strong(review.further))),
        ),
        rx.cond(
            (review.head != "") | (review.tail != ""),
            # What it opens stands in the text beside it: the style sheet shows that.
            rx.el.details(
                rx.el.summary(rx.el.span("Show all", class_name="more"), rx.el.span("Show less", class_name="less")),
                class_name="whole",
            ),
        ),
        rx.el.blockquote(
            _rest(review.head),
            review.before,
            rx.cond(review.finding != "", rx.el.mark(review.finding)),
            review.after,
            _rest(review.tail),
            dir="auto",
        ),
    )


def _rest(text: rx.Var[str]) -> rx.Component:
    """What is hidden until all is shown, and a mark in its place."""
    return rx.cond(
        text != "",
        rx.fragment(rx.el.span(text, class_name="rest"), rx.el.span("…", class_name="cut")),
    )
