"""How a run was trained is kept, and a training that diverges stops in one line."""

import csv
import functools
import json
import operator
import shutil
from dataclasses import replace

import numpy as np
import pytest

import tailora as package
from tailora.report import write_report
from tailora.runs.image_history import IMAGE_HISTORY
from tailora.storage import read_json
from tests.end_to_end.chips import (
    DEBLORA,
    assert_same_result,
    copy_run,
    refused,
    reseal,
    succeed,
    tailora,
)
from tests.end_to_end.test_resume import STEPS_AN_EPOCH, Watch

KEYS = [
    "stage", "epoch", "step", "loss", "lr", "gradient_norm", "seconds", "images_per_second",
    "parts",
]  # fmt: skip
WHAT_IS_TRAINED = [("lora", 2 * STEPS_AN_EPOCH), ("deblora", 6)]


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def steps(path):
    return [(row["stage"], row["step"]) for row in lines(path)]


EVERY_STEP = [(name, step) for name, n in WHAT_IS_TRAINED for step in range(1, n + 1)]


def test_every_step_of_every_stage_is_in_the_run_folder(finished):
    rows = lines(finished / "history.jsonl")
    assert [(row["stage"], row["step"]) for row in rows] == EVERY_STEP
    assert all(list(row) == KEYS for row in rows)
    assert [row["epoch"] for row in rows] == [1] * 5 + [2] * 5 + [1, 2, 3, 4, 5, 6]
    of_stages = [lines(finished / "stages" / name / "history.jsonl") for name, _ in WHAT_IS_TRAINED]
    assert rows == functools.reduce(operator.iadd, of_stages, [])
    recipe = package.load_run(finished).recipe
    assert max(row["lr"] for row in rows[:10]) == recipe.train.lr
    assert max(row["lr"] for row in rows[10:]) == recipe.deblora.lr


def test_seconds_and_speed_are_those_of_the_clock(finished):
    """Steps of an epoch are read together, so they have one speed: images over seconds."""
    rows = lines(finished / "history.jsonl")[:10]
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)
    spent = {
        entry["name"]: entry["seconds"] for entry in read_json(finished / "run.json")["stages"]
    }
    assert 0 < seconds[-1] < spent["lora: train"]
    images = 78  # 78 training chips an epoch
    assert rows[4]["images_per_second"] == pytest.approx(images / seconds[4], rel=0.02)
    second = images / (seconds[9] - seconds[4])
    assert rows[9]["images_per_second"] == pytest.approx(second, rel=0.02)


def test_a_loaded_run_has_its_history_as_rows_and_as_a_table(finished):
    history = package.load_run(finished).history
    assert [(row.stage, row.step) for row in history] == EVERY_STEP
    assert {name: len(rows) for name, rows in history.by_stage().items()} == dict(WHAT_IS_TRAINED)
    table = history.to_frame()
    assert list(table.columns) == KEYS[:-1]
    expected = [row["loss"] for row in lines(finished / "history.jsonl")]
    np.testing.assert_array_equal(table["loss"], expected)


def test_a_resumed_run_has_each_step_once(
    finished, data, quick, tmp_path, monkeypatch, plain_report
):
    words = ["fit", data, "--out", tmp_path / "run", *quick, *DEBLORA, "--resume"]
    for title, at in (("adapting to labels", 8), ("learning the moved features", 4)):
        with monkeypatch.context() as patch:
            patch.setattr("tailora.cli.fit.bars", lambda **_: Watch(title, at))  # noqa: B023
            assert tailora(*words).code == 130
        if title == "adapting to labels":  # a line that was cut short is written again
            path = tmp_path / "run" / "stages" / "lora" / "history.jsonl"
            assert steps(path) == EVERY_STEP[:STEPS_AN_EPOCH]
            path.write_bytes(path.read_bytes() + b'{"stage": "lora", "epoch": 2, "st')
    succeed(*words)
    rows, straight = (lines(run / "history.jsonl") for run in (tmp_path / "run", finished))
    clock = ("seconds", "images_per_second")
    assert [{k: v for k, v in row.items() if k not in clock} for row in rows] == [
        {k: v for k, v in row.items() if k not in clock} for row in straight
    ]
    for name, _ in WHAT_IS_TRAINED:
        seconds = [row["seconds"] for row in rows if row["stage"] == name]
        assert seconds == sorted(seconds)
    assert_same_result(tmp_path / "run", finished)
    images = [(run / IMAGE_HISTORY).read_bytes() for run in (tmp_path / "run", finished)]
    assert images[0] == images[1]


