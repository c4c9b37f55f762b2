"""debLoRA in rounds, pulls by validation and samplers, through the command line."""

import json
import tomllib

import numpy as np
import pytest

from tailora.runs.weights import load_adapted
from tests.end_to_end.chips import DEBLORA, assert_same_result, succeed, tailora, write_chips

pytestmark = pytest.mark.usefixtures("plain_report")

TWICE = (
    *DEBLORA,
    "--set", "deblora.rounds=2", "--set", "deblora.calibrate=all", "--set", "deblora.epochs=2",
)  # fmt: skip


class Bars:
    """Progress that presses Ctrl-C at a step of the n-th bar of a title."""

    def __init__(self, title=None, bar=0, at=0):
        self.stop, self.titles = (title, bar, at), []

    def __call__(self, title, _total):
        self.titles.append(title)
        self.steps = 0
        return self

    def __enter__(self):
        def advance(_done):
            self.steps += 1
            title = self.titles[-1]
            if (title, self.titles.count(title), self.steps) == self.stop:
                raise KeyboardInterrupt

        return advance

    def __exit__(self, *_):
        pass


def bank(run, stage, split="train"):
    return np.load(next((run / "stages" / stage / f"features-{split}").glob("*.npy")))


@pytest.fixture(scope="module")
def twice(tmp_path_factory, data, quick):
    """A finished run of two rounds whose pulls were chosen by validation."""
    run = tmp_path_factory.mktemp("twice") / "run"
    succeed("fit", data, "--out", run, *quick, *TWICE, "--set", "deblora.pull=validation")
    return run


@pytest.fixture(scope="module")
def moved_twice(tmp_path_factory, data, quick):
    run = tmp_path_factory.mktemp("moved") / "run"
    succeed("fit", data, "--out", run, *quick, *TWICE, "--set", "deblora.pull=0.5")
    return run


def test_each_round_but_the_last_has_an_adapter_and_features_of_its_own(twice):
    stages = twice / "stages"
    assert (stages / "deblora" / "round-1" / "adapter" / "adapter_model.safetensors").is_file()
    assert not (stages / "deblora" / "round-2").exists()
    assert not list(stages.rglob("checkpoint.pt"))
    assert bank(twice, "deblora/round-1").shape == bank(twice, "deblora").shape


def test_each_round_starts_from_the_adapter_of_the_round_before(data, quick, tmp_path, monkeypatch):
    starts = []

    def watching(encoder, folder, *, trainable=False):
        if trainable:
            starts.append(folder.relative_to(tmp_path / "run" / "stages").as_posix())
        return load_adapted(encoder, folder, trainable=trainable)

    monkeypatch.setattr("tailora.methods.deblora.method.load_adapted", watching)
    settings = ("--set", "deblora.rounds=3", "--set", "deblora.pull=0.5")
    succeed("fit", data, "--out", tmp_path / "run", *quick, *DEBLORA, *settings)
    assert starts == ["lora", "deblora/round-1", "deblora/round-2"]


def test_pulls_are_chosen_once_a_round_and_read_back_for_the_report(
    data, quick, tmp_path, monkeypatch
):
    """Another machine may choose otherwise by a rounding: the report must show what was learnt."""
    asked = []

    def choosing(found, *_, counts, **__):
        asked.append(len(asked))
        return [0.5] * len(counts.names)

    monkeypatch.setattr("tailora.methods.deblora.stages.choose_pull", choosing)
    words = (*quick, *TWICE, "--set", "deblora.pull=validation", "--set", "deblora.head=targets")
    succeed("fit", data, "--out", tmp_path / "run", *words)
    assert asked == [0, 1]
    with np.load(tmp_path / "run" / "report.npz") as arrays:
        assert arrays["keep"].tolist() == [0.5] * 5


