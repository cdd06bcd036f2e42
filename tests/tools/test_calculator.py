"""The calculator: right on what it takes, a clear word on what it does not, and never long."""

import json

import pytest

from chat_app.tools import BUILT_IN, ToolError
from chat_app.tools.calculator import LONGEST


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
    ],
)
async def test_what_it_does_not_take(expression: object, words: str) -> None:
    with pytest.raises(ToolError, match=words):
        await calculate(expression)


@pytest.mark.parametrize("arguments", ["", "{", "[]", "{}", "null", '"1+1"'])
async def test_arguments_that_are_none(arguments: str) -> None:
    with pytest.raises(ToolError, match="arguments must be"):
        await BUILT_IN["calculator"].run(arguments, "key")
