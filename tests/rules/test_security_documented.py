"""docs/security.md says nothing of files and tests that there are not, and counts as its tables do."""

import ast
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/security.md").read_text()
VERDICTS = ("met", "partly", "not met", "does not apply")
LINES = {
    1: 27,
    2: 11,
    3: 19,
    4: 10,
    5: 9,
    6: 35,
    7: 18,
    8: 7,
    9: 7,
    10: 29,
    11: 14,
    12: 9,
    13: 13,
    14: 9,
    15: 13,
    16: 16,
    17: 7,
}
"""Requirements of ASVS 5.0.0 at the levels 1 and 2, by chapter."""
AT_THE_ROOT = {".dockerignore", "requirements.lock", "models.lock", "rxconfig.py"}
_PATH = re.compile(r"`((?:alembic|assets|bench|chat_app|deploy|docs|inference|ops_dashboard|tests)/[^`\s]*)`")
_TEST = re.compile(r"`(test_\w+)`")


class Row(NamedTuple):
    """A line of a table of the standard; `where` is its last cell."""

    chapter: int
    line: str
    verdict: str
    where: str


def rows() -> list[Row]:
    found = []
    chapter = 0
    for text in PAGE.splitlines():
        if heading := re.match(r"### V(\d+) ", text):
            chapter = int(heading[1])
        elif re.match(r"\| \d+\.\d+", text):
            cells = [cell.strip() for cell in text.strip("| ").split(" | ")]
            assert len(cells) == 4, text
            found.append(Row(chapter, cells[0], cells[2], cells[3]))
    return found


def named(text: str) -> list[str]:
    """The files that a text names."""
    return [*_PATH.findall(text), *(name for name in AT_THE_ROOT if f"`{name}`" in text)]


def functions_in(path: Path) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)}


def names_a_test(row: Row) -> bool:
    return any(Path(path).name.startswith("test_") for path in named(row.where))


def test_every_file_that_is_named_is_there() -> None:
    assert [path for path in named(PAGE) if not (ROOT / path).exists()] == []
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", PAGE)
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_every_test_that_is_named_is_there() -> None:
    missing = []
    for text in PAGE.split("\n\n"):
        # In a table, of a row's files; in a paragraph, of the paragraph's.
        for part in text.splitlines() if text.lstrip().startswith(("|", "#")) else [text]:
            there = {name for path in named(part) if path.endswith(".py") for name in functions_in(ROOT / path)}
            missing += [name for name in _TEST.findall(part) if name not in there]
    assert missing == []


def test_each_line_has_a_verdict_and_says_where() -> None:
    assert [row for row in rows() if row.verdict not in VERDICTS] == []
    assert [row for row in rows() if not row.where or row.line.split(".")[0] != str(row.chapter)] == []
    nowhere = [row for row in rows() if row.verdict == "met" and not named(row.where) and "above" not in row.where]
    assert nowhere == []


def test_every_line_of_the_standard_is_there_once() -> None:
    assert [line for line, times in Counter(row.line for row in rows()).items() if times > 1] == []
    assert Counter(row.chapter for row in rows()) == LINES


def test_the_summary_counts_what_the_tables_say() -> None:
    verdicts = Counter(row.verdict for row in rows())
    tested = sum(names_a_test(row) for row in rows() if row.verdict == "met")
    said = (
        f"**Of {len(rows())} lines {verdicts['met']} are met ({tested} of them name a test), {verdicts['partly']}"
        f" partly, {verdicts['not met']} are not met, {verdicts['does not apply']} do not apply.**"
    )
    assert said in PAGE.replace("\n", " ")


def test_all_that_is_not_met_is_listed_at_the_end() -> None:
    _, _, end = PAGE.partition("## What is not met, worst first")
    worst, _, partly = end.partition("Of what is partly met")
    verdicts = {row.line: row.verdict for row in rows()}
    listed = re.findall(r"^\d+\. \*\*([\d.]+)\*\*", worst, re.M)
    assert sorted(listed) == sorted(line for line, verdict in verdicts.items() if verdict == "not met")
    assert {verdicts[line] for line in re.findall(r"\*\*([\d.]+)\*\*", partly)} == {"partly"}
