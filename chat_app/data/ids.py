"""Identifiers and the clock. Knows no table and no database."""

import os
import time


def now_ms() -> int:
    """Wall clock, integer milliseconds since 1970 in UTC: the only form in which Parley stores a time."""
    return time.time_ns() // 1_000_000


def new_id() -> str:
    """32 hex characters that sort by time of creation (the layout of a UUIDv7, without its dashes)."""
    stamp = now_ms() & 0xFFFFFFFFFFFF
    tail = int.from_bytes(os.urandom(10), "big")
    rand_a = (tail >> 62) & 0xFFF
    rand_b = tail & 0x3FFFFFFFFFFFFFFF
    return f"{(stamp << 80) | (0x7 << 76) | (rand_a << 64) | (0x2 << 62) | rand_b:032x}"
