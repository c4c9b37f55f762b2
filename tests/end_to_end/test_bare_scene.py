"""`tailora inspect` on a scene without labels, and `evaluate` on one with labels given by flags."""

import json

import numpy as np
import pytest
import rasterio

from tests.data.scenes import write_scene
from tests.end_to_end.chips import succeed, tailora

NAMES = ("red", "green", "blue", "nir")


@pytest.fixture
def scene(tmp_path):
    """30 x 40 pixels of reflectance times 10,000, the first row without data."""
    pixels = np.random.default_rng(0).integers(300, 5000, (4, 30, 40)).astype(np.uint16)
    pixels[:, 0] = 0
    return write_scene(tmp_path / "scene.tif", pixels, names=NAMES, nodata=0)


def test_a_raster_is_shown_by_itself(scene, tmp_path):
    with rasterio.open(scene) as file:
        inside = file.read()[:, 1:]
    answer = succeed("inspect", scene, "--json", "--out", tmp_path / "page.html")
    found = json.loads(answer.out)
    assert found["scene"]["pixels"] == "30 rows x 40 columns"
    assert found["scene"]["without data"] == "3.3% of the pixels"
    assert found["units"] == "reflectance times 10,000"
    for band, name, values in zip(found["bands"], NAMES, inside, strict=True):
        assert band["name"] == name
        assert (band["min"], band["max"]) == (values.min(), values.max())
        assert band["mean"] == pytest.approx(values.mean())
        assert band["median"] == np.median(values)
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count("<img") >= 2  # quick-look, histograms
    assert "There are no labels" in page
    assert "under its labels" not in page


def test_a_folder_of_bands_is_one_scene_and_bands_are_chosen_by_name(tmp_path):
    folder = tmp_path / "bands"
    for name, value in (("B04", 700), ("B03", 600), ("B02", 500)):
        pixels = np.full((1, 8, 8), value, dtype=np.uint16)
        write_scene(folder / f"T33_{name}.tif", pixels)
    found = json.loads(succeed("inspect", f"{folder}:bands=red,blue", "--json").out)
    assert [(band["name"], band["mean"]) for band in found["bands"]] == [("B04", 700), ("B02", 500)]
    table = succeed("inspect", folder).out
    assert "without data: 0.0% of the pixels" in table
    assert "by-wavelength stem" in table


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{scene}:chip=8"], "chip has no effect without labels"),
        (["{scene}:bandz=red"], "unknown option of a scene 'bandz'; did you mean 'bands'?"),
        (["{scene}:bands=swir"], "swir"),
        (["{scene}", "--wavelengths", "0.5,0.6"], "2 wavelengths for images of 4 bands"),
        (["{scene}", "--labels", "none.gpkg"], "class_field (--class-field) is missing"),
        (["{scene}", "--chip", "8"], "labels (--labels) is missing"),
        (["{empty}"], "has no valid pixel"),
    ],
)
def test_what_cannot_be_looked_at_says_why(words, message, scene, tmp_path):
    empty = write_scene(tmp_path / "empty.tif", np.zeros((1, 8, 8), np.uint8), nodata=0)
    answer = tailora("inspect", *(word.format(scene=scene, empty=empty) for word in words))
    assert answer.code == 2
    assert message in answer.err
    assert answer.err.count("\n") == 1
