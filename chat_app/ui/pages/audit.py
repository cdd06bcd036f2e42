"""`/admin/audit`: who did what to what, and from where."""

# mypy: disable-error-code="no-any-return,attr-defined,operator,misc,import-untyped,arg-type,union-attr,index"
# Reflex evaluates this file once, into JavaScript: a state's attributes are expressions here, which types cannot tell.

from collections.abc import Iterable

import reflex as rx

from chat_app.data.acts import OUTCOMES
from chat_app.ui.audit_words import ACTIONS
from chat_app.ui.components.form import field
from chat_app.ui.components.pages import pages
from chat_app.ui.components.shell import page
from chat_app.ui.state.audit_admin import AuditAdmin, AuditLine


def audit() -> rx.Component:
    """The page."""
    return page(
        rx.el.main(
            rx.el.h1("Audit trail"),
            rx.el.p(
                "Who did what, and from where. Entries cannot be changed or removed, and hold nothing of what people"
                " wrote. A network is a keyed hash: the same one is the same address.",
                class_name="lead",
            ),
            rx.el.section(
                rx.el.h2("Entries"),
                _form(),
                rx.cond(AuditAdmin.trouble != "", rx.el.p(AuditAdmin.trouble, class_name="trouble", role="alert")),
                _entries(),
                rx.cond((AuditAdmin.entries.length() == 0) & (AuditAdmin.trouble == ""), rx.el.p("Nothing was found.")),
                pages("Pages of entries", AuditAdmin.newer, AuditAdmin.older, AuditAdmin.show),
            ),
            id="main",
            class_name="sheet wide",
        ),
        title=rx.el.span("Audit trail"),
    )


def _form() -> rx.Component:
    return rx.el.form(
        field("Who did it", "actor", placeholder="E-mail, id or operator"),
        field("To whom or what", "object", placeholder="E-mail or id"),
        _choice("What", "action", ACTIONS.items()),
        _choice("Outcome", "outcome", ((outcome, outcome) for outcome in OUTCOMES)),
        field("From", "since", type="date"),
        field("To", "until", type="date"),
        rx.el.div(rx.el.button("Find", type="submit", class_name="button"), class_name="buttons span"),
        on_submit=AuditAdmin.find,
        class_name="grid-form",
        custom_attrs={"aria-label": "Which entries"},
    )


def _choice(label: str, name: str, options: Iterable[tuple[str, str]]) -> rx.Component:
    return rx.el.label(
        rx.el.span(label, class_name="label"),
        rx.el.select(
            rx.el.option("Any", value=""), *(rx.el.option(said, value=value) for value, said in options), name=name
        ),
        class_name="field",
    )


def _entries() -> rx.Component:
    heads = ("When", "Who", "What", "To whom or what", "Network", "Entry")
    return rx.el.div(
        rx.el.table(
            rx.el.thead(rx.el.tr(*(rx.el.th(head, scope="col") for head in heads))),
            rx.el.tbody(rx.foreach(AuditAdmin.entries, _entry)),
        ),
        class_name="table",
        custom_attrs={"tabIndex": 0, "role": "region", "aria-label": "Entries"},
    )


def _entry(entry: rx.Var[AuditLine]) -> rx.Component:
    return rx.el.tr(
        rx.el.td(rx.el.small(entry.at)),
        rx.el.td(entry.actor),
        rx.el.td(
            rx.el.strong(entry.action),
            rx.cond(entry.outcome != "done", rx.el.span(entry.outcome, class_name="tag overturned")),
        ),
        rx.el.td(
            entry.target,
            rx.cond(entry.details != "", rx.el.div(entry.details, class_name="details")),
        ),
        rx.el.td(rx.el.code(entry.network)),
        rx.el.td(rx.el.small(entry.place)),
        key=entry.id,
        custom_attrs={"data-entry": entry.id},
    )
