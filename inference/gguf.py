"""What a GGUF file says of itself, read from its first bytes: enough to list it, and to know how much memory it takes.

Format: github.com/ggml-org/ggml, docs/gguf.md, versions 2 and 3. It loads nothing and knows no engine.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from inference.protocol import Damaged

MAGIC = b"GGUF"
MOST = 2**20
"""No file has more entries than this in a table, nor a name that long; what says so is no GGUF."""
ARRAY, STRING = 9, 8
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
WIDTHS = {kind: struct.calcsize(code) for kind, code in NUMBERS.items()}


@dataclass(frozen=True, slots=True)
class Header:
    """`context`: tokens it was trained on. `kv_bytes`: what one token takes in a cache of 16-bit numbers.

    Both are 0 where the file does not say.
    """

    context: int
    kv_bytes: int


def header(path: Path) -> Header:
    """Raises `Damaged` for a file that is no GGUF, or that ends within its header."""
    try:
        with path.open("rb") as file:
            return _header(file)
    except OSError as error:
        raise Damaged(f"the model file {path} cannot be read: {error.strerror}") from error
    except (struct.error, ValueError, UnicodeDecodeError) as error:
        raise Damaged(f"{path} is not a whole GGUF model: it is damaged or was not fetched whole ({error})") from None


def _header(file: IO[bytes]) -> Header:
    if file.read(4) != MAGIC:
        raise ValueError("it does not begin like one")
    version, _, entries = struct.unpack("<IQQ", _read(file, 20))
    if version not in (2, 3) or entries > MOST:
        raise ValueError(f"version {version}, {entries} entries")
    said: dict[str, object] = {}
    for _ in range(entries):
        key = _string(file)
        if key.startswith("tokenizer.") and said:
            break  # By convention the last, and long: a hundred thousand words that nobody asks for here.
        if (value := _value(file, _number(file, 4))) is not None:
            said[key] = value
    architecture = str(said.get("general.architecture", ""))

    def number(name: str, default: int = 0) -> int:
        value = said.get(f"{architecture}.{name}", default)
        return value if isinstance(value, int) else default

    heads = number("attention.head_count")
    head = number("embedding_length") // heads if heads else 0
    per_layer = number("attention.head_count_kv", heads) * (
        number("attention.key_length", head) + number("attention.value_length", head)
    )
    return Header(number("context_length"), 2 * number("block_count") * per_layer)


def _value(file: IO[bytes], kind: int) -> object:
    """A number or a string; None for an array, which is skipped."""
    if kind == STRING:
        return _string(file)
    if kind in NUMBERS:
        return struct.unpack(f"<{NUMBERS[kind]}", _read(file, WIDTHS[kind]))[0]
    if kind != ARRAY:
        raise ValueError(f"a value of the unknown kind {kind}")
    of, length = _number(file, 4), _number(file, 8)
    if length > 16 * MOST or (of not in WIDTHS and of != STRING):
        raise ValueError("a list that cannot be one")
    if of == STRING:
        for _ in range(length):
            _string(file)
    else:
        _read(file, WIDTHS[of] * length)
    return None


def _string(file: IO[bytes]) -> str:
    length = _number(file, 8)
    if length > MOST:
        raise ValueError(f"a text of {length} bytes")
    return _read(file, length).decode("utf-8", "replace")


def _number(file: IO[bytes], width: int) -> int:
    return int.from_bytes(_read(file, width), "little")


def _read(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise ValueError("it ends too early")
    return data
