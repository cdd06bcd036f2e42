"""Arithmetic for models, which are bad at it. Exact on integers; bounded, so that no expression takes long: a single
operation on large integers holds the interpreter's lock until it is done, on whatever thread."""

import ast
import asyncio
import math
import operator
import re
from collections.abc import Callable
from typing import Any

import orjson

from chat_app.tools.base import ToolError
from inference.protocol import Tool

LONGEST = 400
"""Characters of an expression, which thereby cannot be nested too deep for the interpreter's stack either."""
MOST_BITS = 4_096
"""Size of any integer on the way: a power tower is refused before it is computed."""
MOST_PLACES = 1_300
"""That `round` takes, either way; no number here has as many digits. Python computes 10 to that power first."""

_WRITTEN = re.compile(r"[A-Za-z0-9_.,+\-*/%^() \t\r\n]*")
"""All that arithmetic is written with. Python's parser never sees strings, brackets or braces."""

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def _round(number: Any, *places: Any) -> Any:
    if any(not isinstance(place, int) or abs(place) > MOST_PLACES for place in places):
        raise ToolError(f"round takes a whole number of places, from -{MOST_PLACES} to {MOST_PLACES}")
    return round(number, *places)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(math, name) for name in ("sqrt", "exp", "log", "log10", "log2", "sin", "cos", "tan")},
    **{"abs": abs, "round": _round, "min": min, "max": max, "floor": math.floor, "ceil": math.ceil},
}
_CONSTANTS = {"pi": math.pi, "e": math.e}
_SCHEMA = {
    "type": "object",
    "properties": {"expression": {"type": "string", "description": "for example (17 + 25) * 3 / 4 or sqrt(2)"}},
    "required": ["expression"],
}


class Calculator:
    """Evaluates one arithmetic expression."""

    @property
    def definition(self) -> Tool:
        return Tool("calculator", "Evaluates an arithmetic expression exactly.", orjson.dumps(_SCHEMA).decode())

    async def run(self, arguments: str, key: str) -> str:
        try:
            expression = orjson.loads(arguments)["expression"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise ToolError('arguments must be {"expression": "..."}') from None
        if not isinstance(expression, str) or not expression.strip() or len(expression) > LONGEST:
            raise ToolError(f"expression must be text of 1 to {LONGEST} characters")
        return await asyncio.to_thread(_evaluated, expression.strip().replace("^", "**"))


def _evaluated(expression: str) -> str:
    if not _WRITTEN.fullmatch(expression):
        raise _unknown()
    try:
        return _shown(_value(ast.parse(expression, mode="eval").body))
    except ZeroDivisionError:
        raise ToolError("division by zero") from None
    except (ArithmeticError, SyntaxError, TypeError, ValueError, RecursionError, MemoryError):
        raise ToolError("this is no arithmetic expression that can be evaluated") from None


def _value(node: ast.AST) -> Any:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _bounded(number)
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(operand))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            first, second = _value(left), _value(right)
            if isinstance(op, ast.Pow) and isinstance(first, int) and isinstance(second, int):
                _bounded(0 if abs(first) < 2 or second < 1 else 1 << min(first.bit_length() * second, MOST_BITS + 1))
            return _bounded(_OPERATORS[type(op)](first, second))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS and len(args) <= 16:
            return _bounded(_FUNCTIONS[name](*map(_value, args)))
        case _:
            raise _unknown()


def _unknown() -> ToolError:
    return ToolError("only numbers, + - * / // % **, parentheses and " + ", ".join(_FUNCTIONS) + " are known")


def _bounded(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise ToolError("the numbers become too large")
    if isinstance(value, complex):
        raise ToolError("the result is not a real number")
    return value


def _shown(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value)
