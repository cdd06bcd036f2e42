"""The catalogue file: models that an operator adds to those that Parley knows, in TOML. Reads it; loads nothing."""

import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from inference.catalog import KNOWN, EngineName, Model
from inference.engines.exllama.options import Options
from inference.protocol import BadRequest, EngineError


class _Entry(BaseModel):
    """What a catalogue file may say of a model. One with the id of a known model says only what is to be different."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s/][^\s]*$")]
    engine: EngineName = "llama_cpp"
    file: str = ""
    sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""
    context: Annotated[int, Field(ge=0)] = 0
    slots: Annotated[int, Field(ge=0, le=4096)] = 0
    kv_tokens: Annotated[int, Field(ge=0)] = 0
    quantization: str = ""
    template: str = ""
    price_class: str = ""
    abilities: tuple[str, ...] = ()
    idle_s: Annotated[float, Field(ge=0)] = 0.0
    url: str = ""
    key_file: str = ""
    exllama: dict[str, Any] = {}


ENTRIES = TypeAdapter(list[_Entry])


def known(home: Path) -> tuple[Model, ...]:
    """The models of a home directory: those that Parley knows, and what its models.toml adds. Raises `EngineError`."""
    file = home / "models.toml"
    return read(file) if file.exists() else KNOWN


def read(file: Path) -> tuple[Model, ...]:
    """The known models, and those of a catalogue file in TOML: one `[[model]]` each, with the fields of `Model`.

    Paths in it are relative to its own directory. Raises `EngineError` that says which entry is wrong, and how.
    """
    try:
        tables: dict[str, Any] = tomllib.loads(file.read_text())
        entries = ENTRIES.validate_python(tables.get("model", []))
        if unknown := sorted(set(tables) - {"model"}):
            raise EngineError(f"the catalogue {file} has an unknown table: {', '.join(unknown)}")
    except OSError as error:
        raise EngineError(f"the catalogue {file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EngineError(f"the catalogue {file} is not valid TOML: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        places = [f"model {step + 1}" if isinstance(step, int) else step for step in first["loc"]]
        raise EngineError(f"the catalogue {file}: {', '.join(places)}: {first['msg']}") from None
    models = {model.id: model for model in KNOWN}
    seen: set[str] = set()
    for entry in entries:
        if entry.id in seen:
            raise EngineError(f"the catalogue {file} names {entry.id} twice")
        seen.add(entry.id)
        said = entry.model_dump(exclude_unset=True)
        for path in ("file", "template", "key_file"):
            if said.get(path):
                said[path] = _path(file, said[path])
        if entry.engine == "exllama":
            said["exllama"] = _options(file, entry, said)
        model = replace(models.get(entry.id, Model(entry.id)), **said)
        if model.engine in ("llama_cpp", "exllama") and not model.file:
            raise EngineError(f"the catalogue {file}: {entry.id} needs a file")
        if model.engine == "remote" and not model.url:
            raise EngineError(f"the catalogue {file}: {entry.id} needs the server's url")
        models[entry.id] = model
    return tuple(models.values())


def _path(file: Path, said: str) -> str:
    """What the catalogue says of a path, from its own directory on; "" stays so."""
    return str(file.parent.resolve() / Path(said).expanduser()) if said else ""


def _options(file: Path, entry: _Entry, said: dict[str, Any]) -> Options:
    """What `[model.exllama]` chooses, with what the entry says for every engine."""
    known = {field.name for field in fields(Options)} - {"folder", "model"}
    if unknown := sorted(set(entry.exllama) - known):
        raise EngineError(f"the catalogue {file}: {entry.id}, exllama: unknown: {', '.join(unknown)}")
    given = {key: said[key] for key in ("context", "slots", "kv_tokens", "template") if said.get(key)}
    try:
        options = TypeAdapter(Options).validate_python(
            {"folder": said.get("file", ""), "model": entry.id, **given, **entry.exllama}
        )
        return replace(
            options,
            draft=_path(file, options.draft),
            loras=tuple(_path(file, lora) for lora in options.loras),
            template=_path(file, options.template),
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise EngineError(f"the catalogue {file}: {entry.id}, exllama {where}: {first['msg']}") from None
    except BadRequest as error:
        raise EngineError(f"the catalogue {file}: {entry.id}: {error}") from None
