"""One writer of a path at a time, also among processes, and no lock file is left behind."""

import fcntl
import os
import subprocess
import sys
import tempfile

import pytest

from tailora.errors import RunError
from tailora.runs.one_at_a_time import one_at_a_time


@pytest.fixture(autouse=True)
def locks(tmp_path, monkeypatch):
    """The folder where locks lie: apart from those of other tests."""
    folder = tmp_path / "locks"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


HOLD = """
import sys
from pathlib import Path
from tailora.runs.one_at_a_time import one_at_a_time
with one_at_a_time(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
COUNT = """
import sys
from pathlib import Path
from tailora.errors import RunError
from tailora.runs.one_at_a_time import one_at_a_time
counter, done = Path(sys.argv[2]), 0
while done < 150:
    try:
        with one_at_a_time(Path(sys.argv[1])):
            before = int(counter.read_text())
            counter.write_text(str(before + 1))
            done += 1
    except RunError:
        pass
"""


def start(code, *words):
    """Start a Python process whose temporary files lie where those of this one do."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": tempfile.gettempdir()},
    )


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path / "run"` until it is told to end."""
    with start(HOLD, tmp_path / "run") as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_no_file_is_left_whether_it_ends_well_or_not(tmp_path, locks):
    with one_at_a_time(tmp_path / "run"), one_at_a_time(tmp_path / "other"):
        assert len(list(locks.iterdir())) == 2
    assert not list(locks.iterdir())

    class Interrupted(BaseException):
        pass

    with pytest.raises(Interrupted), one_at_a_time(tmp_path / "run"):
        raise Interrupted
    assert not list(locks.iterdir())


def test_another_process_is_named_and_keeps_its_lock(tmp_path, locks, holder):
    for _ in range(2):  # a refusal does not release it
        with (
            pytest.raises(RunError, match=rf"another tailora \(process {holder.pid}\) is writing"),
            one_at_a_time(tmp_path / "run"),
        ):
            pytest.fail("two hold the lock")
    holder.communicate()
    assert not list(locks.iterdir())
    with one_at_a_time(tmp_path / "run"):
        pass


def test_a_killed_process_releases_and_the_next_command_deletes_its_file(tmp_path, locks, holder):
    holder.kill()
    holder.wait()
    assert len(list(locks.iterdir())) == 1
    with one_at_a_time(tmp_path / "run"):
        assert len(list(locks.iterdir())) == 1
    assert not list(locks.iterdir())


def test_a_file_deleted_between_opening_and_locking_guards_nothing(tmp_path, locks, monkeypatch):
    lock, opened = fcntl.flock, []

    def slow(file, how):
        if not opened:  # the holder ends just now
            next(locks.iterdir()).unlink()
        opened.append(file)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    with one_at_a_time(tmp_path / "run"):
        assert len(opened) == 2
        monkeypatch.setattr(fcntl, "flock", lock)
        with pytest.raises(RunError), one_at_a_time(tmp_path / "run"):
            pytest.fail("two hold the lock")
    assert not list(locks.iterdir())


def test_a_lock_that_took_the_place_of_a_deleted_one_is_left(tmp_path, locks):
    with one_at_a_time(tmp_path / "run"):
        (name,) = locks.iterdir()
        name.unlink()  # someone tidies up
        name.touch()  # and another command begins
    assert name.exists()


def test_processes_that_begin_and_end_at_once_never_overlap(tmp_path, locks):
    counter = tmp_path / "counter"
    counter.write_text("0")
    processes = [start(COUNT, tmp_path / "run", counter) for _ in range(3)]
    for process in processes:
        process.communicate()
    assert counter.read_text() == "450"
    assert not list(locks.iterdir())
