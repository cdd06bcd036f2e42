"""Which tests have to notice a bug in which file: those of its room, without a browser and without the chaos tests."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Room:
    """Files of the product, and the tests for them. Both are paths from the root: files, folders or globs."""

    name: str
    paths: tuple[str, ...]
    tests: tuple[str, ...]

    def files(self, root: Path) -> list[str]:
        """The Python files of the room, sorted."""
        return sorted({path for pattern in self.paths for path in _python(root, pattern)})

    def test_files(self, root: Path) -> list[str]:
        """Its test files that exist, sorted."""
        found = (path for pattern in self.tests for path in _python(root, pattern))
        return sorted({path for path in found if Path(path).name.startswith("test_")})


ROOMS = (
    Room(
        "turn",
        ("chat_app/turn",),
        (
            "tests/turn",
            "tests/tools",
            "tests/gateway/test_completions.py",
            "tests/faults/test_lost_commits.py",
            "tests/faults/test_taken_over.py",
            "tests/security/test_bounded_work.py",
            "tests/security/test_secrets_kept.py",
        ),
    ),
    Room("billing", ("chat_app/billing",), ("tests/billing", "tests/turn/test_turn.py", "tests/turn/test_steps.py")),
    Room("sessions", ("chat_app/sessions",), ("tests/sessions", "tests/turn")),
    Room(
        "log",
        ("chat_app/data/log", "chat_app/data/valkey.py", "chat_app/data/cancel.py"),
        tuple(
            f"tests/data/test_{name}*.py"
            for name in (
                "log",
                "mirror",
                "shard_reader",
                "held_script",
                "valkey_client",
                "entries",
                "stops",
                "cancel",
                "closing",
            )
        ),
    ),
    Room(
        "leases",
        ("chat_app/data/leases",),
        ("tests/data/test_lease*.py", "tests/data/test_closing.py", "tests/sessions/test_ownership.py"),
    ),
    Room("limits", ("chat_app/data/limits",), ("tests/data/test_limits*.py",)),
    Room(
        "database",
        ("chat_app/data/db", "chat_app/data/migrations.py", "chat_app/data/home.py", "chat_app/data/ids.py"),
        tuple(
            f"tests/data/test_{name}*.py"
            for name in ("database", "group_commit", "inline_reader", "merge", "migrations", "home", "ids", "closing")
        ),
    ),
    Room(
        "safety",
        tuple(f"chat_app/safety/{name}.py" for name in ("input", "output", "screen")),
        ("tests/safety", "tests/security/test_bounded_work.py", "tests/security/test_secrets_kept.py"),
    ),
    Room(
        "gateway",
        ("chat_app/gateway/completion*.py",),
        (
            *(f"tests/gateway/test_{name}*.py" for name in ("completion", "tools", "sse", "headers")),
            "tests/security/test_body_after_limits.py",
            "tests/security/test_bounded_work.py",
        ),
    ),
    Room(
        "inference",
        tuple(f"inference/{name}.py" for name in ("fairqueue", "pool", "continuation", "service", "gathering")),
        tuple(
            f"tests/inference/test_{name}*.py"
            for name in (
                "fairqueue",
                "pool",
                "continuation",
                "service",
                "server",
                "client",
                "cancel",
                "breaker",
                "tools",
                "calls",
                "fleet",
                "gathering",
                "pacing",
                "thinking",
            )
        ),
    ),
)


def _python(root: Path, pattern: str) -> list[str]:
    path = root / pattern
    found = path.rglob("*.py") if path.is_dir() else root.glob(pattern)
    return [each.relative_to(root).as_posix() for each in found]
