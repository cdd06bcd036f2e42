"""Names for people that nobody can turn back: a keyed hash, the same for as long as the key is kept.

The key is made once, in the home directory. Whoever deletes it cuts every tie between old records and people.
Replicas that are to agree on the names share the home directory, or a copy of its key. It knows no person.
"""

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

KEY_FILE = "telemetry.key"
KEY_BYTES = 32


class BadKey(Exception):
    """The key file is there but holds no key. Naming people by a wrong key would split each of them in two."""


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Keyed hashes of ids: 32 hex characters."""

    key: bytes

    @classmethod
    def of_home(cls, home: Path) -> "Pseudonyms":
        """With the key of this home directory, made if there is none. Raises `BadKey`, `OSError`."""
        path = home / KEY_FILE
        if not path.exists():
            _make(path)
        key = path.read_bytes()
        if len(key) != KEY_BYTES:
            raise BadKey(
                f"{path} should hold {KEY_BYTES} bytes but holds {len(key)}. Restore it from a backup or delete it."
            )
        return cls(key)

    def of(self, id: str) -> str:
        return hashlib.blake2b(id.encode(), key=self.key, digest_size=16, person=b"parley-user").hexdigest()


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
