"""How much memory a model takes and how much there is, so that one is refused before the machine runs out."""

from pathlib import Path

from inference import gguf
from inference.protocol import EngineError

WORK = 150 * 2**20
"""Bytes that an engine takes beside weights and cache. Measured with SmolLM2: 510 to 545 MB with 93 MB of weights and
377 MB of cache."""
SPARE = 256 * 2**20
"""Bytes that are left to everything else."""


def needed(path: Path, kv_tokens: int) -> int:
    """Bytes that a GGUF model of this file takes with a cache of `kv_tokens`; 0 if its file does not say."""
    try:
        return path.stat().st_size + gguf.header(path).kv_bytes * kv_tokens + WORK
    except (OSError, EngineError):
        return 0


def free(root: Path = Path("/")) -> int | None:
    """Bytes that can be taken: the machine's, or the container's if that has less. None where nobody says."""
    machine = _lines(root / "proc/meminfo").get("MemAvailable:")
    group = root / "sys/fs/cgroup"
    limit, used = _number(group / "memory.max"), _number(group / "memory.current")
    # Of what a container uses, files that nobody has read lately are given back first.
    unused = _lines(group / "memory.stat").get("inactive_file", 0)
    there = [bytes_ for bytes_ in (machine and machine * 1024, limit and used and limit - used + unused) if bytes_]
    return max(0, min(there) - SPARE) if there else None


def _lines(file: Path) -> dict[str, int]:
    try:
        rows = (line.split() for line in file.read_text().splitlines())
        return {row[0]: int(row[1]) for row in rows if len(row) > 1}
    except (OSError, ValueError):
        return {}


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # A group without a limit says "max".
        return None
