"""The calculator: right on what it takes, a clear word on what it does not, and never long."""

import asyncio
import json
import threading

import pytest

from chat_app.tools import BUILT_IN, ToolError
from chat_app.tools.calculator import _FUNCTIONS, LONGEST, MOST_PLACES


async def calculate(expression: object) -> str:
    return await BUILT_IN["calculator"].run(json.dumps({"expression": expression}), "key")


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("17 * 23", "391"),
        ("(17 + 25) * 3 / 4", "31.5"),
        ("2 ^ 10", "1024"),
        ("-7 // 2", "-4"),
        ("7 % 3", "1"),
        ("10 / 4 * 2", "5"),
        ("sqrt(16) + max(1, 2.5)", "6.5"),
        ("0.1 + 0.2", "0.30000000000000004"),
        ("2 ** 200", str(2**200)),
        ("round(pi, 2)", "3.14"),
        ("round(2.5)", "2"),
        ("round(1234, -2)", "1200"),
        (f"round(5, -{MOST_PLACES})", "0"),
        (f"round(5, {MOST_PLACES})", "5"),
        ("(2 *\n\t3)", "6"),
        ("-" * (LONGEST - 1) + "1", "-1"),
        ("+1" * (LONGEST // 2), "200"),
        ("1 ** (2 ** 2000)", "1"),
        (" 1 ", "1"),
    ],
)
async def test_expressions(expression: str, result: str) -> None:
    assert await calculate(expression) == result


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("1 / 0", "division by zero"),
        ("9 ** 9 ** 9", "too large"),
        ("2 ** 4096", "too large"),
        ("(-1) ** 0.5", "not a real number"),
        ("__import__('os')", "only numbers"),
        ("(1).real", "only numbers"),
        ("True + 1", "only numbers"),
        ("'a' * 3", "only numbers"),
        ("x + 1", "only numbers"),
        ("1 +", "no arithmetic expression"),
        ("log(-1)", "no arithmetic expression"),
        ("1" * (LONGEST + 1), "characters"),
        ("", "characters"),
        (5, "characters"),
        ("1 if 2 else 3", "only numbers"),
        ("[1][0]", "only numbers"),
        ("１ + 1", "only numbers"),
        ("round(5, -10000000)", "round takes"),
        (f"round(5, -{MOST_PLACES + 1})", "round takes"),
        ("round(5, 2 ** 2000)", "round takes"),
        ("round(5, 1.5)", "round takes"),
        ("2 ** 2000 * 2 ** 2000 * 2 ** 2000", "too large"),
        ("2 ** (2 ** 2000)", "too large"),
        ("((2 ** 2000) ** 2) ** 2", "too large"),
        ("2.0 ** 2 ** 2 ** 99", "too large"),
        ("floor(1e999)", "no arithmetic expression"),
        ("exp(2 ** 2000)", "no arithmetic expression"),
        ("max(" + "1," * 20 + ")", "only numbers"),
        ("(" * (LONGEST // 2) + ")" * (LONGEST // 2), "only numbers|no arithmetic expression"),
        ("(" * LONGEST, "no arithmetic expression"),
        ("-" * LONGEST, "no arithmetic expression"),
    ],
)
async def test_what_it_does_not_take(expression: object, words: str) -> None:
    with pytest.raises(ToolError, match=words):
        await calculate(expression)


@pytest.mark.parametrize("arguments", ["", "{", "[]", "{}", "null", '"1+1"'])
async def test_arguments_that_are_none(arguments: str) -> None:
    with pytest.raises(ToolError, match="arguments must be"):
        await BUILT_IN["calculator"].run(arguments, "key")


async def test_it_leaves_the_event_loop_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    others_ran = threading.Event()
    monkeypatch.setitem(_FUNCTIONS, "abs", lambda number: number if others_ran.wait(10) else 0)
    asyncio.get_running_loop().call_soon(others_ran.set)
    assert await calculate("abs(7)") == "7"
