"""Every event that a page may send, with the bounds of its arguments. What is not listed here does not run.

Events that the server itself chains, among them each page's `open`, do not come from a page and are not listed. A test
holds the list to what the built pages send, and to every state that is registered, Reflex's own included.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import reflex as rx
from reflex.event import EventHandler
from reflex.state import BaseState, FrontendEventExceptionState, OnLoadInternalState, UpdateVarsInternalState
from reflex_base.constants.state import FIELD_MARKER
from reflex_base.utils.format import format_event_handler

from chat_app.ui.guard.arguments import Argument, Beginning, Form, Stored, Text, Texts
from chat_app.ui.state.account import Account
from chat_app.ui.state.audit_admin import AuditAdmin
from chat_app.ui.state.chat import Chat
from chat_app.ui.state.plan_admin import PlanAdmin
from chat_app.ui.state.profile import Profile
from chat_app.ui.state.proof import Proof
from chat_app.ui.state.review_admin import ReviewAdmin
from chat_app.ui.state.second_factor import SecondFactor
from chat_app.ui.state.visitor import Visitor
from chat_app.wiring import parley

ID = Text(64)
TITLE = Text(200)
MODEL = Text(200)
LINE = Text(200)
PASSWORD = Text(1_000)
EMAIL = Text(1_000)
CODE = Text(100)
MESSAGE = Text(lambda: parley().settings.max_input_chars, odd=True)
REPORT_CHARS = 1_000
"""Of an error report: Reflex searches it with expressions whose cost grows with the cube of its length."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The arguments of an event, by name, those that it cannot do without, and whether somebody has to be signed in."""

    arguments: Mapping[str, Argument] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    session: bool = True


@cache
def stored_names() -> frozenset[str]:
    """The variables of all states that live in the browser's storage, as its page names them."""
    return frozenset(
        f"{state.get_full_name()}.{name}{FIELD_MARKER}"
        for state in every_state()
        for name in state.base_vars
        if state._is_client_storage(name)
    )


def every_state(root: type[BaseState] = rx.State) -> list[type[BaseState]]:
    """All states that are registered, Reflex's own included."""
    found = [root]
    for state in root.get_substates():
        found.extend(every_state(state))
    return found


STORED = Stored(stored_names, Text(100))

# Whoever looks at the page: it asks for its state, says what the browser stores, and reports what broke.
_OF_EVERYBODY: dict[Any, dict[str, Argument]] = {
    rx.State.hydrate_and_load: {"vars": STORED, "hashes": Texts(100, Text(64))},
    OnLoadInternalState.on_load_internal: {},
    UpdateVarsInternalState.update_vars_internal: {"vars": STORED},
    FrontendEventExceptionState.handle_frontend_exception: {
        "info": Beginning(REPORT_CHARS),
        "component_stack": Beginning(0),
    },
}
_OF_THE_SIGNED_IN: dict[Any, dict[str, Argument]] = {
    Visitor.close_notice: {},
    Proof.confirm: {"form": Form({"password": PASSWORD})},
    Proof.cancel: {},
    Chat.send: {"form": Form({"text": MESSAGE})},
    Chat.regenerate: {},
    Chat.stop: {},
    Chat.choose_model: {"model": MODEL},
    Chat.load_earlier: {},
    Chat.list_older: {},
    Chat.ask_rename: {"thread_id": ID, "title": TITLE},
    Chat.ask_delete: {"thread_id": ID, "title": TITLE},
    Chat.close_dialog: {},
    Chat.rename: {"form": Form({"title": TITLE})},
    Chat.delete: {},
    Account.make_key: {"form": Form(dict.fromkeys(("name", "use", "days", "monthly_tokens"), LINE))},
    Account.ask_rotate: {"key_id": ID},
    Account.rotate: {"key_id": ID},
    Account.ask_revoke: {"key_id": ID},
    Account.revoke: {"key_id": ID},
    Account.change_password: {"form": Form({**dict.fromkeys(("current", "new", "again"), PASSWORD), "end_keys": LINE})},
    Account.connect: {},
    Account.disconnect: {},
    Account.end_session: {"session_id": ID},
    Account.end_other_sessions: {},
    Profile.rename: {"form": Form({"name": LINE})},
    Profile.change_email: {"form": Form({"email": EMAIL, "password": PASSWORD})},
    Profile.ask_close: {},
    Profile.keep: {},
    Profile.close: {"form": Form({"password": PASSWORD, "code": CODE})},
    SecondFactor.begin: {"form": Form({"password": PASSWORD})},
    SecondFactor.confirm: {"form": Form({"code": CODE})},
    SecondFactor.renew: {"form": Form({"password": PASSWORD, "code": CODE})},
    SecondFactor.turn_off: {"form": Form({"password": PASSWORD, "code": CODE})},
    PlanAdmin.edit: {"plan_id": ID},
    PlanAdmin.close_form: {},
    PlanAdmin.save: {
        "form": Form(
            dict.fromkeys(
                (
                    "id",
                    "name",
                    "monthly_tokens",
                    "requests_per_minute",
                    "concurrent_streams",
                    "max_output_tokens",
                    "weight",
                    "position",
                ),
                LINE,
            )
        )
    },
    PlanAdmin.archive: {"plan_id": ID},
    PlanAdmin.find: {"form": Form({"search": LINE})},
    PlanAdmin.assign: {"user_id": ID, "plan_id": ID},
    PlanAdmin.set_role: {"user_id": ID, "role": ID},
    AuditAdmin.find: {"form": Form(dict.fromkeys(("actor", "object", "action", "outcome", "since", "until"), LINE))},
    AuditAdmin.show: {"at": ID},
    ReviewAdmin.show_waiting: {"at": ID},
    ReviewAdmin.show_decided: {"at": ID},
    ReviewAdmin.decide: {"form": Form({"review_id": ID, "decision": ID, "note": Text(2_000)})},
}


def name_of(event: EventHandler | Any) -> str:
    """The name by which a client calls an event."""
    return str(format_event_handler(event))


def _rule(event: EventHandler | Any, arguments: Mapping[str, Argument], *, session: bool) -> Rule:
    taken = inspect.signature(event.fn).parameters
    required = frozenset(name for name in arguments if taken[name].default is inspect.Parameter.empty)
    return Rule(arguments, required, session)


FROM_PAGES: Mapping[str, Rule] = {
    **{name_of(event): _rule(event, arguments, session=False) for event, arguments in _OF_EVERYBODY.items()},
    **{name_of(event): _rule(event, arguments, session=True) for event, arguments in _OF_THE_SIGNED_IN.items()},
}
"""The rule of each event that a page may send."""

BOOT = name_of(rx.State.hydrate_and_load)
"""What a page sends as it connects."""
REPORT = name_of(FrontendEventExceptionState.handle_frontend_exception)
"""How a page says that it broke."""
NOTIFY = name_of(Visitor.notify)
"""How the server tells a page something; no page sends it."""
