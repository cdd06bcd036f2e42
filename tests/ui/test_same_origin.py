"""A build follows the address under which it is opened."""

from pathlib import Path

import pytest

from chat_app.ui.same_origin import rewrite

BUILT = (
    "var e={PING:`http://localhost:8000/ping`,EVENT:`ws://localhost:8000/_event`,"
    'HEALTH:"http://localhost:8000/_health",OTHER:`http://localhost:80001/x`,TRANSPORT:`websocket`};export{e as t};'
)


def assets(root: Path, text: str) -> Path:
    file = root / "assets" / "reflex-env-abc.js"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return file


def test_addresses_become_the_pages_own(tmp_path: Path) -> None:
    file = assets(tmp_path, BUILT)
    rewrite(tmp_path, "http://localhost:8000")
    assert file.read_text() == (
        "var e={PING:location.origin+`/ping`,EVENT:location.origin.replace(/^http/,`ws`)+`/_event`,"
        "HEALTH:location.origin+`/_health`,OTHER:`http://localhost:80001/x`,TRANSPORT:`websocket`};export{e as t};"
    )


def test_a_build_that_looks_otherwise_is_an_error_not_a_dead_page(tmp_path: Path) -> None:
    assets(tmp_path, "export const e = {}")
    with pytest.raises(RuntimeError, match="reflex-env-abc"):
        rewrite(tmp_path, "http://localhost:8000")
