import itertools
import re
import struct

import numpy as np
import pytest
import rasterio
import rasterio.shutil

from tailora.class_colours import class_colours
from tailora.data.rasters.readers import Grid
from tailora.inference.maps.class_legend import MapClass, attribute_table, qgis_style
from tailora.inference.maps.cloud_optimised import About, RawRows, write_cloud_optimised

GRID = Grid(
    rasterio.CRS.from_epsg(32633), rasterio.Affine(80, 0, 330_000, 0, -80, 5_822_000), 900, 1300
)
NAMES = ("forest", 'water & "ice"', "<bare>")
COLOURS = class_colours(NAMES)
CLASSES = [
    MapClass(i + 1, name, ("trusted", "weak", "untested")[i], COLOURS[i])
    for i, name in enumerate(NAMES)
]


def directories(content):
    """Offset, width and tile offsets of every image of a little-endian classic TIFF."""
    found, (place,) = [], struct.unpack_from("<I", content, 4)
    while place:
        (count,) = struct.unpack_from("<H", content, place)
        tags = {}
        for i in range(count):
            tag, kind, n, value = struct.unpack_from("<HHII", content, place + 2 + 12 * i)
            tags[tag] = (kind, n, value)
        _, n, value = tags[324]
        offsets = struct.unpack_from(f"<{n}I", content, value) if n > 1 else (value,)
        found.append((place, tags[256][2] & 0xFFFF, offsets))
        (place,) = struct.unpack_from("<I", content, place + 2 + 12 * count)
    return found


@pytest.fixture
def labels(tmp_path):
    values = np.random.default_rng(0).integers(0, 4, (9, 13)).repeat(100, 0).repeat(100, 1)
    raw = RawRows(tmp_path / "a.raw", 1, (900, 1300), "uint8")
    raw.reserve()
    raw.write(300, values[300:, None])
    raw.write(0, values[:300, None])
    return raw, values


