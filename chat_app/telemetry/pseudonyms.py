"""Names for people that nobody can turn back: a keyed hash, the same for as long as the key is kept.

The key is made once, in the home directory. Whoever deletes it cuts every tie between old records and people.
Replicas that are to agree on the names share the home directory, or a copy of its key. It knows no person.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from chat_app.data.key_file import key_in

KEY_FILE = "telemetry.key"


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Keyed hashes of ids: 32 hex characters."""

    key: bytes

    @classmethod
    def of_home(cls, home: Path) -> "Pseudonyms":
        """With the key of this home directory, made if there is none. Raises `BadKey`, `OSError`."""
        return cls(key_in(home / KEY_FILE))

    def of(self, id: str) -> str:
        return hashlib.blake2b(id.encode(), key=self.key, digest_size=16, person=b"parley-user").hexdigest()
