"""The results of an earlier run, of which only the survivors are tried again after tests were written for them.

What was killed then counts as killed. It does not know how a bug is tried.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mutants.known import Change
from tests.mutants.rooms import Room
from tests.mutants.sites import sites


@dataclass(frozen=True, slots=True)
class Earlier:
    """Lines of its `results.jsonl`, without the bugs that are known by now to change nothing."""

    killed: Sequence[dict[str, Any]] = ()
    survived: Sequence[dict[str, Any]] = ()

    @staticmethod
    def read(path: Path, equivalent: Collection[Change] = ()) -> "Earlier":
        """Raises `OSError`, and `ValueError` for a file that is no such thing."""
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        counted = [line for line in lines if _change(line) not in equivalent]
        killed = [line for line in counted if line["outcome"] in ("killed", "hung")]
        return Earlier(killed, [line for line in counted if line not in killed])

    def survivors(self, root: Path, rooms: Sequence[Room]) -> Iterator[tuple[Any, Room]]:
        """Their places in the files of today; those whose lines have changed meanwhile are left out."""
        left = [(line["operator"], *_change(line)) for line in self.survived]
        for room in rooms:
            for path in sorted({path for _, path, _ in left} & set(room.files(root))):
                operators = {operator for operator, at, _ in left if at == path}
                for site in sites(root, path):
                    if site.operator in operators and (one := (site.operator, path, site.diff)) in left:
                        left.remove(one)
                        yield site, room


def _change(line: dict[str, Any]) -> Change:
    return line["path"], tuple(line["diff"])
