"""`train.patience` from the command line: what is kept, told, resumed and refused."""

import json

import pytest

import tailora as package
from tailora.report import write_report
from tests.end_to_end.chips import assert_same_result, refused, succeed, tailora, write_chips
from tests.end_to_end.test_resume import STEPS_AN_EPOCH, Watch

PATIENT = ("--method", "lora", "--epochs", "6", "--set", "train.patience=1")


def validated(run):
    lines = (run / "history.jsonl").read_text("utf-8").splitlines()
    return [line for line in map(json.loads, lines) if "measure" in line]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, data, quick):
    """A run whose rate is so high that it soon gets no better."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    succeed("fit", data, "--out", run, *quick, *PATIENT, "--set", "train.lr=0.05")
    return run


def test_a_run_stops_early_and_its_report_says_so(stopped):
    lines = validated(stopped)
    last, values = lines[-1], [line["value"] for line in lines]
    assert [line["epoch"] for line in lines] == list(range(1, last["epoch"] + 1))
    assert last["epoch"] < 6
    assert last["best_epoch"] == 1 + values.index(max(values)) == last["epoch"] - 1
    assert {line["measure"] for line in lines} == {"macro_f1"}
    history = package.load_run(stopped).history
    assert [vars(row) for row in history.epochs] == lines
    assert len(history) == STEPS_AN_EPOCH * last["epoch"]
    page = (stopped / "report.html").read_text("utf-8")
    stop, best = last["epoch"], last["best_epoch"]
    assert f"LoRA stopped after epoch {stop} of 6; best epoch {best} (macro-F1 " in page


def test_the_weights_are_those_of_a_run_that_ends_with_the_best_epoch(
    data, quick, tmp_path, plain_report
):
    """Under a rate that does not fall: a run of fewer epochs is then the beginning of a longer."""
    from safetensors.torch import load_file

    adapter = "stages/lora/adapter/adapter_model.safetensors"
    words = ("fit", data, *quick, "--set", "train.lr=0.05", "--method", "lora")
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tailora.train.schedule.Schedule.factor", lambda *_: 1.0)
        succeed(*words, "--out", run, "--epochs", "6", "--set", "train.patience=1")
        best = validated(run)[-1]["best_epoch"]
        succeed(*words, "--out", tmp_path / "short", "--epochs", best)
    expected = load_file(tmp_path / "short" / adapter)
    for name, tensor in load_file(run / adapter).items():
        assert (tensor == expected[name]).all(), name


def test_an_interrupted_run_stops_where_an_uninterrupted_one_does(
    stopped, data, quick, tmp_path, monkeypatch, plain_report
):
    words = ["fit", data, "--out", tmp_path / "run", *quick, *PATIENT, "--set", "train.lr=0.05"]
    with monkeypatch.context() as patch:
        at = STEPS_AN_EPOCH + 2
        patch.setattr("tailora.cli.fit.bars", lambda **_quiet: Watch("adapting to labels", at))
        assert tailora(*words).code == 130
    succeed(*words, "--resume")
    assert_same_result(tmp_path / "run", stopped)
    own, straight = validated(tmp_path / "run"), validated(stopped)
    for line in (*own, *straight):
        del line["seconds"]
    assert own == straight


@pytest.mark.parametrize(
    ("options", "measure"),
    [
        (["train.objective=masked"], "loss"),
        (["train.objective=rotation"], "loss"),
        (["train.objective=sbcl", "train.objective_options={minimum=5}"], "loss"),
        (["train.objective=paco"], "macro_f1"),
        (["method=lora+tlc"], "macro_f1"),
    ],
)
def test_every_objective_is_validated(options, measure, data, quick, tmp_path, plain_report):
    run = tmp_path / "run"
    sets = [word for option in options for word in ("--set", option)]
    succeed(
        "fit", data, "--out", run, *quick, "--set", "method=lora", "--set", "train.patience=5",
        "--set", "evaluate.label_value=false", *sets,
    )  # fmt: skip
    lines = validated(run)
    assert [line["epoch"] for line in lines] == [1, 2]
    assert {line["measure"] for line in lines} == {measure}
    better = max if measure == "macro_f1" else min
    assert lines[1]["value"] != lines[0]["value"] or measure == "macro_f1"
    values = [line["value"] for line in lines]
    assert lines[1]["best_epoch"] == 1 + values.index(better(values))


def test_parts_of_a_loss_are_drawn(data, quick, tmp_path):
    run = tmp_path / "run"
    succeed("fit", data, "--out", run, *quick, "--method", "lora+tlc")
    rows = [row for row in package.load_run(run).history if row.stage == "lora+tlc"]
    for row in rows:
        assert set(row.parts) == {"classification", "evidence", "diversity"}
        assert sum(row.parts.values()) == pytest.approx(row.loss, rel=1e-4)
    page = write_report(run).read_text("utf-8")
    assert "Dashed lines are the terms of a composite loss." in page


def test_without_validation_it_is_refused(encoder, tmp_path, refuse):
    few = write_chips(tmp_path / "few", {"a": 2, "b": 2})
    refuse(
        "fit", few, "--out", tmp_path / "run", "--backbone", encoder, "--image-size", 14,
        "--set", "train.patience=2", "--set", "probe.l2=[0.1]", "--method", "lora",
        says=["train.patience=2 needs a validation split, and there is none"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("-1", "train.patience must be at least 0, got -1; 0 switches early stopping off"),
        ("1.5", "train.patience must be int"),
        ("true", "train.patience must be int"),
        ("1000000", "train.patience must lie in [0, 100,000]"),
    ],
)
def test_nonsense_is_refused(value, says, data, quick, tmp_path, refuse):
    words = ("fit", data, "--out", tmp_path / "run", *quick)
    refuse(*words, "--set", f"train.patience={value}", says=(says,))


def test_adapters_of_single_categories_do_not_stop_early(data, quick, tmp_path):
    words = ("compare", data, "--methods", "clora", "--seeds", "1", "--out", tmp_path / "out")
    answer = tailora(*words, *quick, "--set", "train.patience=1")
    refused(answer, "train.patience=1 has no effect for clora")
