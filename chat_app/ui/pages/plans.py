"""`/admin/plans`: the plans, and who is on which."""

# mypy: disable-error-code="no-any-return,attr-defined,operator,misc,import-untyped,arg-type,union-attr,index"
# Reflex evaluates this file once, into JavaScript: a state's attributes are expressions here, which types cannot tell.

import reflex as rx

from chat_app.accounts.identity import ROLES
from chat_app.ui.components.form import field
from chat_app.ui.components.shell import page
from chat_app.ui.state.plan_admin import NEW, PersonLine, PlanAdmin, PlanLine


def plans() -> rx.Component:
    """The page."""
    return page(
        rx.el.main(
            rx.el.h1("Plans and people"),
            rx.el.p("A change is in force from the next message on.", class_name="lead"),
            _plans(),
            _people(),
            id="main",
            class_name="sheet wide",
        ),
        title=rx.el.span("Plans and people"),
    )


def _plans() -> rx.Component:
    return rx.el.section(
        rx.el.h2("Plans"),
        rx.cond(PlanAdmin.said != "", rx.el.p(PlanAdmin.said, class_name="said", role="status")),
        rx.cond(
            (PlanAdmin.trouble != "") & (PlanAdmin.editing == ""),
            rx.el.p(PlanAdmin.trouble, class_name="trouble", role="alert"),
        ),
        rx.el.div(
            rx.el.table(
                rx.el.thead(
                    rx.el.tr(
                        *(
                            rx.el.th(head, scope="col")
                            for head in ("Plan", "Tokens a month", "Requests a minute", "Answers at once", "People", "")
                        )
                    )
                ),
                rx.el.tbody(rx.foreach(PlanAdmin.plans, _plan)),
            ),
            class_name="table",
            custom_attrs={"tabIndex": 0, "role": "region", "aria-label": "Plans"},
        ),
        rx.cond(
            PlanAdmin.editing == "",
            rx.el.button("New plan", type="button", class_name="button", on_click=PlanAdmin.edit(NEW)),
            _form(),
        ),
    )


def _plan(plan: rx.Var[PlanLine]) -> rx.Component:
    return rx.el.tr(
        rx.el.td(
            rx.el.strong(plan.name),
            rx.el.small(" ", plan.id),
            rx.cond(plan.archived, rx.el.span("archived", class_name="tag")),
        ),
        rx.el.td(plan.tokens),
        rx.el.td(plan.requests_per_minute),
        rx.el.td(plan.concurrent_streams),
        rx.el.td(plan.members),
        rx.el.td(
            rx.el.button(
                rx.cond(plan.archived, "Bring back", "Edit"),
                type="button",
                class_name="button plain small",
                on_click=PlanAdmin.edit(plan.id),
                custom_attrs={"aria-label": f"Edit the plan {plan.name}"},
            )
        ),
        key=plan.id,
        custom_attrs={"data-plan-id": plan.id},
    )


def _form() -> rx.Component:
    draft, new = PlanAdmin.draft, PlanAdmin.editing == NEW
    number = {"input_mode": "numeric"}
    return rx.el.form(
        rx.el.h3(rx.cond(new, "New plan", f"Plan {draft.name}")),
        rx.cond(
            new,
            field(
                "Short name",
                "id",
                required=True,
                pattern="[a-z0-9][a-z0-9\\-]*",
                hint="Never changes. Small letters, digits, hyphens.",
            ),
        ),
        field("Name", "name", default_value=draft.name, required=True),
        field(
            "Tokens a month", "monthly_tokens", default_value=draft.monthly_tokens, hint="Empty: no limit.", **number
        ),
        field(
            "Requests a minute", "requests_per_minute", default_value=draft.requests_per_minute, required=True, **number
        ),
        field("Answers at once", "concurrent_streams", default_value=draft.concurrent_streams, required=True, **number),
        field(
            "Longest answer in tokens",
            "max_output_tokens",
            default_value=draft.max_output_tokens,
            hint="Empty: as the settings say.",
            **number,
        ),
        field("Share in the queue", "weight", default_value=draft.weight, required=True, **number),
        field("Position on pages", "position", default_value=draft.position, required=True, **number),
        rx.cond(PlanAdmin.trouble != "", rx.el.p(PlanAdmin.trouble, class_name="trouble span", role="alert")),
        rx.el.div(
            rx.el.button("Cancel", type="button", class_name="button plain", on_click=PlanAdmin.close_form),
            rx.cond(
                ~new & ~draft.archived,
                rx.el.button(
                    "Archive",
                    type="button",
                    class_name="button plain danger",
                    on_click=PlanAdmin.archive(PlanAdmin.editing),
                ),
            ),
            rx.el.button("Save", type="submit", class_name="button"),
            class_name="buttons span",
        ),
        on_submit=PlanAdmin.save,
        class_name="grid-form",
        key=PlanAdmin.editing,
    )


def _people() -> rx.Component:
    return rx.el.section(
        rx.el.h2("People"),
        rx.cond(PlanAdmin.people_trouble != "", rx.el.p(PlanAdmin.people_trouble, class_name="trouble", role="alert")),
        rx.el.form(
            field("Find by name or e-mail", "search", type="search"),
            rx.el.button("Find", type="submit", class_name="button plain"),
            on_submit=PlanAdmin.find,
            class_name="row-form",
        ),
        rx.el.div(
            rx.el.table(
                rx.el.thead(rx.el.tr(*(rx.el.th(head, scope="col") for head in ("Person", "Plan", "Role")))),
                rx.el.tbody(rx.foreach(PlanAdmin.people, _person)),
            ),
            class_name="table",
            custom_attrs={"tabIndex": 0, "role": "region", "aria-label": "People"},
        ),
        rx.cond(PlanAdmin.people.length() == 0, rx.el.p("Nobody matches.")),
    )


def _person(person: rx.Var[PersonLine]) -> rx.Component:
    return rx.el.tr(
        rx.el.td(
            rx.el.strong(person.name),
            rx.el.small(" ", person.email),
            rx.cond(person.disabled, rx.el.span("disabled", class_name="tag")),
        ),
        rx.el.td(
            rx.el.select(
                rx.foreach(
                    PlanAdmin.plans,
                    lambda plan: rx.el.option(
                        plan.name, value=plan.id, disabled=plan.archived & (plan.id != person.plan)
                    ),
                ),
                value=person.plan,
                on_change=lambda plan_id: PlanAdmin.assign(person.id, plan_id),
                custom_attrs={"aria-label": f"Plan of {person.email}"},
            )
        ),
        rx.el.td(
            rx.el.select(
                *(rx.el.option(role, value=role) for role in ROLES),
                value=person.role,
                on_change=lambda role: PlanAdmin.set_role(person.id, role),
                custom_attrs={"aria-label": f"Role of {person.email}"},
            )
        ),
        key=person.id,
        custom_attrs={"data-person": person.email},
    )
