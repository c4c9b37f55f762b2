"""Where images lie on common ground: windows of scenes, pairs of them, tiles in files."""

import numpy as np
import pytest

from tailora.data import FileImages
from tailora.data.change_masks import PairImages
from tailora.data.open import open_windows
from tailora.data.scenes.ground import grounds_of
from tailora.data.sources import SelectedImages
from tests.data.scenes import fields_of, write_labels, write_scene


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ground")
    write_scene(folder / "scene.tif", np.full((3, 160, 160), 7, np.uint8))
    shapes, names = fields_of(160)
    write_labels(folder / "fields.gpkg", shapes, names)
    labels = str(folder / "fields.gpkg")
    return open_windows(str(folder / "scene.tif"), labels=labels, class_field="landuse", chip=20)


def test_windows_of_a_scene_lie_where_they_were_cut(windows):
    samples = windows.indices("test")[::-1]
    [ground] = grounds_of(windows.source, samples)
    assert ground.name == "scene"
    for image, box in zip(ground.images, ground.boxes.tolist(), strict=True):
        name = windows.source.id(int(samples[image]))
        assert f"row{box[0] + 10:05d}-column{box[1] + 10:05d}" in name
        assert box[2:] == [20, 20]


def test_pairs_lie_where_their_first_date_does_and_one_of_several_raters_counts(windows):
    twice = np.repeat(np.arange(4), 2)
    source = PairImages(SelectedImages(windows.source, twice), windows.source)
    [ground] = grounds_of(source, np.arange(8))
    [single] = grounds_of(windows.source, np.arange(4))
    assert ground.images.tolist() == [0, 2, 4, 6]
    np.testing.assert_array_equal(ground.boxes, single.boxes)


def tiles(folder, **changed):
    """Three tiles of 8 x 6 pixels of 10 m, the third elsewhere or of another kind."""
    paths = []
    for k, (row, column) in enumerate(((0, 0), (0, 6), (8, 12))):
        more = changed if k == 2 else {}
        west, north = 400_000 + 10 * column, 5_000_000 - 10 * row
        path = folder / "images" / f"{k}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_scene(path, np.zeros((3, 8, 6), np.uint8), **{"west": west, "north": north, **more})
        paths.append(path)
    return FileImages(paths, [path.stem for path in paths])


def test_tiles_lie_where_their_files_say(tmp_path):
    [ground] = grounds_of(tiles(tmp_path / "land"), np.array([2, 0]))
    assert ground.name == "land"
    assert ground.boxes.tolist() == [[8, 12, 8, 6], [0, 0, 8, 6]]


@pytest.mark.parametrize("other", [{"crs": "EPSG:32632"}, {"pixel": 20.0}])
def test_tiles_on_several_grids_have_no_common_ground(other, tmp_path):
    assert grounds_of(tiles(tmp_path, **other), np.arange(3)) == []
    assert len(grounds_of(tiles(tmp_path), np.arange(2))) == 1


def test_pictures_say_nothing_about_where_they_lie(tmp_path):
    assert grounds_of(FileImages([tmp_path / "a.png"], ["a"]), np.arange(1)) == []
