"""Objectives, mixes, optimisers, experts and phases of stage 0, through the command line."""

import json
import tomllib
from contextlib import contextmanager

import pytest
import torch

from tests.end_to_end.chips import assert_same_result, metrics, succeed, tailora

pytestmark = pytest.mark.usefixtures("plain_report")

ROWS = {
    "supcon": ("lora", ["train.objective=supcon"]),
    "sbcl": ("lora", ["train.objective=sbcl", "train.objective_options={minimum=4}"]),
    "paco": ("lora", ["train.objective=paco",
                      "train.objective_options={queue=32, prototypes=2}"]),
    "rotation": ("lora", ["train.objective=rotation"]),
    "adamw": ("lora", ["train.optimizer=adamw"]),
    "cmo": ("lora", ["train.mix=cmo", "train.mix_off=0"]),
    "ldam-drw": ("lora", ["train.loss=ldam", "train.deferred=0.5"]),
    "buda": ("lora", ["train.sampler=oversampling", "train.deferred=0.5",
                      "train.deferred_sampler=none"]),
    "ride": ("lora+ride", []),
    "ema": ("lora", ["train.ema=0.9"]),
    "soup": ("lora", ["train.soup=2"]),
    "lt-soup": ("lora", ["train.soup=2", "train.soup_ratios=[1.0, 2.0]"]),
    "wise-ft": ("lora", ["train.interpolation=0.5"]),
    "nadir": ("lora", ["train.augment=nadir", "train.augment_options={strength=0.8}"]),
}  # fmt: skip


def words(row):
    method, settings = ROWS[row]
    return ["--method", method, *(word for one in settings for word in ("--set", one))]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data, quick):
    """A finished run of each row; nobody may change it."""
    made = {}

    def run(row):
        if row not in made:
            made[row] = tmp_path_factory.mktemp(row) / "run"
            succeed("fit", data, "--out", made[row], *quick, *words(row))
        return made[row]

    return run


