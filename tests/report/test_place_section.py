import base64
import re
from dataclasses import replace

import numpy as np
import pytest
import shapely

from tailora.data.scenes.dataset import Chips, open_scene_dataset
from tailora.data.scenes.scene_files import SceneFiles
from tailora.data.sources import FileImages
from tailora.methods.evidence import error_places
from tailora.report.error_sections import places_section
from tailora.runs.result import read_unreported
from tests.data.scenes import NORTH, WEST, fields_of, traced, write_labels, write_scene
from tests.report.fake_run import write_fake_run


def section_of(tmp_path, n=60, *, wrong=(), units="degrees", arrays=True):
    folder = write_fake_run(tmp_path / "run")
    if arrays:
        stored = dict(np.load(folder / "report.npz"))
        rng = np.random.default_rng(0)
        stored["place_at"] = rng.uniform((13, 52), (14, 53), (n, 2))
        stored["place_true"] = np.arange(n) % 12
        stored["place_pred"] = stored["place_true"].copy()
        stored["place_pred"][list(wrong)] = (stored["place_true"][list(wrong)] + 1) % 12
        stored["place_units"] = np.array([units])
        np.savez(folder / "report.npz", **stored)
    return places_section(read_unreported(folder))


def drawn(section):
    (picture,) = [block for block in section.blocks if block.kind == "picture"]
    return base64.b64decode(picture.uri.partition("base64,")[2]).decode()


@pytest.mark.parametrize("units", ["degrees", "pixels"])
def test_every_test_sample_is_a_mark_at_its_place(units, tmp_path):
    section = section_of(tmp_path, wrong=(3, 4, 5, 17), units=units)
    assert "4 of 60 are wrong" in section.caption
    svg = drawn(section)
    assert ("longitude" in svg) is (units == "degrees")
    counts = [int(n) for n in re.findall(r"wrong, \w+ class \((\d+)\)", svg)]
    assert sum(counts) == 4


def test_a_run_without_errors_says_so(tmp_path):
    section = section_of(tmp_path)
    assert section.blocks[0].text.startswith("No test sample")


def test_images_without_a_place_are_left_out_in_words(tmp_path):
    section = section_of(tmp_path, arrays=False)
    assert section.blocks[0].text.startswith("Not shown: errors are drawn for images with a known")


def test_places_are_those_of_the_test_chips(tmp_path):
    scene = write_scene(tmp_path / "a.tif", traced(3, 200))
    labels = write_labels(tmp_path / "a.gpkg", *fields_of(200))
    data = open_scene_dataset(
        [SceneFiles((scene,), labels, "landuse")], Chips(chip=8, block=40), name="a"
    )
    rows = data.indices("test")
    kept = data.select(np.concatenate([data.indices("train"), rows[1:], data.indices("val")]))
    true = kept.labels[kept.indices("test")]
    found = error_places(kept, true, true)
    expected = [data.source.position(int(row)) for row in rows[1:]]
    np.testing.assert_array_equal(found["place_at"], expected)
    assert found["place_units"][0] == "degrees"
    assert 12 < found["place_at"][0, 0] < 13
    assert 52 < found["place_at"][0, 1] < 53
    files = replace(data, source=FileImages([scene] * len(data), data.ids()))
    assert error_places(files, true, true) == {}


def scene_places(tmp_path, **ground):
    """Places of all test chips of a scene, with each chip's row and column there."""
    scene = write_scene(tmp_path / "a.tif", traced(3, 200), **ground)
    shapes, names = fields_of(200)
    west, north, pixel = ground["west"], ground["north"], ground["pixel"]

    def place(points):
        return np.column_stack(
            [
                west + (points[:, 0] - WEST) / 10 * pixel,
                north + (points[:, 1] - NORTH) / 10 * pixel,
            ]
        )

    moved = [shapely.transform(shape, place) for shape in shapes]
    labels = write_labels(tmp_path / "a.gpkg", moved, names, crs=ground["crs"])
    data = open_scene_dataset(
        [SceneFiles((scene,), labels, "landuse")], Chips(chip=8, block=40), name="a"
    )
    true = data.labels[data.indices("test")]
    at = [re.findall(r"row(\d+)-column(\d+)", data.source.id(int(i))) for i in data.indices("test")]
    return error_places(data, true, true), np.array(at, dtype=float)[:, 0]


def test_places_across_the_antimeridian_lie_side_by_side(tmp_path):
    found, at = scene_places(tmp_path, crs="EPSG:4326", west=179.9, north=-16.0, pixel=0.001)
    expected = np.column_stack([179.9 + 0.001 * at[:, 1], -16 - 0.001 * at[:, 0]])
    assert expected[:, 0].min() < 180 < expected[:, 0].max()
    np.testing.assert_allclose(found["place_at"], expected, atol=1e-9)


def test_places_in_a_local_system_are_told_in_it(tmp_path):
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    found, at = scene_places(tmp_path, crs=local, west=40.0, north=900.0, pixel=2.0)
    assert found["place_units"][0] == "local"
    expected = np.column_stack([40 + 2 * at[:, 1], 900 - 2 * at[:, 0]])
    np.testing.assert_allclose(found["place_at"], expected)