# --- what training saw of each image ---


def test_every_training_image_has_what_training_saw_of_it(finished, data):
    opened = package.open_dataset(data)
    train = opened.indices("train")
    found = package.load_run(finished).image_history
    assert [one.id for one in found] == [opened.ids()[row] for row in train]
    assert [one.label for one in found] == [opened.classes[c] for c in opened.labels[train]]
    assert {one.looks for one in found} == {2}  # epochs
    for one in found:
        assert 0 < one.confidence < 1
        assert one.variability <= 0.5
        assert one.el2n <= 2**0.5
        assert one.forgotten <= one.learnt
    # of the head that learns, from the logits of the looks: the loss of an epoch is their mean
    table = found.to_frame()
    assert table["el2n"].corr(table["confidence"]) < -0.9


def test_gradients_of_images_are_taken_without_changing_what_is_learnt(
    finished, data, quick, tmp_path, monkeypatch, plain_report
):
    words = ["fit", data, "--out", tmp_path / "run", *quick, "--method", "lora", "--resume"]
    words += ["--set", "train.vog=true"]
    with monkeypatch.context() as patch:
        patch.setattr("tailora.cli.fit.bars", lambda **_: Watch("adapting to labels", 8))
        assert tailora(*words).code == 130
    succeed(*words)
    found = package.load_run(tmp_path / "run").image_history
    plain = package.load_run(finished).image_history
    assert [replace(one, vog=None) for one in found] == list(plain)  # also by the interruption
    assert {one.vog for one in plain} == {None}
    assert all(one.vog > 0 for one in found)
    succeed("curate", data, "--run", tmp_path / "run", "--out", "cur", "--folds", 3)
    with (tmp_path / "cur" / "images.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["training_vog"]]
    assert len(rows) == len(found)
    within = [float(row["training_vog_z"]) for row in rows if row["training_vog_z"]]
    assert len(within) > 60  # all but those of the smallest classes
    assert sum(within) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--method", "lora+ride"), "train.vog follows the linear head"),
        (("--method", "lora", "--set", "train.objective=rotation"), "train.vog follows"),
        (("--method", "lora", "--set", "train.loss=ldam"), "train.vog follows"),
    ],
)
def test_gradients_are_refused_where_no_head_is_trained_with_the_encoder(
    given, said, data, quick, tmp_path
):
    asked = tailora("fit", data, "--out", tmp_path / "x", *quick, "--set", "train.vog=true", *given)
    refused(asked, said)


@pytest.mark.parametrize("damage", ["{", "[]", '{"id": "a"}', "\xff"])
def test_a_damaged_history_of_images_is_named(finished, tmp_path, damage):
    run = copy_run(finished, tmp_path / "run")
    (run / IMAGE_HISTORY).write_text(damage, "latin-1")
    with pytest.raises(package.errors.RunError, match=r"image-history\.jsonl' is damaged"):
        _ = package.load_run(run).image_history


# --- a loss that is not finite ---


class Diverging:
    """A loss of cross-entropy's place that is not finite once a number of steps were made."""

    def __init__(self, monkeypatch, after):
        from tailora.losses import CrossEntropyLoss

        terms, calls = CrossEntropyLoss.terms, []

        def spoilt(loss, logits, targets):
            losses, weights = terms(loss, logits, targets)
            calls.append(loss.training and logits.requires_grad and len(logits) <= 16)
            return losses * (float("nan") if sum(calls) > after else 1.0), weights

        monkeypatch.setattr(CrossEntropyLoss, "terms", spoilt)


def diverge(words, monkeypatch, after):
    with monkeypatch.context() as patch:
        Diverging(patch, after)
        return tailora(*words)


