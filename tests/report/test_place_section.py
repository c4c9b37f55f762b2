import base64
import re
from dataclasses import replace

import numpy as np
import pytest

from tailora.data.scene_dataset import Chips, SceneFiles, open_scene_dataset
from tailora.data.sources import FileImages
from tailora.pipeline.error_places import error_places
from tailora.report.place_section import places_section
from tailora.report.reading import read_run_folder
from tests.data.scenes import fields_of, traced, write_labels, write_scene
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
    return places_section(read_run_folder(folder))


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
    assert section.blocks[0].text.startswith("Left out: the images have no place")


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
