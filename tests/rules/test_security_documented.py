"""docs/security.md says nothing of files and tests that there are not, and counts as its tables do."""

import ast
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/security.md").read_text()
VERDICTS = ("met", "partly", "not met", "does not apply")
SECTIONS = (
    "1.1:2 1.2:9 1.3:11 1.4:3 1.5:2 2.1:3 2.2:3 2.3:4 2.4:1 3.2:2 3.3:4 3.4:6 3.5:5 3.7:2 4.1:3 4.2:1 4.3:2 4.4:4 5.1:1"
    " 5.2:3 5.3:2 5.4:3 6.1:3 6.2:12 6.3:4 6.4:4 6.5:5 6.6:3 6.8:4 7.1:3 7.2:4 7.3:2 7.4:5 7.5:2 7.6:2 8.1:2 8.2:3"
    " 8.3:1 8.4:1 9.1:3 9.2:4 10.1:2 10.2:2 10.3:4 10.4:11 10.5:5 10.6:2 10.7:3 11.1:2 11.2:3 11.3:3 11.4:4 11.5:1"
    " 11.6:1 12.1:3 12.2:2 12.3:4 13.1:1 13.2:5 13.3:2 13.4:5 14.1:2 14.2:4 14.3:3 15.1:3 15.2:3 15.3:7 16.1:1 16.2:5"
    " 16.3:4 16.4:3 16.5:3 17.1:1 17.2:4 17.3:2"
)
"""Each section of ASVS 5.0.0, and how many of its lines, which come first in it, are of the levels 1 and 2."""
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


def test_every_line_of_the_standard_is_there_once_and_in_order() -> None:
    sections = (section.split(":") for section in SECTIONS.split())
    lines = [f"{section}.{n}" for section, count in sections for n in range(1, int(count) + 1)]
    assert [row.line for row in rows()] == lines


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
