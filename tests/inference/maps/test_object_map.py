"""Objects of scenes by a finder that knows the truth, in windows that cut them."""

import json

import numpy as np
import pyogrio
import pytest
import shapely
from rasterio.warp import transform

from tailora.boxes import rotated_nms, to_corners
from tailora.boxes.suppression import overlapping_groups
from tailora.data.scenes.scene import open_scene
from tailora.errors import DataError, RunError
from tailora.inference.maps import object_map
from tailora.inference.maps.chip_grid import ChipGrid
from tailora.inference.maps.object_map import ObjectFinder, draw_objects
from tests.data.scenes import NORTH, WEST, write_scene
from tests.end_to_end.chips import write_raster

SIDE, CHIP, STEP = 150, 32, 24
NAMES, VERDICTS = ("plane", "ship"), ("trusted", "weak")


class Planted:
    """A scene of oriented boxes, and a finder that reads where it looks from two of its bands.

    It finds every box with its centre in a window or less than four pixels beyond, at its true
    place if the window holds all of it, else, with a higher score, the part that it sees.
    """

    def __init__(self, boxes, classes):
        self.corners, self.classes = to_corners(np.array(boxes)), np.array(classes)
        self.seen = 0

    def pixels(self, rows=SIDE, columns=SIDE):
        y, x = np.mgrid[:rows, :columns]
        return np.stack([np.full((rows, columns), 9), y, x]).astype(np.int16)

    def find(self, windows):
        found = []
        for window in windows:
            self.seen += 1
            side = window.shape[-1]
            start = np.array([window[2, 0, 0], window[1, 0, 0]])
            own = self.corners - start
            shapes = shapely.polygons(own)
            inside = shapely.intersection(shapes, shapely.box(0, 0, side, side))
            share = shapely.area(inside) / shapely.area(shapes)
            near = shapely.distance(shapely.centroid(shapes), shapely.box(0, 0, side, side)) < 4
            rows = np.flatnonzero((share > 0.05) & near)
            corners = own.copy()
            for k in rows[share[rows] < 1 - 1e-9]:
                west, north, east, south = inside[k].bounds
                corners[k] = [[west, north], [east, north], [east, south], [west, south]]
            scores = np.where(share > 1 - 1e-9, 0.8, 0.9) - self.classes / 10
            found.append((corners[rows], scores[rows], self.classes[rows]))
        return found

    def finder(self, find=None, mark="m"):
        prepare = lambda window: window  # noqa: E731
        return ObjectFinder(NAMES, VERDICTS, prepare, find or self.find, mark)

    def draw(self, path, out, **options):
        scene = open_scene([path], anywhere=True)
        grid = ChipGrid(scene.shape, CHIP, STEP)
        finder = options.pop("finder", None) or self.finder()
        return draw_objects(scene, finder, grid, out, overlap=0.1, **options)


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Small boxes at every 11.3 pixels: whatever the windows, many are cut. Several strips."""
    monkeypatch.setattr(object_map, "_ACROSS", CHIP)
    rng = np.random.default_rng(0)
    at = np.arange(5.2, SIDE - 4, 11.3)
    x, y = (part.ravel() for part in np.meshgrid(at, at))
    boxes = np.column_stack([x, y, np.full(len(x), 3.9), np.full(len(x), 1.7),
                             rng.uniform(-1.5, 1.5, len(x))])  # fmt: skip
    truth = Planted(boxes, rng.integers(0, 2, len(x)))
    return truth, write_scene(tmp_path / "scene.tif", truth.pixels(), pixel=0.5)


def read(path):
    meta, _, shapes, columns = pyogrio.raw.read(path)
    fields = dict(zip(meta["fields"], columns, strict=True))
    return meta, shapely.get_coordinates(shapely.from_wkb(shapes)).reshape(-1, 5, 2), fields


def nearest(points, others):
    return np.argmin(np.linalg.norm(points[:, None] - others, axis=2), axis=1)


@pytest.mark.parametrize("ending", [".gpkg", ".geojson"])
def test_objects_cut_by_windows_come_once_at_their_true_place(planted, tmp_path, ending):
    """Though cut parts score higher, and the last windows are shifted back."""
    truth, scene = planted
    found = truth.draw(scene, tmp_path / f"o{ending}")
    meta, rings, fields = read(tmp_path / f"o{ending}")
    assert len(rings) == len(truth.corners) == sum(found.objects.values())
    corners = rings[:, :4]
    if ending == ".geojson":
        assert meta["crs"] == "EPSG:4326"
        flat = corners.reshape(-1, 2)
        back = transform("EPSG:4326", "EPSG:32633", *flat.T)
        corners = np.array(back).T.reshape(corners.shape)
    else:
        assert meta["crs"] == "EPSG:32633"
        expected = truth.corners * (0.5, -0.5) + (WEST, NORTH)
        order = nearest(corners.mean(axis=1), expected.mean(axis=1))
        assert sorted(order) == list(range(len(expected)))
        gaps = np.linalg.norm(corners[:, :, None] - expected[order][:, None], axis=3).min(axis=2)
        assert gaps.max() < 1e-3 * 0.5
    pixels = (corners - (WEST, NORTH)) * (2, -2)
    order = nearest(pixels.mean(axis=1), truth.corners.mean(axis=1))
    assert [NAMES.index(name) for name in fields["class"]] == truth.classes[order].tolist()
    assert [VERDICTS[NAMES.index(name)] for name in fields["class"]] == fields["verdict"].tolist()
    np.testing.assert_allclose(fields["length"], 3.9 / 2, atol=1e-3)
    np.testing.assert_allclose(fields["width"], 1.7 / 2, atol=1e-3)
    along = truth.corners[order][:, 1] - truth.corners[order][:, 0]  # columns and rows
    heading = np.degrees(np.arctan2(along[:, 0], -along[:, 1]))
    turn = np.abs((heading - fields["angle"] + 90) % 180 - 90)
    assert turn.max() < 0.05
    assert (found.objects, found.verdicts) == (
        {name: int((truth.classes == c).sum()) for c, name in enumerate(NAMES)},
        dict(zip(NAMES, VERDICTS, strict=True)),
    )


def test_an_interrupted_search_goes_on_to_the_same_bytes(planted, tmp_path):
    truth, scene = planted
    truth.draw(scene, tmp_path / "whole.gpkg")
    total, out = truth.seen, tmp_path / "o.gpkg"

    def stop(windows):
        if truth.seen > 0.6 * total:
            raise KeyboardInterrupt
        return truth.find(windows)

    truth.seen = 0
    with pytest.raises(KeyboardInterrupt):
        truth.draw(scene, out, finder=truth.finder(stop))
    assert not out.exists()
    with pytest.raises(RunError, match="belongs to another scene, run or options"):
        truth.draw(scene, out, resume=True, finder=truth.finder(mark="other"))
    truth.seen = 0
    found = truth.draw(scene, out, resume=True)
    assert 0 < truth.seen < 0.7 * total
    assert out.read_bytes() == (tmp_path / "whole.gpkg").read_bytes()
    truth.seen = 0
    assert truth.draw(scene, out, resume=True) == found
    assert truth.seen == 0
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_rows_of_windows_are_suppressed_as_all_at_once(tmp_path, monkeypatch):
    """Random boxes that overlap in chains over several windows, against one suppression of all."""
    rng = np.random.default_rng(1)
    boxes = np.column_stack([
        rng.uniform(0, SIDE, (700, 2)), rng.uniform(3, 20, (700, 2)), rng.uniform(-1, 1, 700),
    ])  # fmt: skip
    corners, scores = to_corners(boxes), rng.uniform(size=700)
    classes = rng.integers(0, 2, 700)

    def find(windows):
        for window in windows:
            start = np.array([window[2, 0, 0], window[1, 0, 0]])
            inside = ((corners.mean(axis=1) - start) // CHIP == 0).all(axis=1)
            yield corners[inside] - start, scores[inside], classes[inside]

    truth = Planted(boxes, classes)
    scene = write_scene(tmp_path / "s.tif", truth.pixels(), west=0, north=0)
    monkeypatch.setattr(object_map, "_ACROSS", CHIP)
    monkeypatch.setattr(object_map, "_AT_ONCE", 50)  # the layer is written in parts
    truth.draw(scene, tmp_path / "o.gpkg", finder=truth.finder(lambda w: list(find(w))))
    _, rings, fields = read(tmp_path / "o.gpkg")
    kept = rotated_nms(corners, scores, threshold=0.1, classes=classes)
    assert len(rings) == len(kept) > 150
    np.testing.assert_allclose(np.sort(fields["score"]), np.sort(scores[kept]))
    middles = rings[:, :4].mean(axis=1) * (0.1, -0.1)
    order = nearest(middles, corners[kept].mean(axis=1))
    np.testing.assert_allclose(middles, corners[kept].mean(axis=1)[order], atol=1e-6)
    group = overlapping_groups(corners, classes)
    assert len(set(group)) < len(group)


def test_a_picture_without_a_place_gives_pixels_and_a_small_one_is_not_mirrored(tmp_path):
    truth = Planted([[10, 6, 8, 4, 0.0], [28, 18, 6, 6, 0.0]], [0, 1])
    path = write_raster(tmp_path / "s.tif", truth.pixels(20, 30))

    def find(windows):
        assert (windows[:, :, 20:] == 0).all()
        assert (windows[:, :, :, 30:] == 0).all()
        beyond = to_corners(np.array([[31.0, 25, 4, 4, 0]]))
        return [(np.concatenate([truth.corners, beyond]), np.ones(3), np.array([0, 1, 1]))]

    found = truth.draw(path, tmp_path / "o.geojson", finder=truth.finder(find))
    text = json.loads((tmp_path / "o.geojson").read_text("utf-8"))
    assert "crs" not in text
    assert not found.georeferenced
    rings = [one["geometry"]["coordinates"][0][:4] for one in text["features"]]
    assert sorted(rings[0]) == [[6, 4], [6, 8], [14, 4], [14, 8]]
    assert found.objects == {"plane": 1, "ship": 1}  # none beyond the border
    assert text["features"][0]["properties"]["angle"] == 90


def test_windows_without_data_are_skipped_and_nothing_found_is_an_empty_layer(tmp_path):
    truth = Planted([[100, 100, 4, 2, 0.0]], [0])
    pixels = truth.pixels()
    pixels[0, :, :70] = -1
    path = write_scene(tmp_path / "s.tif", pixels, nodata=-1)
    found = truth.draw(path, tmp_path / "o.gpkg")
    assert (found.left_out, truth.seen) == (12, 24)  # windows at 0 and 24 of 0, 24, ..., 118
    assert found.windows == 36
    none = (np.zeros((0, 4, 2)), np.zeros(0), np.zeros(0, int))
    finder = truth.finder(lambda windows: [none] * len(windows))
    nothing = truth.draw(path, tmp_path / "n.gpkg", finder=finder)
    assert sum(nothing.objects.values()) == 0
    _, rings, fields = read(tmp_path / "n.gpkg")
    assert (len(rings), list(fields)) == (
        0, ["class", "score", "verdict", "angle", "length", "width"],
    )  # fmt: skip
    pixels[0] = -1
    path = write_scene(tmp_path / "none.tif", pixels, nodata=-1)
    with pytest.raises(DataError, match="no window of 'none' can be searched: 36 have too few"):
        truth.draw(path, tmp_path / "x.gpkg")
    assert not [one for one in tmp_path.iterdir() if "unfinished" in one.name]