def adapter(run):
    return (run / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize("row", ROWS)
def test_every_choice_makes_a_run_of_its_own(row, runs, finished):
    run = runs(row)
    rows = metrics(run)["methods"]
    assert {found["method"] for found in rows} == {ROWS[row][0]}
    assert [found["head"] for found in rows][-1] == "logit-adjusted"
    plain = finished / "stages" / "lora" / "adapter" / "adapter_model.safetensors"
    assert adapter(run) != plain.read_bytes()
    recipe = tomllib.loads((run / "recipe.toml").read_text("utf-8"))["train"]
    for setting in ROWS[row][1]:
        key, _, value = setting.removeprefix("train.").partition("=")
        assert key in recipe
        assert str(recipe[key]) == value or "{" in value


def test_no_head_queue_or_slow_encoder_is_left_in_a_run(runs):
    run = runs("paco")
    assert not [*run.rglob("checkpoint.pt"), *runs("soup").rglob("checkpoint.pt")]
    names = {path.name for path in (run / "stages" / "lora").rglob("*.safetensors")}
    assert names == {"adapter_model.safetensors", "head.safetensors"}


def test_each_training_of_an_lt_soup_sees_a_part_of_the_training_set(runs):
    stage = runs("lt-soup") / "stages" / "lora"
    recipe = tomllib.loads((runs("lt-soup") / "recipe.toml").read_text("utf-8"))["train"]
    classes = json.loads((runs("lt-soup") / "classes.json").read_text("utf-8"))["classes"]
    sizes = [entry["n_train"] for entry in classes]
    for ratio, folder in ((1, stage), (2, stage / "training-2")):
        rows = sum(min(size, ratio * min(sizes)) for size in sizes)
        assert rows < sum(sizes)
        steps = recipe["epochs"] * -(-rows // recipe["batch_size"])
        assert len((folder / "history.jsonl").read_text("utf-8").splitlines()) == steps


def test_the_spectrum_of_the_adapter_stands_in_its_stage_and_in_the_record(runs):
    found = {}
    for row in ("adamw", "nadir"):
        content = json.loads((runs(row) / "stages" / "lora" / "spectrum.json").read_text("utf-8"))
        record = json.loads((runs(row) / "run.json").read_text("utf-8"))
        assert record["spectrum"] == pytest.approx(content["mean"])
        assert len(content["layers"]) >= 2
        found[row] = content["mean"]["entropy"]
    assert found["nadir"] > found["adamw"]  # what Muon, the default, is for


class Stop:
    """Progress that presses Ctrl-C at one step of one bar."""

    def __init__(self, title, at):
        self.title, self.at, self.done = title, at, 0

    @contextmanager
    def __call__(self, title, _total):
        def advance(_count):
            if title == self.title:
                self.done += 1
                if self.done == self.at:
                    raise KeyboardInterrupt

        yield advance


@pytest.mark.parametrize(
    ("row", "title"),
    [
        ("paco", "adapting by comparing views"),
        ("sbcl", "adapting by comparing views"),
        ("nadir", "adapting to labels"),
        ("cmo", "adapting to labels"),
        ("ride", "adapting to labels"),
        ("ema", "adapting to labels"),
        ("soup", "adapting to labels (2 of 2)"),
    ],
)
def test_a_run_interrupted_in_its_second_epoch_ends_the_same(
    row, title, runs, data, quick, tmp_path, monkeypatch
):
    fit = ["fit", data, "--out", tmp_path / "run", *quick, *words(row)]
    with monkeypatch.context() as patch:
        patch.setattr("tailora.cli.fit.bars", lambda **_: Stop(title, 7))
        assert tailora(*fit).code == 130
    newest = max((tmp_path / "run").rglob("checkpoint.pt"), key=lambda path: path.stat().st_mtime)
    state = torch.load(newest, weights_only=True)
    assert state["epochs_done"] == 1
    succeed(*fit, "--resume")
    assert_same_result(tmp_path / "run", runs(row))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["train.objective=supcn"], ["did you mean 'supcon'"]),
        (["train.objective=supcon", "train.augment=none"], ["two augmented views"]),
        (["train.optimizer=muno"], ["did you mean 'muon'"]),
        (["train.mix=cmo"], ["first 1 and the last 1 of 2 epochs"]),
        (["train.deferred=0.5"], ["no re-weighted version"]),
        (["train.ema=1"], ["train.ema must lie in (0, 1), got 1"]),
        (["train.soup=0"], ["train.soup must be at least 1, got 0"]),
        (["train.soup_ratios=[1, 2]"], ["got 2 for 1; set train.soup=2"]),
        (["train.interpolation=0"], ["train.interpolation must lie in (0, 1], got 0"]),
        (["train.interpolation=0.5", "adapter.tuner=dora"], ["adapter.tuner='dora' does not"]),
        (["train.soup=2", "adapter.tuner=adalora"], ["does not suit adalora"]),
    ],
)
def test_what_cannot_work_is_refused_and_nothing_written(
    settings, says, data, quick, tmp_path, refuse
):
    sets = [word for one in settings for word in ("--set", one)]
    refuse("fit", data, "--out", tmp_path / "run", *quick, *sets, says=says)


def test_muon_is_refused_where_the_tuner_trains_no_matrix(data, quick, tmp_path, refuse):
    without_rank = [w for i, w in enumerate(quick) if "--rank" not in (w, quick[i - 1])]
    refuse(
        "fit", data, "--out", tmp_path / "run", *without_rank, "--tuner", "ln_tuning",
        "--set", "train.optimizer=muon", says=["moves matrices", "train.optimizer=adamw"],
    )  # fmt: skip


def test_expert_rows_are_compared_and_categories_have_seconds_of_their_own(data, quick, tmp_path):
    out = tmp_path / "out"
    methods = "lora,lora+sade,lora+tlc,clora,clora-oracle"
    succeed("compare", data, "--out", out, *quick, "--methods", methods, "--seeds", 1,
            "--probes", "cross-entropy")  # fmt: skip
    rows = {
        row["adapter"]: row for row in json.loads((out / "comparison.json").read_text())["rows"]
    }
    assert list(rows) == methods.split(",")
    for adapter in rows:
        place = out / "results" / adapter / "cross-entropy" / "seed-0" / "row.json"
        facts = json.loads(place.read_text("utf-8"))
        assert 0 < facts["own_seconds"] <= facts["seconds"]
        stage = adapter.removesuffix("-oracle")
        spent = [
            entry["seconds"]
            for path in (out / "stages").glob(f"{stage}-*/**/costs.json")
            for entry in json.loads(path.read_text("utf-8"))
        ]
        assert facts["own_seconds"] == pytest.approx(sum(spent), rel=0.5)
