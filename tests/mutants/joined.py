"""The `+` and `-` of a file that join text or collections, as far as the file itself shows it.

With another sign they fail with a TypeError wherever they run. What it knows are literals, and what the file assigns
or annotates: names, attributes and results of functions.
"""

import ast
from collections.abc import Iterable, Iterator

Place = tuple[int, int]
"""Line from 1, column from 0 in characters."""

_JOINED = {"str", "bytes", "list", "tuple", "set", "frozenset", "dict"}
_NUMBERS = {"int", "float"}
_METHODS = {"join", "encode", "decode", "format", "strip", "lstrip", "rstrip", "removeprefix", "removesuffix"}
_DISPLAYS = (ast.JoinedStr, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.ListComp, ast.SetComp, ast.DictComp)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


class Joined:
    """The places of these operators: `place in joined`."""

    def __init__(self, source: str) -> None:
        self._lines = source.splitlines()
        self._spans: list[tuple[Place, Place]] = []
        """Between which operands each of them stands."""
        tree = ast.parse(source)
        self._beyond = set[str]()
        """Attributes as `.name` and functions as `name()`, wherever they are in the file."""
        constants = self._names(tree, set())
        votes = [vote for node in ast.walk(tree) for vote in self._votes(node, constants)]
        self._beyond = _joined(vote for vote in votes if not vote[0].isidentifier())
        self._visit(tree, set())

    def __contains__(self, place: Place) -> bool:
        return any(begin <= place < end for begin, end in self._spans)

    def _visit(self, scope: ast.AST, outer: set[str]) -> None:
        names = self._names(scope, outer)
        for node in _own(scope):
            if isinstance(node, _SCOPES):
                self._visit(node, names)
            elif self._joins(node, names):
                self._mark(node)

    def _mark(self, node: ast.AST) -> None:
        """This sign, and those of its operands: what is joined with a text is one."""
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
            left, right = node.left, node.right
            begin = self._place(left.end_lineno or 0, left.end_col_offset or 0)
            self._spans.append((begin, self._place(right.lineno, right.col_offset)))
            self._mark(left)
            self._mark(right)

    def _place(self, line: int, column: int) -> Place:
        return line, len(self._lines[line - 1].encode()[:column].decode())

    def _names(self, scope: ast.AST, outer: set[str]) -> set[str]:
        """The names in a scope that stand for text or collections."""
        votes = [vote for node in _own(scope) for vote in self._votes(node, outer)]
        return outer - {name for name, _ in votes} | _joined(votes)

    def _votes(self, node: ast.AST, names: set[str]) -> Iterator[tuple[str, bool | None]]:
        """What this node says of names: whether they stand for text or collections; None if it does not show."""
        match node:
            case ast.arg(arg=name, annotation=ast.expr() as annotation):
                yield name, _is_type(annotation)
            case ast.FunctionDef(name=name, returns=ast.expr() as annotation):
                yield f"{name}()", _is_type(annotation)
            case ast.AsyncFunctionDef(name=name, returns=ast.expr() as annotation):
                yield f"{name}()", _is_type(annotation)
            case ast.ClassDef(body=body):
                yield from ((f".{name}", vote) for each in body for name, vote in self._votes(each, names))
            case ast.AnnAssign(target=target, annotation=annotation):
                yield _key(target), _is_type(annotation)
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                yield from ((_key(one), self._vote(value, names)) for one, value in zip(targets, values, strict=False))
            case ast.Assign(targets=targets, value=value):
                yield from ((_key(target), self._vote(value, names)) for target in targets)

    def _vote(self, value: ast.expr, names: set[str]) -> bool | None:
        match value:
            case ast.Constant(value=int() | float()) | ast.Call(func=ast.Name(id="int" | "float" | "len" | "sum")):
                return False
        return self._joins(value, names) or None

    def _joins(self, node: ast.AST, names: set[str]) -> bool:
        """Whether this is text or a collection."""
        match node:
            case ast.Constant(value=value):
                return isinstance(value, (str, bytes))
            case ast.Name(id=name):
                return name in names
            case ast.Attribute(attr=name):
                return f".{name}" in self._beyond
            case ast.Call(func=ast.Name(id=name)):
                return name in _JOINED or f"{name}()" in self._beyond
            case ast.Call(func=ast.Attribute(attr=name)):
                return name in _METHODS or f"{name}()" in self._beyond
            case ast.BinOp(left=one, op=ast.Add() | ast.Sub(), right=two) | ast.IfExp(body=one, orelse=two):
                return self._joins(one, names) or self._joins(two, names)
            case ast.BoolOp(values=values):
                return any(self._joins(value, names) for value in values)
            case ast.Await(value=value) | ast.NamedExpr(value=value) | ast.Subscript(value=value, slice=ast.Slice()):
                return self._joins(value, names)
        return isinstance(node, _DISPLAYS)


def _joined(votes: Iterable[tuple[str, bool | None]]) -> set[str]:
    """What something says to be text or a collection, and nothing to be a number."""
    votes = list(votes)
    return {name for name, vote in votes if vote} - {name for name, vote in votes if vote is False}


def _key(target: ast.expr) -> str:
    return f".{target.attr}" if isinstance(target, ast.Attribute) else getattr(target, "id", "")


def _is_type(annotation: ast.expr) -> bool | None:
    match annotation:
        case ast.Name(id=name) | ast.Subscript(value=ast.Name(id=name)):
            return True if name in _JOINED else False if name in _NUMBERS else None
        case ast.BinOp(left=one, right=two):
            return _is_type(one) or _is_type(two)
    return None


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """What stands in a scope, without what stands in the scopes within it."""
    waiting = list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, _SCOPES):
            waiting += ast.iter_child_nodes(node)
