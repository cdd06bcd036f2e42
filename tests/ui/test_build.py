"""When the page is built anew, and when not."""

import multiprocessing
import time
from pathlib import Path

import pytest

from chat_app.ui import build as building
from chat_app.ui.build import KEPT, BuildFailed, build, built, serving, stamp


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout with just what goes into a build."""
    for name in ("rxconfig.py", "chat_app/chat_app.py", "chat_app/ui/page.py", "assets/a.css", "reflex.lock/bun.lock"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch, tree: Path) -> Path:
    """Instead of Reflex: leaves what it would leave, and notes each time in a file (it may run in other processes)."""
    notes = tree / "notes"
    notes.write_text("")

    def export(root: Path) -> None:
        with notes.open("a") as file:
            file.write("x")
        time.sleep(0.2)
        for name in ("build/client/index.html", "backend/stateful_pages.json"):
            (root / ".web" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / ".web" / name).write_text(stamp(root))

    monkeypatch.setattr(building, "_export", export)
    return notes


@pytest.mark.parametrize(
    "name", ["rxconfig.py", "chat_app/chat_app.py", "chat_app/ui/page.py", "assets/a.css", "reflex.lock/bun.lock"]
)
def test_every_source_counts(tree: Path, name: str) -> None:
    before = stamp(tree)
    (tree / name).write_text("changed")
    assert stamp(tree) != before


def test_what_is_no_source_does_not_count(tree: Path) -> None:
    before = stamp(tree)
    (tree / "chat_app/turn.py").write_text("x")
    (tree / "chat_app/ui/page.pyc").write_text("x")
    assert stamp(tree) == before


def test_it_is_built_once_for_each_state_of_the_sources(tree: Path, exports: Path) -> None:
    assert built(tree) is None
    first = build(tree)
    assert built(tree) == build(tree) == first
    assert (first / "build/client/index.html").read_text() == first.name
    assert (first / "backend/stateful_pages.json").exists()
    (tree / "assets/a.css").write_text("new")
    assert built(tree) is None
    assert build(tree) != first
    assert len(exports.read_text()) == 2
    assert first.exists()  # A server that still runs serves it.


def test_a_build_is_named_after_what_went_into_it(tree: Path, exports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, export = tree / "reflex.lock/bun.lock", building._export

    def rewriting(root: Path) -> None:
        export(root)
        lock.write_text("as Reflex writes it")

    monkeypatch.setattr(building, "_export", rewriting)
    before = lock.read_text()
    first = build(tree)
    lock.write_text(before)
    assert build(tree) == first
    assert exports.read_text() == "x"


def test_a_lock_that_is_only_written_differently_is_no_change(
    tree: Path, exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, export = tree / "reflex.lock/package.json", building._export
    lock.write_text('{\n  "name": "reflex"\n}')

    def rewriting(root: Path) -> None:
        export(root)
        lock.write_text(says)

    monkeypatch.setattr(building, "_export", rewriting)
    says = '{"name": "reflex"}'
    first = build(tree)
    assert lock.read_text() == '{\n  "name": "reflex"\n}'
    assert build(tree) == first
    assert exports.read_text() == "x"
    (tree / "assets/a.css").write_text("new")
    says = '{"name": "another"}'
    build(tree)
    assert lock.read_text() == says


def test_old_builds_are_tidied_away(tree: Path, exports: Path) -> None:
    for number in range(KEPT + 2):
        (tree / "assets/a.css").write_text(str(number))
        build(tree)
    assert len(list((tree / ".web/builds").iterdir())) == KEPT


def test_of_two_at_once_one_builds_and_the_other_waits(tree: Path, exports: Path) -> None:
    fork = multiprocessing.get_context("fork")
    started = [fork.Process(target=build, args=(tree,)) for _ in range(3)]
    for process in started:
        process.start()
    for process in started:
        process.join(20)
    assert [process.exitcode for process in started] == [0, 0, 0]
    assert exports.read_text() == "x"


def test_a_failed_build_says_why_and_leaves_nothing(tree: Path) -> None:
    with pytest.raises(BuildFailed, match="could not be built"):
        build(tree)  # There is no app in this tree.
    assert built(tree) is None


def test_a_build_is_served_without_compiling(tmp_path: Path) -> None:
    assert serving(tmp_path)["REFLEX_WEB_WORKDIR"] == str(tmp_path)
    assert serving(tmp_path)["__REFLEX_SKIP_COMPILE"] == "true"
