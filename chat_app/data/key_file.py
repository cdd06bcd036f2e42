"""A key of the home directory: random bytes in a file of their own, made at their first use.

Processes that are to agree on what a key yields share the home directory, or a copy of the file. It does not know what
a key is for.
"""

import os
import secrets
from pathlib import Path

KEY_BYTES = 32


class BadKey(Exception):
    """The file is there but holds no key, and another one in its place would not fit what the first one was used
    for."""


def key_in(path: Path) -> bytes:
    """The key in this file, made if there is none. Raises `BadKey`, `OSError`."""
    if not path.exists():
        _make(path)
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise BadKey(
            f"{path} should hold {KEY_BYTES} bytes but holds {len(key)}. Restore it from a backup or delete it."
        )
    return key


def _make(path: Path) -> None:
    """Write a new key. Of several processes that do so at once, one wins, and none ever reads half a key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, secrets.token_bytes(KEY_BYTES))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
