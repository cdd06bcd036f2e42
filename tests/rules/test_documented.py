"""What is public is documented: settings, and the commands of the Makefile."""

import re
from pathlib import Path

from chat_app.settings import Settings
from inference.engines.scripted import ScriptedEngine
from inference.server import application
from tests.inference.conftest import hosting

ROOT = Path(__file__).resolve().parents[2]


def test_the_settings_reference_says_what_settings_py_says() -> None:
    rows = re.findall(r"^\| `(PARLEY_\w+)` \| (.*?) \| (.*) \|$", (ROOT / "docs/settings.md").read_text(), re.M)
    documented = {name: text for name, _, text in rows}
    written = {f"PARLEY_{name.upper()}": field.description for name, field in Settings.model_fields.items()}
    assert documented == written


def test_every_make_target_says_what_it_does() -> None:
    makefile = (ROOT / "Makefile").read_text()
    listed = set(re.findall(r"^([a-z-]+):.*##", makefile, re.M))
    assert {"run", "setup", "test", "dashboard", "notebooks", "bench", "lint", "chaos"} <= listed
    readme = (ROOT / "README.md").read_text()
    assert all(f"make {target}" in readme for target in ("run", "test"))


def test_every_address_of_the_inference_service_is_documented() -> None:
    documented = set(re.findall(r"`(?:GET|POST) (/[^`]*)`", (ROOT / "docs/inference.md").read_text()))
    routes = application(hosting(ScriptedEngine())).router.routes()
    served = {route.resource.canonical for route in routes if route.resource}
    assert documented == served