def test_chosen_pulls_stand_in_the_folder_of_their_round(twice):
    for stage in ("deblora/round-1", "deblora"):
        pulls = json.loads((twice / "stages" / stage / "pulls.json").read_text("utf-8"))
        assert len(pulls) == 5
        assert set(pulls) <= {0, 0.25, 0.5, 0.75, 1}


def test_rounds_interrupted_and_resumed_end_as_if_they_had_not_been(
    data, quick, tmp_path, monkeypatch, moved_twice
):
    words = ["fit", data, "--out", tmp_path / "run", *quick, *TWICE, "--set", "deblora.pull=0.5",
             "--resume"]  # fmt: skip
    moving, done = "learning the moved features", set()
    for bar, at, now_done in (
        (1, 3, ["adapting to labels"]),  # of the first round
        (1, 7, []),
        (2, 7, ["deblora/round-1: train features"]),
        (0, 0, []),
    ):
        bars = Bars(moving, bar, at)
        monkeypatch.setattr("tailora.cli.fit.bars", lambda **_: bars)  # noqa: B023
        assert tailora(*words).code == (130 if bar else 0)
        assert not done & set(bars.titles)
        assert bars.titles.count(moving) == (bar or 1)
        done |= set(now_done)
    assert_same_result(tmp_path / "run", moved_twice)


def test_the_map_of_the_report_shows_what_the_last_round_moved(moved_twice):
    with np.load(moved_twice / "report.npz") as arrays:
        before, after = arrays["map_before"], arrays["map_after"]
    assert before.shape == after.shape
    assert not np.allclose(before, after)


# --- samplers ---


@pytest.mark.parametrize(
    ("method", "sampler", "options"),
    [
        ("lora", "class-balanced", {}),
        ("lora", "progressive", {}),
        ("lora", "m-per-class", {"m": 4}),
        ("lora+reslt", "oversampling", {"ratio": 0.5}),
        ("fine-tune", "stratified", {}),
    ],
)
def test_a_sampler_runs_by_name_and_stands_in_the_recipe(
    method, sampler, options, data, quick, tmp_path
):
    text = "{" + ", ".join(f"{key} = {value}" for key, value in options.items()) + "}"
    lr = ("--set", "train.lr=0.001")
    succeed(
        "fit", data, "--out", tmp_path / "run", *quick, *lr, "--method", method,
        "--set", f"train.sampler={sampler}", "--set", f"train.sampler_options={text}",
    )  # fmt: skip
    recipe = tomllib.loads((tmp_path / "run" / "recipe.toml").read_text("utf-8"))
    assert recipe["train"]["sampler"] == sampler
    assert recipe["train"]["sampler_options"] == options


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["train.sampler=clas-balanced"], ["unknown sampler", "did you mean 'class-balanced'"]),
        (
            ["train.sampler=oversampling", "train.sampler_options={ration=1}"],
            ["no option 'ration'"],
        ),
        (["train.sampler_options={m=1}"], ["need a train.sampler"]),
        (
            ["train.sampler=m-per-class", "train.sampler_options={m=2}"],
            ["needs 8 classes, got 5", "increase m or lower the batch size"],
        ),
        (["deblora.move=shft"], ["unknown deblora.move", "did you mean 'shift'"]),
        (["deblora.pull=0.0", "deblora.move=shift"], ["has no effect where no class moves"]),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    settings, says, data, quick, tmp_path, refuse
):
    words = [word for setting in settings for word in ("--set", setting)]
    refuse("fit", data, "--out", tmp_path / "run", *quick, *words, says=says)


def test_without_a_validation_split_no_pull_can_be_chosen_by_it(tmp_path, quick, refuse):
    few = write_chips(tmp_path / "few", {"a": 2, "b": 2, "c": 2})
    refuse(
        "fit", few, "--out", tmp_path / "run", *quick, *DEBLORA, "--clusters", "2",
        "--set", "deblora.pull=validation", "--set", "probe.l2=[0.1]",
        says=["deblora.pull='validation' needs validation samples"],
    )  # fmt: skip
