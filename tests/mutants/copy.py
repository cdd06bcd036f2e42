"""A copy of the tree to put bugs into: what git knows and what it does not ignore, in a temporary folder."""

import os
import shutil
import subprocess
from pathlib import Path

_LATER_S = 10_000


class Copy:
    """One copy. A bug is in it between `apply` and `restore`."""

    def __init__(self, tree: Path, folder: Path) -> None:
        self.root = folder
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=tree,
            check=True,
            capture_output=True,
            text=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            source, target = tree / name, folder / name
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)

    def apply(self, path: str, code: str) -> None:
        """Write the file with the bug, with a time of its own, so that no compiled file passes for it."""
        target = self.root / path
        times = target.stat()
        target.with_suffix(".kept").write_bytes(target.read_bytes())
        os.utime(target.with_suffix(".kept"), (times.st_atime, times.st_mtime))
        target.write_text(code)
        os.utime(target, (times.st_atime, times.st_mtime + _LATER_S))

    def restore(self, path: str) -> None:
        """Take the bug out again."""
        target = self.root / path
        target.with_suffix(".kept").replace(target)
