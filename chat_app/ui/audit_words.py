"""Entries of the audit trail as a person reads them. Pure functions that do not know where an entry is from."""

from collections.abc import Mapping
from typing import Any

from chat_app.data.acts import OPERATOR, PROVIDER, Action

ACTIONS: Mapping[Action, str] = {
    "sign_in": "Sign-in",
    "sign_out": "Sign-out",
    "sign_up": "Sign-up",
    "identity_connect": "Account connected with the provider",
    "identity_disconnect": "Account disconnected from the provider",
    "account_create": "New account",
    "account_disable": "Account disabled",
    "account_enable": "Account enabled",
    "password_change": "Change of password",
    "password_proof": "Password asked for again",
    "name_change": "Change of name",
    "email_change": "Change of e-mail address",
    "factor_set_up": "Second factor set up",
    "factor_renew": "New recovery codes",
    "factor_remove": "Second factor removed",
    "account_close": "Account closed",
    "role_change": "Change of role",
    "plan_assign": "Move to a plan",
    "plan_save": "Plan saved",
    "plan_archive": "Plan archived",
    "key_create": "New API key",
    "key_rotate": "New secret of a key",
    "key_revoke": "API key revoked",
    "review_look": "Look at refused texts",
    "review_decide": "Decision on a refusal",
    "chat_delete": "Chat deleted",
    "setup_code": "Set-up code shown",
    "admin_request": "Request for administrators",
    "command": "Command",
}
PAGES = {"PlanAdmin": "Plans and people", "ReviewAdmin": "Moderation", "AuditAdmin": "Audit trail"}
"""The pages that somebody can be refused, by the names of their states."""
ACTORS = {OPERATOR: "the command line", PROVIDER: "the identity provider"}
"""Who is no person."""
LONGEST = 160
"""Characters of an entry's details in a line."""


def actor(entry: Mapping[str, Any], people: Mapping[str, str]) -> str:
    """Who did it. `people`: e-mail addresses by id, of those that there still are."""
    id = entry["actor"]
    return ACTORS.get(id) or people.get(id, id) or "nobody known"


def target(entry: Mapping[str, Any], people: Mapping[str, str]) -> str:
    """To whom or what; nothing where the person did it to themselves, or where it has no object."""
    kind, id = entry["object_kind"], entry["object_id"]
    if kind == "account":
        return "" if id == entry["actor"] else people.get(id, id) or "no account"
    if kind == "page":
        id = PAGES.get(id, id)
    return f"{kind} {id}" if id else ""


def details(entry: Mapping[str, Any], people: Mapping[str, str]) -> str:
    """The details in a line; people by their addresses."""
    said = "; ".join(f"{name.replace('_', ' ')}: {_value(value, people)}" for name, value in entry["details"].items())
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 1]}…"


def _value(value: Any, people: Mapping[str, str]) -> str:
    if isinstance(value, list):
        return ", ".join(_value(one, people) for one in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return "none" if value is None else people.get(text, text)
