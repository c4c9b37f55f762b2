"""Maps of classes read in windows: counts, areas and names."""

import numpy as np
import pytest
import rasterio

from tailora.errors import DataError
from tailora.inference.map_sample import sample_map
from tailora.inference.maps import class_map
from tailora.inference.maps.class_legend import MapClass, attribute_table
from tailora.inference.maps.class_map import open_class_map, read_class_names
from tests.data.scenes import write_scene


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    return rng.choice([0, 1, 2, 7], (150, 210), p=[0.1, 0.6, 0.25, 0.05]).astype(np.uint8)


@pytest.fixture
def path(tmp_path, values):
    return write_scene(tmp_path / "map.tif", values[None], nodata=0)


def test_pixels_areas_and_places_are_those_of_the_whole(path, values, monkeypatch):
    monkeypatch.setattr(class_map, "_SIDE", 32)
    monkeypatch.setattr(class_map, "_CELLS", 32 * 40)
    rng = np.random.default_rng(1)
    rows, columns = rng.integers(0, 150, 50), rng.integers(0, 210, 50)
    tally = open_class_map(path).count(rows, columns)
    assert tally.values == (1, 2, 7)
    assert tally.pixels.tolist() == [int((values == v).sum()) for v in tally.values]
    assert tally.areas.tolist() == [100 * int((values == v).sum()) for v in tally.values]
    assert list(tally.found) == [int(v) or None for v in values[rows, columns]]


@pytest.mark.parametrize(
    ("block", "shape", "expected"),
    [
        ((1, 210), (150, 210), (150, 210)),
        ((512, 512), (10_000, 10_000), (2048, 2048)),
        ((1, 100_000), (60_000, 100_000), (41, 100_000)),  # whole rows, which are stored together
        ((60_000, 60_000), (60_000, 60_000), (69, 60_000)),  # one huge block
        ((256, 8_000_000), (256, 8_000_000), (1, 2**22)),
    ],
)
def test_windows_are_of_whole_blocks_and_small(block, shape, expected):
    assert class_map._window(block, shape) == expected
    assert expected[0] * expected[1] <= class_map._CELLS


def test_no_more_than_a_window_is_held(tmp_path, monkeypatch):
    values = np.tile(np.arange(64, dtype=np.uint8) // 16 + 1, (2000, 40))
    path = write_scene(
        tmp_path / "large.tif", values[None], tiled=True, blockxsize=64, blockysize=64
    )
    monkeypatch.setattr(class_map, "_SIDE", 128)
    monkeypatch.setattr(class_map, "_CELLS", 128 * 128)
    read = rasterio.io.DatasetReader.read
    sizes = []

    def spy(self, *arguments, **options):
        found = read(self, *arguments, **options)
        sizes.append(found.size)
        return found

    monkeypatch.setattr(rasterio.io.DatasetReader, "read", spy)
    found = sample_map(path, tmp_path / "points.gpkg", points=200)
    assert [one.pixels for one in found.classes] == [2000 * 640] * 4
    assert max(sizes) <= 128 * 128
    assert sum(sizes) == 2 * values.size  # every pixel twice: counted, then drawn from


def test_in_degrees_rows_near_the_pole_are_smaller(tmp_path, values):
    path = write_scene(
        tmp_path / "deg.tif", values[None], nodata=0, crs="EPSG:4326", pixel=0.1, west=0, north=80
    )
    found = open_class_map(path)
    tally = found.count()
    for value, area in zip(tally.values, tally.areas, strict=True):
        expected = sum((values[row] == value).sum() * found.pixel_areas[row] for row in range(150))
        assert area == pytest.approx(expected)


def test_masks_and_a_further_value_are_no_data(tmp_path, values):
    path = write_scene(tmp_path / "map.tif", values[None])
    with rasterio.open(path, "r+") as raster:
        raster.write_mask(np.where(np.arange(210) < 100, 255, 0)[None].repeat(150, 0).astype("u1"))
    tally = open_class_map(path, nodata=7).count()
    part = values[:, :100]
    assert tally.values == (0, 1, 2)
    assert tally.pixels.tolist() == [int((part == v).sum()) for v in (0, 1, 2)]


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "uint32"])
def test_any_integers_can_be_classes(tmp_path, values, dtype):
    low = -3 if dtype.startswith("i") else 300
    path = write_scene(tmp_path / "map.tif", (values.astype(dtype) + low)[None])
    tally = open_class_map(path).count()
    assert tally.values == tuple(low + v for v in (0, 1, 2, 7))
    assert tally.pixels.tolist() == [int((values == v).sum()) for v in (0, 1, 2, 7)]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.arange(3000).reshape(50, 60), "different values"),
        (np.array([[1, 70_000]]), "values from 1 to 70000"),
    ],
)
def test_ids_are_not_classes(tmp_path, values, says):
    path = write_scene(tmp_path / "map.tif", values.astype(np.int32)[None])
    with pytest.raises(DataError, match=says):
        open_class_map(path).count()


def test_names_come_from_the_legend_of_our_own_maps(path):
    classes = [MapClass(v, n, "trusted", (0, 0, v)) for v, n in ((1, "forest"), (2, "water"))]
    path.with_name("map.tif.aux.xml").write_text(attribute_table(classes, {1: 5}))
    found = open_class_map(path)
    assert [found.name(value) for value in (1, 2, 7)] == ["forest", "water", "class 7"]


@pytest.mark.parametrize(
    "text",
    ["1,forest\n2,water\n", "value,name\n1, forest\n\n2,water,blue\n", "\ufeff1,forest\n2,water"],
)
def test_names_can_be_given_as_a_file(tmp_path, text):
    (tmp_path / "names.csv").write_text(text, "utf-8")
    assert read_class_names(tmp_path / "names.csv") == {1: "forest", 2: "water"}
