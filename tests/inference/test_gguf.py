"""GGUF headers, real, made up and broken."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import catalog, gguf
from inference.protocol import Damaged


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def uint(key: str, value: int) -> bytes:
    return string(key) + struct.pack("<II", 4, value)


def file_of(*entries: bytes, said: int | None = None, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, 0, len(entries) if said is None else said) + b"".join(entries)


WHOLE = file_of(
    string("general.architecture") + struct.pack("<I", 8) + string("test"),
    string("general.tags") + struct.pack("<IIQ", 9, 8, 2) + string("a") + string("b"),
    string("general.sizes") + struct.pack("<IIQ3f", 9, 6, 3, 1.0, 2.0, 3.0),
    uint("test.context_length", 4096),
    uint("test.block_count", 10),
    uint("test.embedding_length", 64),
    uint("test.attention.head_count", 4),
    uint("test.attention.head_count_kv", 2),
)


def test_the_bundled_model(tmp_path: Path) -> None:
    _, path = catalog.find("smollm2-135m-instruct", tmp_path)
    # 30 layers, 3 heads of keys and values, 64 numbers of 2 bytes each.
    assert gguf.header(path) == gguf.Header(8192, 30 * 3 * 64 * 2 * 2)


def test_what_a_header_says(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(WHOLE)
    assert gguf.header(tmp_path / "m.gguf") == gguf.Header(4096, 2 * 10 * 2 * (16 + 16))


@given(st.integers(0, len(WHOLE) - 1))
def test_every_file_that_ends_too_early_is_damaged(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.gguf"
    path.write_bytes(WHOLE[:length])
    with pytest.raises(Damaged, match="not a whole GGUF"):
        gguf.header(path)


@given(st.data())
def test_no_bytes_do_harm(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    wrong = bytearray(WHOLE)
    for place in data.draw(st.lists(st.integers(4, len(WHOLE) - 1), min_size=1, max_size=4)):
        wrong[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "wrong.gguf"
    path.write_bytes(wrong)
    try:
        assert gguf.header(path)
    except Damaged as error:
        assert "damaged" in str(error)


@pytest.mark.parametrize(
    "content",
    [
        file_of(version=1),
        file_of(said=2**40),
        file_of(struct.pack("<Q", 2**60)),
        file_of(string("x") + struct.pack("<I", 77)),
        file_of(string("x") + struct.pack("<IIQ", 9, 4, 2**50)),
        file_of(string("x") + struct.pack("<IIQ", 9, 9, 1)),
    ],
)
def test_a_header_that_cannot_be_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(Damaged):
        gguf.header(tmp_path / "m.gguf")


def test_what_should_be_a_whole_number_and_is_none_was_not_said(tmp_path: Path) -> None:
    endless = string("test.context_length") + struct.pack("<If", 6, float("inf"))
    (tmp_path / "m.gguf").write_bytes(
        file_of(string("general.architecture") + struct.pack("<I", 8) + string("test"), endless)
    )
    assert gguf.header(tmp_path / "m.gguf").context == 0