def test_a_loss_that_is_not_finite_stops_and_a_lower_rate_goes_on_from_the_last_epoch(
    data, quick, tmp_path, monkeypatch, plain_report
):
    run = tmp_path / "run"
    words = ["fit", data, "--out", run, *quick, "--method", "lora", "--set", "train.lr=0.01"]
    refused(
        diverge(words, monkeypatch, STEPS_AN_EPOCH + 2),
        "lora: the loss is nan in epoch 2, step 8 (images ",
        ".png and 13 more); lower train.lr, which is 0.01, and add --resume to continue from the "
        "end of epoch 1, kept in ",
        str(run / "stages" / "lora" / "checkpoint.pt"),
    )
    stage = run / "stages" / "lora"
    assert sorted(p.name for p in stage.iterdir()) == ["checkpoint.pt", "history.jsonl"]
    assert steps(stage / "history.jsonl") == EVERY_STEP[:7]  # all that were good
    refused(tailora(*words, "--resume", "--set", "train.lr=0.1"), "different recipe", "train.lr")
    refused(tailora(*words, "--resume", "--set", "train.weight_decay=0.5"), "train.weight_decay")
    succeed(*words, "--resume", "--set", "train.lr=0.002")
    rows = lines(run / "history.jsonl")
    assert [(row["stage"], row["step"]) for row in rows] == EVERY_STEP[:10]
    assert max(row["lr"] for row in rows[:5]) == 0.01
    assert 0 < max(row["lr"] for row in rows[5:]) < 0.002
    assert package.load_run(run).recipe.train.lr == 0.002
    refused(tailora(*words, "--resume", "--set", "train.lr=0.001"), "train.lr was 0.002")


def test_in_its_first_epoch_it_begins_the_stage_anew(data, quick, tmp_path, monkeypatch):
    words = ["fit", data, "--out", tmp_path / "run", *quick, "--method", "lora"]
    refused(
        diverge(words, monkeypatch, 0),
        "lora: the loss is nan in epoch 1, step 1",
        "and add --resume to continue from the beginning of this stage",
    )
    assert not (tmp_path / "run" / "stages" / "lora" / "checkpoint.pt").exists()


def test_no_rate_can_be_lowered_once_its_stage_is_done(finished, data, quick, tmp_path):
    run = copy_run(finished, tmp_path / "run")
    lower = ("fit", data, "--out", run, *quick, *DEBLORA, "--resume", "--set")
    refused(tailora(*lower, "train.lr=1e-5"), "train.lr was 0.001, now 1e-05")
    shutil.rmtree(run / "stages")  # that it is done can still be seen
    refused(tailora(*lower, "deblora.lr=1e-5"), "deblora.lr was 0.0003, now 1e-05")


# --- the report ---


def test_the_report_shows_how_training_went(finished, tmp_path):
    run = copy_run(finished, tmp_path / "run")
    page = write_report(run).read_text("utf-8")
    assert "<h2" in page
    assert "Training curves" in page
    assert "Loss and learning rate over training steps, for LoRA, debLoRA." in page
    rows = lines(run / "history.jsonl")
    lora = [row["loss"] for row in rows if row["stage"] == "lora"]
    assert f"from {lora[0]:.4g} to {lora[-1]:.4g} in 10 steps" in page


def test_a_run_of_version_0_1_says_that_it_kept_no_history(finished, tmp_path):
    run = copy_run(finished, tmp_path / "run")
    (run / "history.jsonl").unlink()
    shutil.rmtree(run / "stages")
    page = write_report(run).read_text("utf-8")
    assert "Not shown: the run is from an earlier version without training history" in page
    assert len(package.load_run(run).history) == 0
    assert list(package.load_run(run).history.to_frame().columns) == KEYS[:-1]


@pytest.mark.parametrize("damage", ["{", "[]", '{"stage": "lora"}', '{"step": NaN}', "\xff"])
def test_a_damaged_history_is_named(finished, tmp_path, damage):
    run = copy_run(finished, tmp_path / "run")
    (run / "history.jsonl").write_text(damage, "latin-1")
    reseal(run)
    refused(tailora("report", run), "history.jsonl", "damaged")
    with pytest.raises(package.errors.RunError, match=r"history\.jsonl' is damaged"):
        _ = package.load_run(run).history


# --- options chosen on validation ---


def test_a_trial_that_diverges_is_told_and_the_others_count(
    data, quick, tmp_path, monkeypatch, plain_page
):
    pytest.importorskip("optuna")
    out = tmp_path / "out"
    words = ["compare", data, "--out", out, *quick, "--methods", "lora", "--seeds", "1",
             "--tune", "train.lr=0.002,0.003", "--trials", "2"]  # fmt: skip
    answer = diverge(words, monkeypatch, 2 * STEPS_AN_EPOCH)  # all but the first trial's steps
    assert answer.code == 0, answer.err
    [row] = read_json(out / "comparison.json")["tuning"]["rows"]
    assert row["chosen"] == 0
    [good, bad] = row["trials"]
    assert good["value"] is not None
    assert bad["value"] is None
    assert "lora: the loss is nan in epoch 1, step 1" in bad["reason"]
