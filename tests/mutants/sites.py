"""The places of a file where `operators.py` can put a bug, less those where no test should notice."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from functools import cached_property
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from parso.tree import NodeOrLeaf

from tests.mutants.joined import Joined
from tests.mutants.operators import operators

UNITS = 1_000
"""A number from here on converts units or is a rate; one more or less of it is no bug."""

_OPERATORS = dict(operators())
_SIGNS = ("ReplaceBinaryOperator_Add_Sub", "ReplaceBinaryOperator_Sub_Add")
_UNCOUNTED = ("annassign", "tfpdef", "decorator", "assert_stmt")
_DEFINITIONS = ("funcdef", "lambdef")


@dataclass(frozen=True)
class Site:
    """One bug that can be made: the `occurrence`-th place of an operator. `path` is relative to the tree's root."""

    root: Path
    path: str
    line: int
    operator: str
    occurrence: int

    @cached_property
    def code(self) -> str | None:
        """The whole file with the bug; None if it would not parse or be the same program."""
        source = (self.root / self.path).read_text()
        code = mutate_code(source, _OPERATORS[self.operator], self.occurrence)
        return code if code is not None and _is_other(code, source) else None

    @cached_property
    def diff(self) -> tuple[str, ...]:
        """The lines that change, each with its `-` or `+`, without indentation."""
        if self.code is None:
            return ()
        lines = unified_diff((self.root / self.path).read_text().splitlines(), self.code.splitlines(), n=0, lineterm="")
        return tuple(
            line[0] + " ".join(line[1:].split())
            for line in lines
            if line[0] in "+-" and not line.startswith(("+++", "---"))
        )


def sites(root: Path, path: str) -> Iterator[Site]:
    """All places of a file. Operators may meet in one place and make the same code; the caller leaves one of them."""
    source = (root / path).read_text()
    nodes, joined = list(ast_nodes(get_ast(source))), Joined(source)
    for name, operator in _OPERATORS.items():
        positions = ((node, start) for node in nodes for start, _ in operator.mutation_positions(node))
        for occurrence, (node, start) in enumerate(positions):
            if _counts(node, name) and not (name in _SIGNS and start in joined):
                yield Site(root, path, start[0], name, occurrence)


def _counts(node: NodeOrLeaf, operator: str) -> bool:
    """Whether a change here could be a bug. Types are mypy's; constants and times in seconds are tuned, not tested."""
    inside = False
    child, parent = node, node.parent
    while parent is not None:
        if parent.type in _UNCOUNTED or (parent.type == "funcdef" and child is parent.annotation):
            return False
        inside = inside or parent.type in _DEFINITIONS
        child, parent = parent, parent.parent
    if operator == "NumberReplacer" and ("." in node.get_code() or ast.literal_eval(node.get_code().strip()) >= UNITS):
        return False
    return inside or operator.startswith("Query")


def _is_other(code: str, source: str) -> bool:
    try:
        return ast.dump(ast.parse(code)) != ast.dump(ast.parse(source))
    except SyntaxError:
        return False
