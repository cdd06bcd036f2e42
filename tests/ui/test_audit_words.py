"""Entries of the audit trail in words."""

from typing import Any

import pytest

import chat_app.chat_app  # noqa: F401 - registers every state.
from chat_app.data.acts import ACTIONS
from chat_app.ui import audit_words
from chat_app.ui.state.visitor import Visitor

PEOPLE = {"a1": "ada@example.org"}


def entry(**columns: Any) -> dict[str, Any]:
    return {"actor": "", "object_kind": "", "object_id": "", "details": {}, **columns}


def test_every_action_and_every_page_that_is_refused_has_words() -> None:
    assert set(audit_words.ACTIONS) == set(ACTIONS)
    assert len(set(audit_words.ACTIONS.values())) == len(ACTIONS)
    assert set(audit_words.PAGES) == {
        state.__name__ for state in Visitor.get_substates() if state.__name__.endswith("Admin")
    }


@pytest.mark.parametrize(
    ("actor", "words"),
    [("a1", "ada@example.org"), ("operator", "the command line"), ("", "nobody known"), ("gone", "gone")],
)
def test_who(actor: str, words: str) -> None:
    assert audit_words.actor(entry(actor=actor), PEOPLE) == words


@pytest.mark.parametrize(
    ("actor", "kind", "id", "words"),
    [
        ("a1", "account", "a1", ""),
        ("b2", "account", "a1", "ada@example.org"),
        ("", "account", "", ""),
        ("b2", "account", "", "no account"),
        ("b2", "plan", "pro", "plan pro"),
        ("b2", "page", "PlanAdmin", "page Plans and people"),
        ("b2", "", "", ""),
    ],
)
def test_to_what(actor: str, kind: str, id: str, words: str) -> None:
    assert audit_words.target(entry(actor=actor, object_kind=kind, object_id=id), PEOPLE) == words


def test_details_in_a_line() -> None:
    details = {"of": ["a1", "gone"], "monthly_tokens": 5, "first": True, "expires_at": None}
    said = audit_words.details(entry(details=details), PEOPLE)
    assert said == "of: ada@example.org, gone; monthly tokens: 5; first: yes; expires at: none"
    long = audit_words.details(entry(details={"reviews": ["x" * 32] * 50}), PEOPLE)
    assert (len(long), long[-1]) == (audit_words.LONGEST, "…")
