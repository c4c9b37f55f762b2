"""Segmentation of a scene with polygons through the command line: labels to a finished map."""

import json
import re

import numpy as np
import pytest
import rasterio
import shapely
from scipy import ndimage

from tailora.data.open import open_windows
from tailora.metrics.raters import mask_distance
from tailora.storage import read_json
from tailora.tasks.segmentation import Segmentation
from tests.data.scenes import CLASSES, box, fields_of, write_labels, write_scene
from tests.end_to_end.chips import succeed

SIDE = 160
COLOURS = np.array([[40, 70, 160], [70, 130, 50], [180, 150, 120], [90, 90, 90]])
QUICK = ("--task", "segment", "--method", "zero-shot", "--chip", "20", "--image-size", "28",
         "--probe", "logit-adjusted", "--quiet", "--set", "evaluate.replicates=40",
         "--set", "probe.l2=[0.01]")  # fmt: skip


def codes_of(side, seed=0):
    """Class of each pixel under the squares of `fields_of`, 3 between them."""
    codes = np.full((side, side), 3)
    names = iter(fields_of(side, seed=seed)[1])
    for row in range(0, side - 18, 20):
        for column in range(0, side - 18, 20):
            codes[row : row + 18, column : column + 18] = CLASSES.index(next(names))
    return codes


def write_fields(folder, *, side=SIDE, seed=0):
    """A scene whose colours tell the classes of its fields, and the fields."""
    noise = np.random.default_rng(seed).integers(-20, 20, (side, side, 3))
    pixels = (COLOURS[codes_of(side, seed)] + noise).astype(np.uint8)
    write_scene(folder / "scene.tif", np.moveaxis(pixels, -1, 0))
    write_labels(folder / "fields.gpkg", *fields_of(side, seed=seed))
    return folder


def labels_of(folder):
    return ("--labels", folder / "fields.gpkg", "--class-field", "landuse")


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    return write_fields(tmp_path_factory.mktemp("fields"))


@pytest.fixture(scope="module")
def run(tmp_path_factory, fields, encoder):
    folder = tmp_path_factory.mktemp("runs") / "fields"
    succeed("fit", fields / "scene.tif", *labels_of(fields), "--out", folder,
            "--backbone", encoder, *QUICK)  # fmt: skip
    return folder


def test_inspect_counts_pixels_and_objects(fields):
    words = ("inspect", fields / "scene.tif", *labels_of(fields), "--task", "segment")
    found = json.loads(succeed(*words, "--chip", "20", "--json").out)
    names = fields_of(SIDE)[1]
    for row in found["classes"]:
        count = names.count(row["name"])
        assert row["pixels"] == 18 * 18 * count
        assert 0 < sum(row["objects"].values()) <= count
        assert row["test"] == 18 * 18 * row["objects"]["test"]  # a window holds a whole field
    assert "objects train / val / test" in succeed(*words, "--chip", "20").out


def test_a_prior_counts_the_objects_that_inspect_shows(fields):
    """Polygons of 18 pixels once each, whether they lie in one window or in several."""
    words = ("inspect", fields / "scene.tif", *labels_of(fields), "--task", "segment")
    scene, labels = (str(fields / name) for name in ("scene.tif", "fields.gpkg"))
    for chip in (20, 10):
        shown = json.loads(succeed(*words, "--chip", chip, "--json").out)["classes"]
        data = open_windows(scene, labels=labels, class_field="landuse", chip=chip)
        counts = Segmentation().counts(data).of_objects()
        assert dict(zip(counts.names, counts.values, strict=True)) == {
            row["name"]: row["objects"]["train"] for row in shown
        }


def test_a_run_of_a_scene_is_measured_on_blocks_and_on_another_scene(run, fields, tmp_path):
    task = read_json(run / "metrics.json")["task"]
    assert (task["name"], task["unit"]) == ("segment", "group")
    assert task["units"] == 1  # of which neither tokens nor pixels have an interval
    [method] = read_json(run / "metrics.json")["methods"]
    assert method["macro_f1_interval"]["all"] is task["rows"][0]["mean_iou_interval"]["all"] is None
    assert task["rows"][-1]["mean_iou"]["all"] > 0.6  # colours tell classes apart
    facts = read_json(run / "run.json")["dataset"]
    assert (facts["chip"], facts["pixel"]) == (20, [10.0, 10.0])
    own = succeed("evaluate", run, fields / "scene.tif", *labels_of(fields), "--json", "--quiet")
    [again] = json.loads(own.out)["task"]["rows"]
    assert again["mean_iou"]["all"] == pytest.approx(task["rows"][-1]["mean_iou"]["all"])
    other = write_fields(tmp_path, side=100, seed=5)
    words = ("evaluate", run, other / "scene.tif", *labels_of(other), "--json", "--quiet")
    found = json.loads(succeed(*words).out)["task"]
    assert found["images"] == 25  # windows of the run's size
    assert sum(row["test_pixels"] for row in found["rows"][0]["per_class"]) == 25 * 18 * 18


