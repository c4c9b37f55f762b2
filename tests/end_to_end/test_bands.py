"""Bands by name, statistics and radar through the command line."""

import csv
import json

import numpy as np
import pytest

from tests.data.scenes import fields_of, write_labels, write_scene
from tests.end_to_end.chips import SIDE, succeed, tailora

BANDS = ("B02", "B03", "B04", "B08")


def write_chips(root, order=BANDS, *, counts=(14, 8, 5), radar=False, seed=0):
    """Chips of three classes; each band has its own level, whatever the order in the file."""
    rng = np.random.default_rng(seed)
    for label, count in enumerate(counts):
        for i in range(count):
            chip = {name: rng.gamma(4, 0.25, (SIDE, SIDE)) for name in BANDS}
            pixels = [1000 * (BANDS.index(n) + 1 + 0.4 * label) * chip[n] for n in order]
            kind = np.float32 if radar else np.uint16
            write_scene(
                root / f"class{label}" / f"{i:02d}.tif", np.array(pixels).astype(kind),
                names=None if radar else order,
            )  # fmt: skip
    return root


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    return write_chips(tmp_path_factory.mktemp("bands") / "chips")


@pytest.fixture(scope="module")
def fitted(chips, quick, tmp_path_factory):
    run = tmp_path_factory.mktemp("fitted") / "run"
    succeed(
        "fit", chips, "--out", run, *quick, "--method", "lora",
        "--set", 'data.bands=["red","green","blue"]', "--set", "data.sensor=sentinel-2",
    )  # fmt: skip
    return run


def shares(text):
    return [
        [float(row[key]) for key in row if key.startswith("p(")] for row in csv.DictReader(text)
    ]


def test_bands_are_chosen_by_name_and_predicted_by_name(chips, fitted, tmp_path):
    found = json.loads((fitted / "run.json").read_text())["input"]
    assert found["bands"] == [3, 2, 1]
    assert found["names"] == ["B04", "B03", "B02"]
    assert found["wavelengths"] == [0.6646, 0.5598, 0.4924]
    assert found["scale"] == 1
    turned = write_chips(tmp_path / "turned", BANDS[::-1])
    wide = shares(succeed("predict", fitted, chips).out.splitlines())
    assert shares(succeed("predict", fitted, turned).out.splitlines()) == wide
    fewer = write_chips(tmp_path / "fewer", ("B03", "B02", "B04"))
    assert len(shares(succeed("predict", fitted, fewer).out.splitlines())) == len(wide)
    # of other data than its own every image is scored, whatever the order of their bands
    found = json.loads(succeed("evaluate", fitted, turned, "--split", "test", "--json").out)
    assert sum(row["n_test"] for row in found["methods"][-1]["per_class"]) == len(wide)


def test_statistics_are_those_of_the_training_images(chips, fitted):
    from tailora.data import open_dataset

    found = json.loads((fitted / "run.json").read_text())["input"]
    data = open_dataset(chips)
    images = np.stack([data.source.read(int(i)) for i in data.indices("train")]).astype(float)
    assert found["mean"] == pytest.approx(images.mean(axis=(0, 2, 3))[[2, 1, 0]].tolist())
    assert found["std"] == pytest.approx(images.std(axis=(0, 2, 3))[[2, 1, 0]].tolist())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["data.bands=[\"nirr\"]"], ("unknown band 'nirr'", "B08")),
        (["data.bands=[9]"], ("data.bands must lie in 1..4",)),
        (["data.sensor=rgb"], ("unknown band 'B02'",)),
        (["data.band_names=[\"red\"]"], ("data.band_names has 1 bands", "4")),
        (["data.alpha=keep"], ("unknown value of data.alpha 'keep'",)),
        (["data.mean=[1.0]"], ("data.mean and data.std need one mean",)),
        (["data.mean=[1,2]", "data.std=[1,2]", "data.bands=[1,2,3]"], ("have 2 values", "3 bands")),
        (["data.radar=sar"], ("unknown data.radar 'sar'",)),
        (["data.clip=[1,99]"], ("data.clip has no effect without data.radar",)),
        (["data.clip=[99,1]", "data.radar=power"], ("data.clip takes two increasing percentiles",)),
        (["data.looks=3", "data.radar=power"], ("data.looks has no effect without train.augment",)),
        (["train.augment=speckle"], ("is for radar images", "data.radar=amplitude")),
    ],
)  # fmt: skip
def test_wrong_bands_and_statistics_are_refused(chips, quick, tmp_path, settings, words):
    options = [word for text in settings for word in ("--set", text)]
    answer = tailora("fit", chips, "--out", tmp_path / "run", *quick, *options)
    assert answer.code == 2
    for word in words:
        assert word in answer.err
    assert not (tmp_path / "run").exists()


