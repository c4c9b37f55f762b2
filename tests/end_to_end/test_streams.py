"""Standard output that is full, closed or of few characters, and Ctrl-C before anything is done."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import tailora as package
from tests.end_to_end.chips import write_chips

ROOT = str(Path(package.__file__).parents[1])


def command(*words, before=(), **options):
    """`tailora` as a process of its own, with folders in front of its imports."""
    path = os.pathsep.join([*map(str, before), ROOT])
    encoding = options.pop("encoding", None)
    env = {**os.environ, "PYTHONPATH": path} | ({"PYTHONIOENCODING": encoding} if encoding else {})
    return subprocess.run(
        [sys.executable, "-m", "tailora", *map(str, words)],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}, env=env, check=False,
        timeout=120,
    )  # fmt: skip


def one_line(done, code, *said):
    lines = done.stderr.decode("utf-8").splitlines()
    assert done.returncode == code, lines
    assert len(lines) == 1, lines
    for word in said:
        assert word in lines[0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_standard_output_is_one_line():
    with Path("/dev/full").open("wb") as full:
        done = command("--version", stdout=full)
    one_line(done, 2, "cannot write to standard output: No space left on device")


def test_a_reader_that_has_gone_is_one_line():
    reader, writer = os.pipe()
    os.close(reader)
    done = command("--version", stdout=writer)
    os.close(writer)
    one_line(done, 2, "cannot write to standard output: Broken pipe")


def test_a_closed_standard_output_is_one_line_and_no_file_gets_its_number():
    done = command("--version", preexec_fn=lambda: os.close(1))
    one_line(done, 2, "cannot write to standard output: it is closed")


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
def test_json_is_json_whatever_the_terminal_can_show(encoding, tmp_path):
    names = {"champ": 6, "forêt": 5, "水": 4}
    data = write_chips(tmp_path / "chips", names)
    done = command("inspect", data, "--json", encoding=encoding)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.decode("utf-8"))
    assert {entry["name"] for entry in said["classes"]} == set(names)
    shown = command("inspect", data, encoding="ascii")
    assert shown.returncode == 0
    assert rb"for\xeat" in shown.stdout
    assert rb"\u6c34" in shown.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("methods",), "error: interrupted"),
        (("fit", "x"), "error: interrupted; continue with --res"),
    ],
)
def test_ctrl_c_while_something_is_imported_is_one_line(words, said, tmp_path):
    # a library that swallows the interruption, as some do while they are imported
    (tmp_path / "typer.py").write_text(
        "import os, signal\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n"
        "except BaseException:\n    print('swallowed')\n"
    )
    done = command(*words, before=[tmp_path])
    one_line(done, 130, said)
    assert done.stdout == b""


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.3, 0.7, 1.5, 3.0])
def test_ctrl_c_at_any_time_of_the_first_seconds_is_one_line(delay, tmp_path, data, quick):
    env = {**os.environ, "PYTHONPATH": ROOT}
    words = [sys.executable, "-m", "tailora", "fit", data, "--out", tmp_path / "run", *quick]
    process = subprocess.Popen(
        list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    )
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(timeout=delay)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.decode().splitlines() == ["error: interrupted; continue with --resume"]


@pytest.mark.slow
def test_ctrl_c_in_two_processes_is_one_line_and_leaves_none(tmp_path, data, quick):
    env = {**os.environ, "PYTHONPATH": ROOT}
    words = [sys.executable, "-m", "tailora", "compare", data, "--out", tmp_path / "out", *quick]
    words += ["--methods", "lora", "--seeds", 2, "--jobs", 2, "--set", "train.epochs=500"]
    process = subprocess.Popen(
        list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env,
        start_new_session=True,
    )  # fmt: skip
    children = psutil.Process(process.pid).children
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out").glob("stages/lora*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = children(recursive=True)
    assert len(workers) >= 2
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.decode().splitlines() == ["error: interrupted; continue with --resume"]
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
