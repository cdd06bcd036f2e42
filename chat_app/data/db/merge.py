"""Several statements as one, for a database at the other end of a connection: each round trip costs both sides more
than most statements do.

Statements that change a table each, and look at none that another of them changes, are independent: as parts of one
WITH they do what they do one after the other. The rows that they return come as JSON, so whole numbers, text, booleans
and nulls come back as they are. It knows no table.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from chat_app.data.db.base import Statement

UNMET = re.compile(r'"unmet (\d+)"$')
"""The end of the error by which the server says which condition was unmet: it cannot read these words as a number."""

_TARGET = re.compile(r"\s*(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+(\w+)")
_MENTIONED = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE)\s+(\w+)")
_RETURNING = re.compile(r"\bRETURNING\b")
ROWS = "rows"
"""Name of the one column: the rows that each statement returned, a list of lists of objects."""
_PLACE = re.compile(r"\$(\d+)")


@dataclass(frozen=True, slots=True)
class _Nature:
    """What matters of a statement's text here. `target`: the table that it changes; None for one that only reads."""

    target: str | None
    mentioned: frozenset[str]


def groups(statements: Sequence[Statement]) -> list[list[Statement]]:
    """The statements in their order, cut into runs of independent ones."""
    found: list[list[Statement]] = []
    targets, mentioned = set[str](), set[str]()
    for statement in statements:
        nature = _nature(statement.sql)
        if (
            not found
            or not targets
            or nature.target is None
            or nature.target in mentioned
            or not targets.isdisjoint(nature.mentioned)
        ):
            found.append([])
            targets, mentioned = set(), set()
        found[-1].append(statement)
        if nature.target is not None:
            targets.add(nature.target)
            mentioned |= nature.mentioned
    return found


def merged(group: Sequence[Statement]) -> Statement:
    """Independent statements as one: it returns a row with `ROWS`, or fails with `UNMET` for the first condition that
    is unmet.
    """
    sql = _merged(tuple((one.sql, len(one.params), one.must is not None) for one in group))
    return Statement(sql, tuple(value for one in group for value in one.params))


@lru_cache(maxsize=512)
def _merged(texts: tuple[tuple[str, int, bool], ...]) -> str:
    parts, checks, rows, offset = list[str](), list[str](), list[str](), 0
    for number, (sql, places, must) in enumerate(texts):
        returns = _RETURNING.search(sql) is not None
        parts.append(f"s{number} AS ({_moved(sql, offset)}{'' if returns else ' RETURNING 1'})")
        rows.append(f"(SELECT json_agg(s{number}) FROM s{number})" if returns else "NULL")
        if must:
            checks.append(
                f"CAST(CASE WHEN EXISTS (SELECT 1 FROM s{number}) THEN '0' ELSE 'unmet {number}' END AS INTEGER)"
            )
        offset += places
    columns = [*checks, f"json_build_array({', '.join(rows)}) AS {ROWS}"]
    return f"WITH {', '.join(parts)} SELECT {', '.join(columns)}"


def _moved(sql: str, offset: int) -> str:
    return _PLACE.sub(lambda place: f"${int(place[1]) + offset}", sql)


@lru_cache(maxsize=512)
def _nature(sql: str) -> _Nature:
    target = _TARGET.match(sql)
    if target is None:
        return _Nature(None, frozenset())
    return _Nature(target[1], frozenset(_mentioned(sql)))


def _mentioned(sql: str) -> Iterator[str]:
    return (found[1] for found in _MENTIONED.finditer(sql))