def test_given_statistics_are_used_and_other_units_are_told(chips, quick, tmp_path, plain_report):
    run = tmp_path / "run"
    answer = succeed(
        "fit", chips, "--out", run, *[word for word in quick if word != "--quiet"],
        "--method", "zero-shot", "--set", "data.bands=[3,2,1]",
        "--set", "data.mean=[0.3,0.2,0.1]", "--set", "data.std=[0.1,0.1,0.1]",
    )  # fmt: skip
    record = json.loads((run / "run.json").read_text())
    assert record["input"]["mean"] == [0.3, 0.2, 0.1]
    assert "data.mean is in other units than the images" in answer.err
    assert any("range check" in note for note in record["dataset"]["notes"])


def test_radar_is_fitted_in_decibels_with_speckle_and_predicts(quick, tmp_path, plain_report):
    chips = write_chips(tmp_path / "chips", ("B02",), radar=True)
    run = tmp_path / "run"
    succeed(
        "fit", chips, "--out", run, *quick, "--method", "lora", "--set", "data.radar=power",
        "--set", "train.augment=dihedral+speckle", "--set", "data.looks=4",
        "--set", 'data.band_names=["VV"]',
    )  # fmt: skip
    found = json.loads((run / "run.json").read_text())["input"]
    assert found["radar"] == "power"
    assert found["names"] == ["VV"] * 3
    assert found["bands"] == [1, 1, 1]
    assert 20 < found["low"][0] < found["high"][0] < 45
    assert 0.3 < found["mean"][0] < 0.8
    assert len(shares(succeed("predict", run, chips).out.splitlines())) == 27


def test_negative_power_is_taken_for_decibels_and_refused(quick, tmp_path):
    rng = np.random.default_rng(0)
    for i in range(20):
        pixels = rng.uniform(-25, 0, (1, SIDE, SIDE)).astype(np.float32)
        write_scene(tmp_path / "c" / "ab"[i % 2] / f"{i}.tif", pixels)
    answer = tailora(
        "fit", tmp_path / "c", "--out", tmp_path / "run", *quick, "--set", "data.radar=power"
    )
    assert answer.code == 2
    assert "for decibels, --set data.radar=decibel" in answer.err


def test_a_scene_with_polygons_is_fitted_and_evaluated(quick, tmp_path, plain_report):
    rng = np.random.default_rng(0)
    pixels = rng.integers(100, 4000, (4, 200, 200)).astype(np.uint16)
    scene = write_scene(tmp_path / "scene.tif", pixels, names=BANDS)
    labels = write_labels(tmp_path / "labels.gpkg", *fields_of(200))
    place = (scene, "--labels", labels, "--class-field", "landuse", "--chip", SIDE)
    run = tmp_path / "run"
    succeed(
        "fit", *place, "--out", run, *quick, "--method", "zero-shot",
        "--set", 'data.bands=["red","green","blue"]',
    )  # fmt: skip
    record = json.loads((run / "run.json").read_text())
    assert record["input"]["names"] == ["B04", "B03", "B02"]
    assert record["dataset"]["n_train"] > record["dataset"]["n_test"] > 0


def test_inspect_shows_a_scene_its_bands_and_pixels_by_class(rendered, tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(100, 4000, (3, 200, 200)).astype(np.uint16)
    pixels[1] = 7
    pixels[:, :20] = 0
    scene = write_scene(tmp_path / "scene.tif", pixels, names=("B03", "B04", "B02"), nodata=0)
    shapes, names = fields_of(200)
    labels = write_labels(tmp_path / "labels.geojson", shapes, names)
    place = (scene, "--labels", labels, "--class-field", "landuse", "--chip", 8)
    answer = succeed("inspect", *place, "--out", tmp_path / "page.html")
    assert "values look like reflectance times 10,000; bands: B02, B03, B04" in answer.out
    assert "constant bands carry no information: B04 (7)" in answer.out
    found = json.loads(succeed("inspect", *place, "--json").out)
    assert {row["name"]: row["pixels"] for row in found["classes"]} == {
        name: 18 * 18 * names.count(name) for name in set(names)
    }
    assert [band["wavelength"] for band in found["bands"]] == [0.4924, 0.5598, 0.6646]
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count("data:image/jpeg") == 2
    assert "10.0% of the pixels" in page
    assert len(page) < 500_000


def test_inspect_tells_of_dropped_alpha_and_given_files(tmp_path):
    for i in range(12):
        pixels = np.full((4, 8, 8), i + 1, np.uint8)
        path = tmp_path / "chips" / "ab"[i % 2] / f"{i}.tif"
        write_scene(path, pixels, photometric="RGB", alpha="yes")
    answer = succeed("inspect", tmp_path / "chips")
    assert "first image 3 bands" in answer.out
    assert "declares its last band as alpha, so it is dropped" in answer.out
