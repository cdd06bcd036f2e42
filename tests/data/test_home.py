"""One process per home directory."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chat_app.data.home import HomeInUse, hold_home
from chat_app.data.migrations import ROOT

HOLD = """
import sys, time
from pathlib import Path
from chat_app.data.home import hold_home
with hold_home(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_makes_the_directory_for_its_owner_only(tmp_path: Path) -> None:
    home = tmp_path / "a" / "home"
    with hold_home(home):
        assert home.stat().st_mode & 0o777 == 0o700


def test_is_free_again_after_the_block(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyError), hold_home(tmp_path):
            raise KeyError
    with hold_home(tmp_path), pytest.raises(HomeInUse), hold_home(tmp_path):
        pass


def test_only_who_holds_it_is_named_and_not_who_held_it_before(tmp_path: Path) -> None:
    lock = tmp_path / "app.lock"
    lock.write_text("12345678901234567890\n")  # longer than any that comes after it
    with hold_home(tmp_path):
        assert lock.read_text() == f"{os.getpid()}\n"
        with (
            pytest.raises(HomeInUse, match=rf"^Another Parley \(process {os.getpid()}\) is using "),
            hold_home(tmp_path),
        ):
            pass


def test_who_holds_it_without_a_name_is_nobody_in_particular(tmp_path: Path) -> None:
    with hold_home(tmp_path):
        (tmp_path / "app.lock").write_text("")  # as it is for a moment before the number is there
        with pytest.raises(HomeInUse, match=r"^Another Parley is using "), hold_home(tmp_path):
            pass


def test_the_lock_is_for_its_owner_only(tmp_path: Path) -> None:
    with hold_home(tmp_path):
        assert (tmp_path / "app.lock").stat().st_mode & 0o777 == 0o600


def test_another_process_is_named_and_its_death_frees_the_home(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(HomeInUse) as refusal, hold_home(tmp_path):
            pass
        for words in ("Another Parley", str(other.pid), str(tmp_path), "PARLEY_REDIS_URL", "exactly one app worker"):
            assert words in str(refusal.value)
    finally:
        other.kill()
        other.wait()
    with hold_home(tmp_path):
        pass


def test_a_child_does_not_keep_the_home(tmp_path: Path) -> None:
    with hold_home(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False)
    try:
        time.sleep(0.05)
        with hold_home(tmp_path):
            pass
    finally:
        child.kill()
        child.wait()
