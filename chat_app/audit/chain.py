"""How entries hang together: each has a digest of what it says, and from its sealing on a hash of all before it.

Pure functions over rows of the table `audit`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

WRITTEN = (
    "id", "at", "tenant_id", "actor", "action", "object_kind", "object_id", "outcome", "network", "details"
)  # fmt: skip
"""What an entry says, in the order in which its digest reads it."""


@dataclass(frozen=True, slots=True)
class Head:
    """An end of the chain: so many entries, and the hash of the last one. As text `seq:hash`, to be noted elsewhere."""

    seq: int = 0
    hash: str = "0" * 64

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @classmethod
    def parsed(cls, text: str) -> "Head":
        """Raises `ValueError`."""
        seq, _, hash_ = text.strip().partition(":")
        if not seq.isdecimal() or len(hash_) != 64:
            raise ValueError("A head is a number, a colon and 64 hexadecimal digits.")
        return cls(int(seq), hash_.lower())

    def next(self, digest: str) -> "Head":
        """The end once an entry with this digest follows."""
        seq = self.seq + 1
        return Head(seq, _sha256(f"{seq}:{self.hash}:{digest}".encode()))


def digest_of(row: Mapping[str, Any]) -> str:
    """The digest of what an entry says. No two that differ have the same: it reads them as one JSON list."""
    return _sha256(orjson.dumps([row[column] for column in WRITTEN]))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
