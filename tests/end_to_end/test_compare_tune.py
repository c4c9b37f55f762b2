"""`tailora compare --tune`: options chosen on validation, the test looked at once, resumable."""

import json

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tailora.config.recipe import read_recipe
from tests.end_to_end.chips import metrics, succeed, write_chips

pytest.importorskip("optuna")

METHODS = ("--methods", "lora,deblora", "--seeds", 1, "--set", "deblora.epochs=2")
PULLS = ("--tune", "deblora.pull=0.1..0.9")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, data, quick):
    """debLoRA's pull chosen among three; nobody may change it."""
    out = tmp_path_factory.mktemp("tuned") / "out"
    succeed("compare", data, "--out", out, *quick, *METHODS, *PULLS, "--trials", 3)
    return out


def content(out):
    return json.loads((out / "comparison.json").read_text("utf-8"))


def only_row(out):
    [row] = content(out)["tuning"]["rows"]
    return row


def test_the_best_trial_becomes_the_row(tuned):
    row = only_row(tuned)
    values = [trial["value"] for trial in row["trials"]]
    assert [trial["number"] for trial in row["trials"]] == [0, 1, 2]
    assert row["chosen"] == int(np.argmax(values))  # the first of equals
    best = row["trials"][row["chosen"]]["values"]
    assert row["values"] == best
    shown = {entry["adapter"]: entry for entry in content(tuned)["rows"]}
    assert list(shown) == ["lora", row["adapter"]]
    assert shown[row["adapter"]]["tuned"] == best
    assert shown[row["adapter"]]["against"] == "lora"


def test_the_first_trial_is_the_recipes_own_and_the_others_lie_in_the_range(tuned):
    row = only_row(tuned)
    assert row["own"] == {"deblora.pull": "adaptive"}
    assert row["trials"][0]["values"] == {}
    pulls = [trial["values"]["deblora.pull"] for trial in row["trials"][1:]]
    assert all(0.1 <= pull <= 0.9 for pull in pulls)
    assert len(set(pulls)) == 2


def test_only_what_was_chosen_looked_at_the_test(tuned):
    row = only_row(tuned)
    assert len(list((tuned / "results").iterdir())) == 2
    assert len(list((tuned / "stages").glob("lora-*"))) == 1  # shared by all trials
    [kept] = (tuned / "stages").glob("deblora-*")  # what the others trained is gone
    assert (kept / "features-test").is_dir()
    assert len(row["trials"]) == 3


def test_a_trial_is_measured_as_the_row_is(tuned):
    row = only_row(tuned)
    [facts] = (tuned / "results").glob("deblora*/*/seed-0/row.json")
    validation = json.loads(facts.read_text("utf-8"))["validation"]
    assert row["trials"][row["chosen"]]["validation"] == validation
    assert row["trials"][row["chosen"]]["value"] == validation["all"]


def test_the_chosen_recipe_fits(tuned, data, tmp_path, plain_report):
    recipe = tuned / only_row(tuned)["recipe"]
    assert read_recipe(recipe)["method"] == "deblora"
    succeed("fit", data, "--recipe", recipe, "--out", tmp_path / "run", "--quiet")
    [place] = (tuned / "results").glob("deblora*/*/seed-0")
    with np.load(place / "predictions.npz") as arrays:
        expected = f1_score(arrays["targets"], arrays["predictions"], average="macro")
    last = metrics(tmp_path / "run")["methods"][-1]
    assert last["macro_f1"]["all"] == pytest.approx(expected)


def test_more_trials_go_on_with_the_study(tuned, data, quick):
    before = only_row(tuned)["trials"]
    succeed("compare", data, "--out", tuned, *quick, *METHODS, *PULLS, "--trials", 4, "--resume")
    after = only_row(tuned)["trials"]
    assert after[:3] == before
    assert len(after) == 4


def test_the_page_shows_every_trial(tuned):
    page = (tuned / "comparison.html").read_text("utf-8")
    assert "Options tuned on validation" in page
    for trial in only_row(tuned)["trials"][1:]:
        assert str(trial["values"]["deblora.pull"]) in page


def test_values_that_do_not_go_together_are_told(data, quick, tmp_path, plain_page):
    out = tmp_path / "out"
    succeed("compare", data, "--out", out, *quick, "--methods", "deblora", "--seeds", 1,
            "--set", "deblora.epochs=1", "--tune", "deblora.clusters=1,4", "--tune",
            "deblora.regression=squared,cosine", "--tune-by", "groups")  # fmt: skip
    trials = only_row(out)["trials"]
    assert len(trials) == 4  # of the 20 that there might be
    [refused] = [trial for trial in trials if trial["value"] is None]
    assert refused["values"] == {"deblora.clusters": 1, "deblora.regression": "cosine"}
    assert "one cluster shrinks" in refused["reason"]
    for trial in trials:
        if trial is not refused:
            groups = [trial["validation"][name] for name in ("head", "middle", "tail")]
            assert trial["value"] == pytest.approx(np.mean(groups))


BAD = {
    "an unknown key": (["--tune", "deblora.pul=0..1"], ["did you mean 'deblora.pull'"]),
    "an empty range": (["--tune", "deblora.pull=1..0"], ["empty range"]),
    "an end out of range": (["--tune", "deblora.pull=0..2"], ["pull", "2"]),
    "more clusters than samples": (["--tune", "deblora.clusters=2..5000"], ["5000"]),
    "a key that acts on no method": (
        ["--methods", "lora", "--tune", "deblora.pull=0..1"], ["acts on none of lora"],
    ),
    "a key that is varied too": (
        ["--vary", "deblora.pull=0,1", *PULLS], ["both varied and tuned"],
    ),
    "a key twice": ([*PULLS, *PULLS], ["tuned twice"]),
    "the measure itself": (["--tune", "evaluate.coverage=0.5..0.9"], ["how results are measured"]),
    "the seed": (["--tune", "seed=0..9"], ["lucky seed"]),
    "the method": (["--tune", "method=lora,deblora"], ["--methods"]),
    "what a probe chooses itself": (["--tune", "probe.loss=focal,ldam"], ["probe.l2"]),
    "several probes": (
        [*PULLS, "--probes", "focal,ncm-un"], ["under one probe", "focal, ncm-un"],
    ),
    "a probe that learns from the test": (
        [*PULLS, "--probes", "sade-test-time"], ["'sade-test-time'", "test images"],
    ),
    "a split a seed": ([*PULLS, "--resplit", "--seeds", 2], ["--resplit"]),
    "an unknown measure": ([*PULLS, "--tune-by", "tial"], ["did you mean 'tail'"]),
    "one trial": ([*PULLS, "--trials", 1], ["--trials"]),
    "trials of nothing": (["--trials", 5], ["--trials has no effect without --tune"]),
    "a measure of nothing": (["--tune-by", "tail"], ["--tune-by has no effect without --tune"]),
}  # fmt: skip


@pytest.mark.parametrize("row", BAD)
def test_what_cannot_be_chosen_is_refused_before_anything_is_written(row, refuse, data, quick):
    words, says = BAD[row]
    refuse("compare", data, "--out", "out", *quick, *words, says=says)


def test_without_validation_samples_nothing_is_chosen(refuse, quick, tmp_path):
    chips = write_chips(tmp_path / "chips", {"a": 2, "b": 2, "c": 2})
    few = ("--clusters", 2, "--set", "probe.l2=[0.1]")
    says = ["by validation samples", "none"]
    refuse("compare", chips, "--out", "out", *quick, *few, *PULLS, says=says)