def test_a_map_is_a_cloud_optimised_geotiff(labels, tmp_path):
    raw, values = labels
    about = About(GRID, 0, {"A": "<b>"}, ["class"], ((0, 0, 0), *COLOURS))
    write_cloud_optimised(raw, about, tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as file:
        np.testing.assert_array_equal(file.read(1), values)
        assert file.transform == GRID.transform
        assert file.crs == GRID.crs
        assert file.nodata == 0
        assert file.profile["tiled"]
        assert file.profile["compress"] == "deflate"
        assert file.overviews(1) == [2, 4]
        assert file.tags()["A"] == "<b>"
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.colormap(1)[2] == (*COLOURS[1], 255)
    content = (tmp_path / "a.tif").read_bytes()
    found = directories(content)
    assert [width for _, width, _ in found] == [1300, 650, 325]
    # all headers come before all tiles, and coarse tiles before fine ones
    assert max(place for place, _, _ in found) < min(min(o) for _, _, o in found)
    for (_, _, fine), (_, _, coarse) in itertools.pairwise(found):
        assert max(coarse) < min(fine)


def test_bands_of_probabilities_come_back_with_their_names(tmp_path):
    shares = np.random.default_rng(0).random((20, 3, 30)).astype(np.float32)
    shares[3, :, 7] = np.nan
    raw = RawRows(tmp_path / "p.raw", 3, (20, 30), "float32")
    raw.reserve()
    raw.write(0, shares)
    grid = Grid(GRID.crs, GRID.transform, 20, 30)
    write_cloud_optimised(raw, About(grid, float("nan"), {}, NAMES), tmp_path / "p.tif")
    with rasterio.open(tmp_path / "p.tif") as file:
        np.testing.assert_array_equal(file.read(), shares.swapaxes(0, 1))
        assert file.descriptions == NAMES
        assert np.isnan(file.nodata)
        assert not file.dataset_mask()[3, 7]


def test_gdal_finds_class_names_and_the_attribute_table_beside_the_map(labels, tmp_path):
    raw, _ = labels
    about = About(GRID, 0, {}, ["class"], ((0, 0, 0), *COLOURS))
    write_cloud_optimised(raw, about, tmp_path / "a.tif")
    (tmp_path / "a.tif.aux.xml").write_text(attribute_table(CLASSES, {1: 30, 3: 10}), "utf-8")
    # a virtual copy holds whatever GDAL has found
    rasterio.shutil.copy(tmp_path / "a.tif", tmp_path / "copy.vrt", driver="VRT")
    said = (tmp_path / "copy.vrt").read_text("utf-8")
    categories = said.partition("<CategoryNames>")[2].partition("</CategoryNames>")[0]
    assert [line.strip() for line in categories.strip().splitlines()] == [
        "<Category>no data</Category>",
        "<Category>forest</Category>",
        '<Category>water &amp; "ice"</Category>',
        "<Category>&lt;bare&gt;</Category>",
    ]
    table = said.partition("<GDALRasterAttributeTable")[2]
    rows = [
        re.findall("<F>(.*?)</F>", row)
        for row in re.findall("<Row.*?</Row>", table, flags=re.DOTALL)
    ]
    # the value a row tells of, and not its number: 0 is no class
    assert [row[:5] for row in rows] == [
        ["1", "forest", "trusted", "30", "0.75"],
        ["2", 'water &amp; "ice"', "weak", "0", "0"],
        ["3", "&lt;bare&gt;", "untested", "10", "0.25"],
    ]
    assert [tuple(map(int, row[5:])) for row in rows] == COLOURS


def test_overviews_show_the_class_most_cells_have_and_the_mean_of_probabilities(tmp_path):
    # of each 2 x 2 cells three are of class 1 and one of class 3; the mean of their colours, which
    # GDAL would look up, is the colour of class 2
    greys = ((0, 0, 0), (10, 10, 10), (70, 70, 70), (250, 250, 250))
    values = np.tile(np.array([[1, 1], [3, 1]], dtype=np.uint8), (300, 300))
    raw = RawRows(tmp_path / "a.raw", 1, (600, 600), "uint8")
    raw.reserve()
    raw.write(0, values[:, None])
    grid = Grid(GRID.crs, GRID.transform, 600, 600)
    write_cloud_optimised(raw, About(grid, 0, {}, ["class"], greys), tmp_path / "a.tif")
    shares = RawRows(tmp_path / "p.raw", 1, (600, 600), "float32")
    shares.reserve()
    shares.write(0, values[:, None] / np.float32(4))
    write_cloud_optimised(shares, About(grid, float("nan"), {}, ["p"]), tmp_path / "p.tif")
    with rasterio.open(tmp_path / "a.tif", overview_level=0) as file:
        np.testing.assert_array_equal(file.read(1), np.ones((300, 300)))
    with rasterio.open(tmp_path / "p.tif", overview_level=0) as file:
        np.testing.assert_array_equal(file.read(1), np.full((300, 300), 0.375))  # (3 x 1 + 3) / 16


def test_the_style_of_qgis_names_every_class_and_doubts_weak_ones():
    style = qgis_style(CLASSES)
    assert 'value="1" color="#1b7837" alpha="255" label="forest"' in style
    assert "label='water &amp; \"ice\" (weak)'" in style
    assert 'label="&lt;bare&gt; (untested)"' in style
    from xml.etree import ElementTree

    entries = list(ElementTree.fromstring(style).iter("paletteEntry"))
    assert [entry.get("label") for entry in entries][1] == 'water & "ice" (weak)'


@pytest.mark.parametrize("n", [1, 40, 3000])
def test_every_class_has_a_colour_of_its_own(n):
    names = ["sea", "lake", "river", "pond", "ocean"] + [f"class {i}" for i in range(n)]
    colours = class_colours(names)
    assert len(set(colours)) == len(names)
    assert (0, 0, 0) not in colours
    assert class_colours(names) == colours
