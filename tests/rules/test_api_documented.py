"""docs/api.md has every error code that a program can meet, and every address of the admin API; and none else."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

from chat_app.gateway import admin, errors
from chat_app.gateway.edge import TooLarge, TooSlow

ROOT = Path(__file__).resolve().parents[2]
API = (ROOT / "docs/api.md").read_text()
RAISING = [*ROOT.glob("chat_app/gateway/*.py"), *ROOT.glob("chat_app/turn/*.py"), ROOT / "chat_app/safety/review.py"]
CODE_AT = {"ApiError": 1, "TurnError": 0, "ReviewError": 0, "_unknown": 0, "wrong": 2}
"""Whose call has a code, and which argument it is."""
PASSED_ON = {"code", "error.code"}
"""Arguments that are a code which another place has made."""
BY_ACCOUNTS = {"not_found", "plan_unknown"}
"""What a room raises when an administrator gives a person a plan; its other codes are for pages and commands."""


def code_of(call: ast.Call) -> str:
    """The code that a call makes; "" for none, or one that is passed on."""
    at = CODE_AT.get(call.func.id) if isinstance(call.func, ast.Name) else None
    if at is None:
        return ""
    named = [keyword.value for keyword in call.keywords if keyword.arg == "code"]
    given = [*named, *call.args[at : at + 1]]
    if not given:
        return ""  # `wrong` has a default, which is in errors.py.
    match given[0]:
        case ast.Constant(value=str(code)):
            return code
        case ast.Name(id="UNFORESEEN"):
            return errors.UNFORESEEN
        case ast.JoinedStr():
            return ""  # Errors of the framework: those that can be met are made below.
        case other if ast.unparse(other) in PASSED_ON:
            return ""
    pytest.fail(f"a code that this test cannot read: {ast.unparse(call)}")


def made() -> Iterator[str]:
    """Every code as a program meets it."""
    for path in RAISING:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and (code := code_of(node)):
                yield errors._OPENAI_CODES.get(code, code)
    yield from (errors.api_error(error).code for error in (TooLarge(), TooSlow()))
    yield "bad_input"
    yield from BY_ACCOUNTS


def table(head: str) -> list[list[str]]:
    """The rows of the table with this head, cell by cell."""
    _, _, behind = API.partition(head)
    rows = behind.partition("\n\n")[0].strip().split("\n")[1:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def test_every_error_code_is_in_the_table_and_no_other() -> None:
    documented = [code for row in table("| status | code | when |") for code in re.findall(r"`(\w+)`", row[1])]
    assert len(documented) == len(set(documented))
    assert set(documented) == set(made())


def test_every_address_of_the_admin_api_is_documented() -> None:
    router: APIRouter = admin.router(lambda: pytest.fail("nothing is asked"))
    served = {(m, r.path) for r in router.routes if isinstance(r, APIRoute) for m in r.methods}
    documented = re.findall(r"`(GET|POST|DELETE) (/v1/admin/[^?`]*)[^`]*`", API)
    assert sorted(documented) == sorted(served)
