"""A task with masks, end to end: what is no image, and no class index, goes through every verb."""

import csv
import json

import numpy as np
import pytest
from sklearn.metrics import f1_score

import tailora as package
from tailora import registry
from tailora.storage import read_json
from tests.end_to_end.chips import DEBLORA, QUICK, succeed, tailora
from tests.toy_mask_task import CLASSES, Masks, ToyMask, majority, write_mask_data

OPTIONS = ("--task", "toy-mask", "--image-size", "28", "--quiet", "--rank", "2", "--epochs", "3",
           "--clusters", "4", "--set", "evaluate.replicates=40", "--set", "train.batch_size=8",
           "--set", "probe.l2=[0.01]")  # fmt: skip


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTERED", {})
    package.register("tasks", "toy-mask", ToyMask)


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    return write_mask_data(tmp_path_factory.mktemp("masks") / "land")


@pytest.fixture(scope="module")
def run(tmp_path_factory, masks, encoder):
    """A finished debLoRA run of the task."""
    folder = tmp_path_factory.mktemp("runs") / "masks"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_REGISTERED", {})
        package.register("tasks", "toy-mask", ToyMask)
        succeed("fit", masks, "--out", folder, "--backbone", encoder, *OPTIONS, *DEBLORA)
    return folder


def predictions(run):
    with (run / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def cells_of(masks, names):
    """Class of every labelled cell by hand, from the mask files of some images."""
    found = {}
    for name in names:
        mask = Masks([masks / "masks" / name]).read(0)
        for (row, column), c in np.ndenumerate(majority(mask, (4, 4))):
            if c >= 0:
                found[f"{name}#{row},{column}"] = CLASSES[c]
    return found


def test_every_labelled_cell_of_the_test_images_is_one_row(run, masks):
    rows = predictions(run)
    images = {row["path"].partition("#")[0] for row in rows}
    assert {row["path"]: row["label"] for row in rows} == cells_of(masks, images)
    assert len(rows) == 15 * len(images)  # of 16 cells one has no label
    facts = read_json(run / "run.json")["dataset"]
    assert facts["n_test"] == len(images)
    assert facts["n_train"] + facts["n_val"] + facts["n_test"] == 26


def test_classes_are_counted_in_decisions_and_resampled_by_image(run):
    metrics = read_json(run / "metrics.json")
    last = metrics["methods"][-1]
    labels = [row["label"] for row in predictions(run)]
    assert [row["n_test"] for row in last["per_class"]] == [labels.count(name) for name in CLASSES]
    rows = [(m["method"], m["head"]) for m in metrics["methods"]]
    assert rows == [
        ("lora", "own"),
        *((name, "logit-adjusted") for name in ("zero-shot", "lora", "deblora")),
    ]
    assert metrics["bootstrap"]["unit"] == "group"
    expected = f1_score(labels, [row["class"] for row in predictions(run)], average="macro")
    assert last["macro_f1"]["all"] == pytest.approx(expected)
    assert last["macro_f1"]["all"] > 0.6  # colours tell classes apart


def test_the_task_adds_its_metrics_and_its_section(run):
    rows = predictions(run)
    for name, value in read_json(run / "metrics.json")["task"]["iou"].items():
        both = sum(row["label"] == row["class"] == name for row in rows)
        either = sum(name in (row["label"], row["class"]) for row in rows)
        assert value == pytest.approx(both / either)
    shown = (run / "report.html").read_text("utf-8")
    assert "Overlap of each class" in shown
    assert "Intersection over union: field" in shown
    again = run.parent / "again.html"
    succeed("report", run, "--out", again, "--quiet")
    assert again.read_bytes() == (run / "report.html").read_bytes()
    assert 'task = "toy-mask"' in (run / "recipe.toml").read_text("utf-8")


def test_evaluating_the_run_gives_what_was_measured_but_for_half_precision(run, masks):
    found = json.loads(succeed("evaluate", run, masks, "--json", "--quiet").out)
    own, kept = found["methods"][0], read_json(run / "metrics.json")["methods"][-1]
    assert [r["n_test"] for r in own["per_class"]] == [r["n_test"] for r in kept["per_class"]]
    assert own["macro_f1"]["all"] == pytest.approx(kept["macro_f1"]["all"], abs=0.02)
    assert found["task"]["iou"].keys() == set(CLASSES)


def test_other_masks_are_measured_all(run, tmp_path):
    other = write_mask_data(tmp_path / "other", images=5, unlabelled=1, seed=7)
    found = json.loads(succeed("evaluate", run, other, "--json", "--quiet").out)
    names = [path.name for path in (other / "masks").iterdir()]
    labels = list(cells_of(other, names).values())
    support = [row["n_test"] for row in found["methods"][0]["per_class"]]
    assert support == [labels.count(name) for name in CLASSES]


def steps(run, stage):
    with (run / "history.jsonl").open(encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    return [line for line in lines if line["stage"] == stage]


def test_unlabelled_images_are_seen_by_what_learns_without_labels(run, masks, encoder, tmp_path):
    facts = read_json(run / "run.json")["dataset"]
    labelled = -(-(facts["n_train"] - 4) // 8)  # four images have no mask; batches of eight
    assert len(steps(run, "lora")) == 3 * labelled
    succeed("fit", masks, "--out", tmp_path / "run", "--backbone", encoder, *OPTIONS, "--method",
            "lora", "--set", "train.objective=masked")  # fmt: skip
    assert len(steps(tmp_path / "run", "lora")) == 3 * -(-facts["n_train"] // 8)
    assert -(-facts["n_train"] // 8) > labelled


def test_methods_are_compared_on_the_same_decisions(masks, encoder, tmp_path):
    succeed("compare", masks, "--out", tmp_path / "sweep", "--backbone", encoder, *OPTIONS,
            "--set", "train.patience=2", "--methods", "zero-shot,lora+reslt",
            "--seeds", "1", "--probes", "logit-adjusted,ncm-cl2n")  # fmt: skip
    found = read_json(tmp_path / "sweep" / "comparison.json")
    assert len(found["rows"]) == 4


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--set", "train.mix=mixup"), "train.mix='mixup' needs one label per image"),
        (("--method", "lora", "--set", "train.objective=supcon"), "objective='supcon' needs one"),
        (("--task", "toy-masc"), "unknown task 'toy-masc'; did you mean 'toy-mask'"),
        (("--imbalance", "step:ratio=5"), "--imbalance thins images with one label each"),
    ],
)
def test_what_needs_one_label_for_each_image_is_refused(words, says, masks, encoder, refuse):
    refuse("fit", masks, "--backbone", encoder, *OPTIONS, *words, says=[says])


def test_a_task_and_data_that_do_not_fit_are_refused(masks, data, encoder, refuse, tmp_path):
    refuse("fit", data, "--backbone", encoder, *OPTIONS, says=["has no images/*.png; put images"])
    refuse("fit", masks, "--backbone", encoder, *QUICK, says=["look like images and their masks"])
    dataset = ToyMask().open(masks)
    with pytest.raises(package.errors.DataError, match="choose its task with --task"):
        package.fit(dataset, backbone=str(encoder), out=tmp_path / "run")


@pytest.mark.parametrize("verb", ["predict", "map"])
def test_verbs_for_whole_images_say_so(verb, run, masks, tmp_path):
    out = tmp_path / ("out.csv" if verb == "predict" else "out.tif")
    answer = tailora(verb, run, masks / "images", "--out", out)
    assert answer.code == 2
    assert f"{verb} needs a run that gives each image one class" in answer.err


def test_the_run_of_a_task_that_is_not_there_says_which(run, monkeypatch):
    monkeypatch.setattr(registry, "_REGISTERED", {})
    answer = tailora("report", run)
    assert answer.code == 2
    assert "unknown task 'toy-mask'" in answer.err
