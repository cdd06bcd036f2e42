"""Rendezvous hashing: every key ranks all names, the same way in every process, without a table that anybody keeps.

When a name leaves, only the keys that ranked it first move, and they spread over the others. Pure.
"""

import math
from hashlib import blake2b


def rank(key: str, name: str, weight: float = 1.0) -> float:
    """The name's rank for this key; the highest has it. A name gets keys in proportion to its weight (above 0)."""
    digest = blake2b(f"{key}\0{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    # 53 bits, as a float has: strictly between 0 and 1, so that the logarithm is neither 0 nor infinite.
    share = ((int.from_bytes(digest, "big") >> 11) + 0.5) / 2**53
    return -weight / math.log(share)
