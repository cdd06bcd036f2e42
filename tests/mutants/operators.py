"""The bugs that are tried: some of cosmic-ray's operators, and four of our own for what Parley's guards are made of.

Of cosmic-ray's 213 the ones that stay are those that a person might write by mistake. `+` turned into `<<` fails
with a TypeError in every test and would only make the share look better; so would a decorator that is gone, and a `-`
between two texts (`joined`).
"""

import re
from collections.abc import Iterator
from typing import Any

import parso
from cosmic_ray import ast as _ast  # noqa: F401 (must come before the plugins, which import it in a circle)
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator
from parso.python.tree import String
from parso.tree import Leaf, NodeOrLeaf

Span = tuple[tuple[int, int], tuple[int, int]]

_COMPARISONS = (
    *("Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt"),
    *("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is"),
)
_ARITHMETIC = (
    "Add_Sub",
    "Sub_Add",
    "Mul_Add",
    "Div_Mul",
    "FloorDiv_Mul",
    "Mod_FloorDiv",
    "BitOr_BitAnd",
    "BitAnd_BitOr",
)
_OTHERS = (
    *("ReplaceUnaryOperator_Delete_Not", "AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue"),
    *("ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceBreakWithContinue", "ReplaceContinueWithBreak"),
    *("NumberReplacer", "ZeroIterationForLoop"),
)


class DropStatement(Operator):
    """A call, an `await`, a `raise` or an assignment to an attribute that somebody forgot."""

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[Span]:
        if node.type == "simple_stmt" and _droppable(node.children[0]):
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node: Any, index: int) -> NodeOrLeaf:
        statement = node.children[0]
        node.children[0] = parso.parse(_prefix(statement) + "pass")
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class CatchNothing(Operator):
    """An exception that nobody expected. (cosmic-ray's own names a class that the file does not import.)"""

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[Span]:
        if node.type == "except_clause":
            yield node.children[1].start_pos, node.children[1].end_pos

    def mutate(self, node: Any, index: int) -> NodeOrLeaf:
        node.children[1] = parso.parse(" ()")
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class QueryOperator(Operator):
    """An operator in SQL or Lua: a bound off by one, another connective, another sign."""

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[Span]:
        if _in_query(node):
            for _ in self._changes(node.value):
                yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> NodeOrLeaf:
        node.value = list(self._changes(node.value))[index]
        return node

    def _changes(self, text: str) -> Iterator[str]:
        for pattern in (_QUERY_OPERATOR, _EQUALS):
            for found in pattern.finditer(text):
                yield text[: found.start(1)] + _SWAPS[found[1]] + text[found.end(1) :]

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class QueryGuard(QueryOperator):
    """A condition in SQL that always holds. Its parameter stays, so that the statement still runs."""

    def _changes(self, text: str) -> Iterator[str]:
        for found in _CONDITION.finditer(text):
            yield f"{text[: found.start(1)]}({found[1]} OR 1 = 1){text[found.end(1) :]}"


def operators() -> list[tuple[str, Operator]]:
    """Every operator that is tried, by name."""
    names = (
        *(f"ReplaceComparisonOperator_{pair}" for pair in _COMPARISONS),
        *(f"ReplaceBinaryOperator_{pair}" for pair in _ARITHMETIC),
        *_OTHERS,
    )
    ours = (DropStatement, CatchNothing, QueryOperator, QueryGuard)
    return [(name, get_operator(f"core/{name}")()) for name in names] + [(each.__name__, each()) for each in ours]


_SWAPS = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "=": "<>",
    "<>": "=",
    "==": "~=",
    "~=": "==",
    "AND": "OR",
    "OR": "AND",
    "and": "or",
    "or": "and",
    "+": "-",
    "-": "+",
    "IS NULL": "IS NOT NULL",
    "IS NOT NULL": "IS NULL",
}
_QUERY_OPERATOR = re.compile(r"(?<= )(<=|>=|<>|~=|==|<|>|AND|OR|and|or|\+|-|IS NULL\b|IS NOT NULL\b)(?=[ ),\"']|$)")
# Elsewhere `=` assigns.
_EQUALS = re.compile(r"\b(?:WHERE|AND|OR|ON) [\w.]+ (=) ")
_CONDITION = re.compile(r"(?<=AND )([\w.]+ (?:=|<>|<=|>=|<|>) (?:\?\d*|\$\d+|'\w+'|[\w.]+)|[\w.]+ IS (?:NOT )?NULL)")
_QUERY = re.compile(r"\b(?:SELECT|INSERT|UPDATE|DELETE|WHERE|ON CONFLICT|AND [\w.]+ [<>=]|redis\.call)\b")
_LOGS = ("log", "logger", "_log")


def _droppable(statement: NodeOrLeaf) -> bool:
    if statement.type == "raise_stmt":
        return True
    if statement.type == "expr_stmt":
        target = statement.children[0]
        return bool(target.type == "atom_expr" and statement.children[1].type != "annassign")
    if statement.type not in ("atom_expr", "await"):
        return False
    code = statement.get_code().strip()
    return not code.startswith(tuple(f"{name}." for name in _LOGS)) and "super().__init__" not in code


def _prefix(node: NodeOrLeaf) -> str:
    return str(node.get_first_leaf().prefix)


def _in_query(node: NodeOrLeaf) -> bool:
    """Whether this is the text of a string that holds SQL or Lua (and no docstring)."""
    if not isinstance(node, Leaf) or not (isinstance(node, String) or node.type == "fstring_string"):
        return False
    whole: Any = node
    while whole.parent is not None and whole.parent.type in ("fstring", "strings"):
        whole = whole.parent
    parent = whole.parent
    if parent is not None and parent.type in ("simple_stmt", "file_input"):
        return False
    return _QUERY.search(whole.get_code()) is not None
