"""Interrupted anywhere and resumed, a run repeats at most one epoch and ends the same."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import tailora as package
from tests.end_to_end.chips import DEBLORA, assert_same_result, snapshot, succeed, tailora
from tests.end_to_end.test_segment import OPTIONS as PIXELS
from tests.end_to_end.test_segment import RECUT, write_pairs

STEPS_AN_EPOCH = 5  # 78 training chips in batches of 16
# steps of an epoch and epochs: stage 5 learns from the few chips of the moved classes
TRAINING = {"adapting to labels": (STEPS_AN_EPOCH, 2), "learning the moved features": (1, 6)}

pytestmark = pytest.mark.usefixtures("plain_report")


class Watch:
    """Progress that counts, and presses Ctrl-C at one step of one bar."""

    def __init__(self, title=None, at=0):
        self.title, self.at = title, at
        self.steps = {}

    @contextmanager
    def __call__(self, title, _total):
        self.steps[title] = 0

        def advance(_done):
            self.steps[title] += 1
            if (title, self.steps[title]) == (self.title, self.at):
                raise KeyboardInterrupt

        yield advance


@pytest.fixture
def watch(monkeypatch):
    def start(*arguments):
        watch = Watch(*arguments)
        monkeypatch.setattr("tailora.cli.fit.bars", lambda **_quiet: watch)
        return watch

    return start


def interrupted(answer):
    assert answer.code == 130
    assert answer.err == "error: interrupted; continue with --resume\n"


# in the order of a run: a bar, its step, and what is not done again
STOPS = [
    ("decoding images", 40, []),
    ("zero-shot: train features", 1, ["decoding images"]),
    ("adapting to labels", 3, ["decoding images", "zero-shot: train features"]),
    ("adapting to labels", STEPS_AN_EPOCH + 2, ["zero-shot: val features"]),
    ("lora: val features", 1, ["adapting to labels", "lora: train features"]),
    ("learning the moved features", 1, ["adapting to labels"]),
    ("learning the moved features", 5, ["lora: val features"]),
    ("deblora: train features", 2, ["learning the moved features"]),
    ("deblora: test features", 1, ["learning the moved features", "lora: test features"]),
]


def test_a_run_interrupted_at_every_kind_of_step_ends_as_if_it_had_not_been(
    watch, finished, data, quick, tmp_path
):
    words = ["fit", data, "--out", tmp_path / "run", *quick, *DEBLORA, "--resume"]
    watch(*STOPS[0][:2])
    interrupted(tailora(*words))
    for (title, at, done), (following, its_step, _) in pairwise([*STOPS, (None, 0, None)]):
        resumed = watch(following, its_step)
        answer = tailora(*words)
        assert answer.code == (0 if following is None else 130), answer.err
        assert not set(done) & set(resumed.steps)
        if title in TRAINING and following != title:
            steps, epochs = TRAINING[title]
            # a checkpoint follows the last step of an epoch, so that step counts as not done
            epochs_kept = (at - 1) // steps
            assert resumed.steps[title] == (epochs - epochs_kept) * steps
    assert_same_result(tmp_path / "run", finished)


def test_re_cut_windows_are_the_same_after_an_interruption(watch, encoder, tmp_path):
    write_pairs(tmp_path / "land")
    words = ["fit", tmp_path / "land", "--ignore", "255", "--backbone", encoder, *PIXELS, *RECUT]
    words += ["--epochs", "3", "--method", "lora", "--resume", "--out"]
    succeed(*words, tmp_path / "straight")
    watch("adapting to labels", 6)  # in the second epoch, of three steps
    interrupted(tailora(*words, tmp_path / "again"))
    watch()
    assert tailora(*words, tmp_path / "again").code == 0
    first, second = (
        (tmp_path / run / "adapter" / "adapter_model.safetensors").read_bytes()
        for run in ("straight", "again")
    )
    assert first == second


def test_an_interruption_before_anything_was_decoded_leaves_nothing(watch, data, quick, tmp_path):
    watch("decoding images", 1)
    interrupted(tailora("fit", data, "--out", tmp_path / "new" / "run", *quick))
    assert snapshot(tmp_path) == {}


# in the order of a run
PLACES = (
    "methods.method.fit_head",
    "methods.deblora.method.calibrate_features",
    "methods.scoring.evaluate_methods",
    "methods.fit.write_evidence",
    "methods.fit.copy_saved",
    "methods.fit.write_report",
)


def test_a_run_interrupted_between_its_steps_ends_as_if_it_had_not_been(
    finished, data, quick, tmp_path, monkeypatch
):
    def interrupt(*_arguments, **_options):
        raise KeyboardInterrupt

    words = ["fit", data, "--out", tmp_path / "run", *quick, *DEBLORA, "--resume"]
    for place in PLACES:
        with monkeypatch.context() as patch:
            patch.setattr(f"tailora.{place}", interrupt)
            interrupted(tailora(*words))
        incomplete = tailora("predict", tmp_path / "run", data, "--quiet")
        assert incomplete.code == 2
        assert "--resume" in incomplete.err
    succeed(*words)
    assert_same_result(tmp_path / "run", finished)


@pytest.mark.slow
def test_a_run_interrupted_again_and_again_as_files_get_their_names_ends_the_same(
    finished, data, quick, tmp_path, monkeypatch
):
    words = ["fit", data, "--out", tmp_path / "run", *quick, *DEBLORA, "--resume"]
    left = 0

    def watched(rename):
        def do(path, target):
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
            return rename(path, target)

        return do

    for name in ("replace", "rename"):
        monkeypatch.setattr(Path, name, watched(getattr(Path, name)))
    attempts = 0
    while attempts < 60:
        attempts += 1
        left = attempts  # each attempt gets one file further than the one before
        answer = tailora(*words)
        if answer.code == 0:
            break
        interrupted(answer)
    assert answer.code == 0
    assert attempts > 8
    assert_same_result(tmp_path / "run", finished)
    assert snapshot(tmp_path / "run").keys() == snapshot(finished).keys()


@pytest.mark.slow
def test_a_killed_process_leaves_a_run_that_can_be_resumed(finished, data, quick, tmp_path):
    words = ["fit", data, "--out", tmp_path / "run", *quick, *DEBLORA]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(package.__file__).parents[1]),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),  # sums depend on it in the last bit
    }
    with (tmp_path / "stderr").open("w+") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "tailora", *map(str, words)], stderr=err, env=environment
        )
        checkpoint = tmp_path / "run" / "stages" / "lora" / "checkpoint.pt"
        deadline = time.monotonic() + 300
        while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -9
    assert checkpoint.exists()
    assert (tmp_path / "stderr").read_text() == ""  # no warning from any library
    assert not (tmp_path / "run" / "metrics.json").exists()
    half = tmp_path / "run" / "stages" / "zero-shot" / ".head.writing-1-1.safetensors"
    half.write_bytes(b"half")
    succeed(*words, "--resume")
    assert_same_result(tmp_path / "run", finished)
    assert snapshot(tmp_path / "run").keys() == snapshot(finished).keys()


def test_a_run_killed_before_it_had_a_recipe_is_begun_anew(finished, data, quick, tmp_path):
    run = tmp_path / "run"
    words = ["fit", data, "--out", run, *quick, "--method", "zero-shot"]
    succeed(*words)
    record = (run / "run.json").read_text("utf-8").replace('"complete": true', '"complete": false')
    (run / "run.json").write_text(record, "utf-8")
    (run / "recipe.toml").unlink()
    (run / "head.safetensors").write_bytes(b"half")
    succeed(*words, "--resume")
    assert len((run / "head.safetensors").read_bytes()) > 100
