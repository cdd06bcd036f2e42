"""`docs/mutants.md`: the survivors that somebody looked at, with the reason why no test kills them.

Under `## Equivalent` are those that change nothing that anybody could see; they are left out of the share. Under
`## Accepted` are those that do, and that are not worth their test; they count as survivors. An entry is a heading with
the file, one line with the reason, and the lines that change as a `diff` block. Indentation and line numbers do not
matter.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Change = tuple[str, tuple[str, ...]]
"""A file and its changed lines, as `Site.diff` has them."""


@dataclass(frozen=True, slots=True)
class Known:
    """Reasons by change."""

    equivalent: dict[Change, str]
    accepted: dict[Change, str]


def known(page: Path) -> Known:
    """Read the page. Raises `ValueError` for an entry without a file, a reason or a change."""
    found = Known({}, {})
    reasons, path, reason = found.accepted, "", ""
    lines = iter(page.read_text().splitlines()) if page.exists() else iter(())
    for line in lines:
        if line.startswith("## "):
            reasons, path, reason = found.equivalent if "equivalent" in line.lower() else found.accepted, "", ""
        elif line.startswith("### "):
            path, reason = line.removeprefix("### ").strip("` "), ""
        elif line.strip() == "```diff":
            change = tuple(_normal(each) for each in _until_fence(lines))
            if not (path and reason and change):
                raise ValueError(f"{page}: an entry needs a file, a reason and a change: {path} {reason} {change}")
            reasons[path, change] = reason
        elif line.strip():
            reason = line.strip()
    return found


def entry(path: str, diff: tuple[str, ...], reason: str) -> str:
    """An entry of the page."""
    return "\n".join([f"### {path}", "", reason, "", "```diff", *diff, "```", ""])


def _until_fence(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if line.strip() == "```":
            return
        yield line


def _normal(line: str) -> str:
    return line[:1] + " ".join(re.split(r"\s+", line[1:].strip()))
