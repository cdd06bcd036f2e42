"""How much memory a model takes, and how much there is."""

from pathlib import Path

import pytest

from inference import catalog, memory


def test_what_the_bundled_model_takes(tmp_path: Path) -> None:
    _, path = catalog.find("smollm2-135m-instruct", tmp_path)
    assert 500e6 < memory.needed(path, 16_384) < 700e6
    assert memory.needed(path, 32_768) - memory.needed(path, 16_384) == 16_384 * 23_040
    assert memory.needed(tmp_path / "none.gguf", 16_384) == 0


@pytest.mark.parametrize(
    ("limit", "free"),
    [("max", 8 * 2**30), (str(4 * 2**30), 3 * 2**30 + 2**20), (str(2**29), 0)],
)
def test_the_smaller_of_the_machine_and_the_container(tmp_path: Path, limit: str, free: int) -> None:
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {8 * 2**20} kB\n")
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text(f"{2**30}\n")
    (group / "memory.stat").write_text(f"anon 5\ninactive_file {2**20}\n")
    assert memory.free(tmp_path) == max(0, free - memory.SPARE)


def test_nobody_says(tmp_path: Path) -> None:
    assert memory.free(tmp_path) is None