def test_the_report_shows_the_test_windows_in_their_place(run, fields):
    """On the scene the truth is that of the fields, and errors are those of the metrics."""
    found = np.load(run / "report.npz")
    [truth], [said] = found["ground_truth"], found["ground_said"]
    last = read_json(run / "metrics.json")["task"]["rows"][-1]
    names = [row["name"] for row in last["per_class"]]
    held = truth > -2
    rows, columns = np.nonzero(held)
    data = open_windows(str(fields / "scene.tif"), labels=str(fields / "fields.gpkg"),
                        class_field="landuse", chip=20)  # fmt: skip
    at = [re.findall(r"row(\d+)-column(\d+)", name)[0] for name in data.ids()]
    corners = np.array(at).astype(int)[data.indices("test")] - 10
    top, left = corners.min(axis=0)
    wanted = np.append([names.index(name) for name in CLASSES], -1)[codes_of(SIDE)]
    np.testing.assert_array_equal(truth[held], wanted[rows + top, columns + left])
    assert held.sum() == 20 * 20 * len(corners)
    known = truth >= 0
    assert (truth[known] == said[known]).mean() == pytest.approx(last["pixel_accuracy"])
    assert found["ground_wrong"][0] == pytest.approx(1 - last["pixel_accuracy"])
    page = (run / "report.html").read_text("utf-8")
    assert "Test images in their places" in page
    assert page.count('alt="errors of scene"') == 1


def test_a_map_of_the_scene_has_the_classes_of_the_fields(run, fields, tmp_path):
    said = succeed("map", run, fields / "scene.tif", "--out", tmp_path / "map.tif", "--sieve", 30,
                   "--doubt", tmp_path / "doubt.tif", "--json", "--quiet")  # fmt: skip
    [summary] = json.loads(said.out)
    assert summary["sieved"] < SIDE**2 / 20
    with rasterio.open(tmp_path / "doubt.tif") as file:
        assert file.descriptions == ("disagreement", "1 - probability")
        doubt = file.read()
    with rasterio.open(tmp_path / "map.tif") as file:
        found = file.read(1)
    names = [row["name"] for row in read_json(run / "metrics.json")["task"]["rows"][0]["per_class"]]
    truth = np.array([*(names.index(name) + 1 for name in CLASSES), 0])[codes_of(SIDE)]
    assert (found > 0).all()
    _, sizes = np.unique(ndimage.label(found == 1)[0], return_counts=True)
    assert sizes.min() >= 30
    wrong = (found != truth)[truth > 0]
    assert (doubt[:, truth > 0][:, wrong].mean(axis=1) > doubt[:, truth > 0].mean(axis=1)).all()
    assert (found == truth)[truth > 0].mean() > 0.8


def test_raters_of_a_scene_are_learnt_from_and_measured(encoder, tmp_path):
    """Ben draws the fields that anna drew a pixel further down, and calls all water forest."""
    folder, run = write_fields(tmp_path), tmp_path / "run"
    shapes, names = fields_of(SIDE)
    less = [shapely.affinity.translate(shape, 0, -10) for shape in shapes]
    others = ["forest" if name == "water" else name for name in names]
    write_labels(folder / "fields.gpkg", [*shapes, *less], names + others,
                 raters=["anna"] * len(names) + ["ben"] * len(names))  # fmt: skip
    words = (*labels_of(folder), "--rater-field", "who")
    succeed("fit", folder / "scene.tif", *words, "--out", run, "--backbone", encoder, *QUICK)
    task = read_json(run / "metrics.json")["task"]
    assert task["images"] == 2 * task["raters"]["images"]
    data = open_windows(folder / "scene.tif", labels=str(folder / "fields.gpkg"), chip=20,
                        class_field="landuse", rater_field="who")  # fmt: skip
    masks = {"anna": {}, "ben": {}}
    for i in data.indices("test").tolist():
        ground, who = data.source.id(i).split("@")
        masks[who][ground] = data.targets.read(i)
    apart = [mask_distance(mask, masks["ben"][at], 3) for at, mask in masks["anna"].items()]
    assert task["raters"]["agreement"] == pytest.approx(1 - np.mean(apart))
    assert set(apart) == {0.0, 1.0}  # a window is a field: one class each, or two
    told = succeed("evaluate", run, folder / "scene.tif", *words, "--quiet", "--json").out
    again = json.loads(told)["task"]["raters"]["agreement"]
    assert again == pytest.approx(task["raters"]["agreement"])
    told = succeed("inspect", folder / "scene.tif", *words, "--task", "segment", "--chip", "20")
    assert "2 raters: a window counts once for each" in " ".join(told.out.split())


def test_a_sieve_and_a_shift_need_something_to_work_on(run, fields, tmp_path, refuse):
    words = ("map", run, fields / "scene.tif", "--out", tmp_path / "map.tif")
    refuse(*words, "--sieve", 1, says=["--sieve takes a number of cells from 2 on, got 1"])
    refuse(*words, "--doubt", tmp_path / "d.tif", "--step", 1, says=["--step must be at least 2"])
    refuse(*words, "--doubt", tmp_path / "d.png", says=["--doubt must end in .tif or .tiff"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "--labels) is missing"),
        (("--labels", "fields.gpkg"), "class_field (--class-field) is missing"),
        (("--labels", "away.gpkg", "--class-field", "landuse"), "no label of 'away.gpkg' overlaps"),
        (("--labels", "fields.gpkg", "--class-field", "landuse", "--rater-field", "who"),
         "have no field 'who', only ['landuse']"),
        (("--labels", "fields.gpkg", "--class-field", "landuse,kind"),
         "have no field 'kind', only ['landuse']"),
        (("--labels", "fields.gpkg", "--class-field", "landuse", "--chip", "200"),
         "smaller than a window of 200"),
    ],
)  # fmt: skip
def test_scenes_that_cannot_be_learnt_from_are_refused_in_a_line(
    words, says, fields, encoder, refuse, monkeypatch
):
    monkeypatch.chdir(fields)
    write_labels(fields / "away.gpkg", [box(900, 900, 5, 5)], ["a"])
    refuse("fit", "scene.tif", "--backbone", encoder, *QUICK, *words, says=[says])
