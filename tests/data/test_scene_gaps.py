"""What scenes have no data for, what their values are, and where they lie, as files say it."""

import numpy as np
import pytest
import rasterio
from numpy.testing import assert_allclose, assert_array_equal
from rasterio.control import GroundControlPoint
from rasterio.shutil import copy

from tailora.data.scenes.places import Places, has_data
from tailora.data.scenes.scene import RESAMPLINGS, open_scene
from tailora.errors import DataError
from tailora.inference.maps.chip_grid import Block, ChipGrid
from tailora.inference.maps.chip_reader import ChipReader
from tests.data.scenes import NORTH, WEST, traced, write_scene


def whole(scene):
    return scene.read(0, 0, *scene.shape)


def masked(path, pixels, gaps, *, inside=False, **options):
    """A scene with a mask in the file or beside it."""
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside):
        write_scene(path, pixels, **options)
        with rasterio.open(path, "r+") as file:
            file.write_mask(np.where(gaps, 0, 255).astype(np.uint8))
    return path


def some_gaps(rows, columns):
    gaps = np.zeros((rows, columns), dtype=bool)
    gaps[:2, 3:] = gaps[-1, 0] = True
    return gaps


@pytest.mark.parametrize("inside", [True, False])
def test_masks_in_the_file_and_beside_it_are_gaps(inside, tmp_path):
    gaps = some_gaps(9, 14)
    path = masked(tmp_path / "a.tif", traced(2, 20)[:, :9, :14], gaps, inside=inside)
    assert (tmp_path / "a.tif.msk").exists() != inside
    scene = open_scene([path])
    assert scene.may_have_gaps
    assert_array_equal(whole(scene)[1], ~gaps)
    assert_array_equal(scene.read(1, 2, 5, 7)[1], ~gaps[1:6, 2:9])
    stated = open_scene([path], nodata=1003)  # in band 2 alone: row 1, column 0
    gaps[1, 0] = True
    assert_array_equal(whole(stated)[1], ~gaps)


def test_a_mask_that_is_written_later_is_seen_when_the_scene_is_opened_anew(tmp_path):
    path = write_scene(tmp_path / "a.tif", traced(1, 8))
    assert whole(open_scene([path]))[1].all()
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False),
        rasterio.open(path, "r") as file,
    ):
        profile = file.profile
    other = masked(tmp_path / "b.tif", traced(1, 8), some_gaps(8, 8), crs=profile["crs"])
    (tmp_path / "b.tif.msk").rename(tmp_path / "a.tif.msk")
    assert other.exists()
    assert_array_equal(whole(open_scene([path]))[1], ~some_gaps(8, 8))


@pytest.mark.parametrize("resampling", RESAMPLINGS)
@pytest.mark.parametrize("how", ["inside", "beside", "value", "stated", "nan"])
def test_gaps_of_coarser_bands_lie_where_they_were_and_nothing_of_them_is_mixed_in(
    how, resampling, tmp_path
):
    gaps = some_gaps(5, 7)
    write_scene(tmp_path / "x_B02.tif", np.full((1, 10, 14), 7, dtype=np.uint16))
    path, pixels = tmp_path / "x_B05.tif", np.where(gaps, 9999, 300)[None].astype(np.uint16)
    if how in ("inside", "beside"):
        masked(path, pixels, gaps, inside=how == "inside", pixel=20.0)
    elif how == "nan":
        write_scene(path, np.where(gaps, np.nan, 300)[None].astype(np.float32), pixel=20.0)
    else:
        write_scene(path, pixels, pixel=20.0, **({"nodata": 9999} if how == "value" else {}))
    scene = open_scene(
        [tmp_path / "x_B02.tif", path],
        nodata=9999 if how == "stated" else None,
        resampling=resampling,
    )
    values, valid = whole(scene)
    expected = ~gaps.repeat(2, axis=0).repeat(2, axis=1)
    assert_array_equal(valid, expected)
    assert set(values[1][valid].tolist()) == {300}
    assert_array_equal(scene.overview(7)[1], ~gaps)  # every other pixel


def test_windows_say_what_the_whole_says(tmp_path):
    rng = np.random.default_rng(3)
    write_scene(tmp_path / "x_B02.tif", rng.integers(1, 9000, (1, 60, 66)).astype(np.uint16))
    coarse = rng.integers(0, 5, (1, 10, 11)).astype(np.uint16) * 1001
    write_scene(tmp_path / "x_B09.tif", coarse, pixel=60.0, nodata=0)
    for resampling in RESAMPLINGS:
        scene = open_scene(sorted(tmp_path.glob("*.tif")), resampling=resampling)
        values, valid = whole(scene)
        assert_array_equal(valid, (coarse[0] != 0).repeat(6, axis=0).repeat(6, axis=1))
        for row, column, height, width in [(0, 0, 1, 1), (13, 29, 8, 5), (31, 3, 29, 63)]:
            part = np.s_[row : row + height, column : column + width]
            found, has = scene.read(row, column, height, width)
            assert_array_equal(has, valid[part])
            assert_array_equal(found[:, has], values[:, *part][:, has])


def test_a_band_half_a_pixel_off_is_the_mean_of_four_on_the_ground_of_both(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 500, (2, 9, 12)).astype(np.float32)
    write_scene(tmp_path / "B02.tif", pixels[:1])
    write_scene(tmp_path / "B03.tif", pixels[1:], west=WEST + 5, north=NORTH - 5)
    scene = open_scene([tmp_path / "B02.tif", tmp_path / "B03.tif"])
    # the first row and column of B02 begin outside B03
    assert scene.grid.at(0, 0) == (WEST + 10, NORTH - 10)
    assert scene.shape == (8, 11)
    values, valid = whole(scene)
    assert valid.all()
    b = pixels[1]
    assert_array_equal(values[0], pixels[0, 1:, 1:])
    assert_allclose(values[1], (b[:-1, :-1] + b[1:, :-1] + b[:-1, 1:] + b[1:, 1:]) / 4, rtol=1e-6)


def test_every_band_has_a_nodata_value_of_its_own(tmp_path):
    pixels = np.array([[[0, 255, 3, 4]], [[255, 0, 5, 255]]], dtype=np.uint8)
    write_scene(tmp_path / "B02.tif", pixels[:1], nodata=0)
    write_scene(tmp_path / "B03.tif", pixels[1:], nodata=255)
    expected = [[False, True, True, False]]
    scene = open_scene([tmp_path / "B02.tif", tmp_path / "B03.tif"])
    assert_array_equal(whole(scene)[1], expected)
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{k}"><NoDataValue>{value}</NoDataValue>'
        f'<SimpleSource><SourceFilename relativeToVRT="1">{name}.tif</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for k, name, value in ((1, "B02", 0), (2, "B03", 255))
    )
    (tmp_path / "both.vrt").write_text(
        '<VRTDataset rasterXSize="4" rasterYSize="1"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>{WEST}, 10, 0, {NORTH}, 0, -10</GeoTransform>{bands}</VRTDataset>"
    )
    assert_array_equal(whole(open_scene([tmp_path / "both.vrt"]))[1], expected)
    stated = open_scene([tmp_path / "both.vrt"], nodata=255)
    assert_array_equal(whole(stated)[1], [[False, False, True, False]])


def test_a_stated_value_replaces_that_of_all_bands_together(tmp_path):
    pixels = np.array([[[0, 0, 3, 4]], [[9, 0, 4, 4]]], dtype=np.uint8)
    path = write_scene(tmp_path / "a.tif", pixels)
    with rasterio.open(path, "r+") as file:
        file.update_tags(NODATA_VALUES="0 0")
    assert_array_equal(whole(open_scene([path]))[1], [[True, False, True, True]])
    assert_array_equal(whole(open_scene([path], nodata=9))[1], [[False, True, True, True]])


def tagged(path, pixels, scales, offsets, **options):
    write_scene(path, pixels, **options)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = scales, offsets
    return path


def test_one_reflectance_stored_in_two_ways_has_one_value(tmp_path):
    dn = np.random.default_rng(0).integers(1, 9999, (2, 30, 40)).astype(np.uint16)
    dn[0, 3, 4] = 0
    later = np.where(dn == 0, 0, dn + 1000).astype(np.uint16)
    one = open_scene([tagged(tmp_path / "a.tif", dn, (1e-4,) * 2, (0.0,) * 2, nodata=0)])
    two = open_scene([tagged(tmp_path / "b.tif", later, (1e-4,) * 2, (-0.1,) * 2, nodata=0)])
    assert one.dtype == two.dtype == "float32"
    assert (one.conversion, two.conversion) == ("uint16 x 0.0001 + 0", "uint16 x 0.0001 - 0.1")
    (a, valid), (b, has) = whole(one), whole(two)
    assert_array_equal(valid, dn[0] > 0)
    assert_array_equal(valid, has)
    assert_array_equal(a[:, valid], b[:, valid])
    assert_array_equal(a[:, valid], (dn / 10_000)[:, valid].astype(np.float32))


def test_bands_with_and_without_tags_and_coarser_ones_keep_their_own(tmp_path):
    fine = tagged(tmp_path / "x_B02.tif", np.full((1, 6, 8), 1500), (1e-4,), (-0.1,))
    coarse = np.full((1, 3, 4), 250, dtype=np.uint8)
    coarse[0, 1, 2] = 9
    other = tagged(tmp_path / "x_B05.tif", coarse, (0.5,), (-3.0,), pixel=20.0, nodata=9)
    plain = write_scene(tmp_path / "x_B08.tif", np.full((1, 6, 8), 77, dtype=np.uint8))
    values, valid = whole(open_scene([fine, other, plain]))
    assert values.dtype == np.float32
    gap = np.zeros((6, 8), dtype=bool)
    gap[2:4, 4:6] = True
    assert_array_equal(valid, ~gap)
    for layer, value in zip(values, (0.05, 122.0, 77.0), strict=True):
        assert_allclose(layer[valid], value, rtol=1e-6)


def without_coordinates(path, *, crs=None):
    pixels = traced(1, 8)
    with rasterio.open(
        path, "w", driver="GTiff", width=8, height=8, count=1, dtype="uint16", crs=crs
    ) as file:
        file.write(pixels)
    return path


WORLD = f"10\n0\n0\n-10\n{WEST + 5}\n{NORTH - 5}\n"
AUX = (
    "<PAMDataset><SRS>EPSG:32633</SRS>"
    f"<GeoTransform>{WEST}, 10, 0, {NORTH}, 0, -10</GeoTransform></PAMDataset>"
)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("where", ["world file", "aux.xml", "envi"])
def test_coordinates_are_found_beside_the_file(where, tmp_path):
    path = tmp_path / "a.tif"
    if where == "world file":
        without_coordinates(path, crs="EPSG:32633")
        path.with_suffix(".tfw").write_text(WORLD)
    elif where == "aux.xml":
        without_coordinates(path)
        path.with_name("a.tif.aux.xml").write_text(AUX)
    else:
        write_scene(path, traced(1, 8))
        copy(path, tmp_path / "e.img", driver="ENVI")
        path = tmp_path / "e.img"
    scene = open_scene([path])
    assert scene.grid.bounds == (WEST, NORTH - 80, WEST + 80, NORTH)
    assert scene.grid.crs.to_epsg() == 32633
    assert_array_equal(whole(scene)[0], traced(1, 8))


def by_points(path):
    without_coordinates(path)
    corners = [(0, 0), (0, 8), (8, 0), (8, 8)]
    with rasterio.open(path, "r+") as file:
        points = [GroundControlPoint(r, c, WEST + 10 * c, NORTH - 10 * r) for r, c in corners]
        file.gcps = points, rasterio.CRS.from_epsg(32634)
    return path


def turned(path):
    write_scene(path, traced(1, 8))
    with rasterio.open(path, "r+") as file:
        file.transform = file.transform @ rasterio.Affine.rotation(20)
    return path


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (by_points, r"by 4 ground control points only; .*--dst-crs EPSG:32634"),
        (without_coordinates, "no geotransform and no coordinate reference system"),
        (lambda p: without_coordinates(p, crs="EPSG:32633"), r"no geotransform, .*\.tfw"),
        (turned, r"not north up; warp it first, .*--dst-crs EPSG:32633"),
        (lambda p: tagged(p, traced(1, 8), (0.0,), (1.0,)), "scale 0 and offset 1"),
        (lambda p: tagged(p, traced(1, 8), (np.inf,), (0.0,)), "scale inf and offset 0"),
    ],
)
def test_what_lies_nowhere_or_has_no_values_says_what_is_missing(make, message, tmp_path):
    with pytest.raises(DataError, match=message):
        open_scene([make(tmp_path / "a.tif")])


def half_empty(path, *, extra=0):
    """A scene of 8 x 8 whose right half, and a few pixels more, hold 255 for no data."""
    pixels = np.zeros((2, 8, 8), dtype=np.uint8)
    pixels[0], pixels[1] = 10, 40
    pixels[0, ::2, 0] = 30
    pixels[:, :, 4:] = 255
    pixels[:, :extra, 3] = 255
    return write_scene(path, pixels, nodata=255)


@pytest.mark.parametrize(("extra", "is_used"), [(0, True), (1, False)])
def test_exactly_the_largest_share_without_data_is_still_enough(extra, is_used, tmp_path):
    scene = open_scene([half_empty(tmp_path / "a.tif", extra=extra)])
    one, zero = np.array([4]), np.array([0])
    places = Places(zero, one, one, zero, zero)
    assert has_data(scene, places, chip=8, most_nodata=0.5).tolist() == [is_used]
    reader = ChipReader(scene, ChipGrid(scene.shape, 8, 8), lambda chip: chip, 0.5)
    assert reader.read(Block(0, 1, 0, 1)).usable.tolist() == [[is_used]]


def test_gaps_of_chips_on_a_map_get_the_mean_of_what_has_data(tmp_path):
    scene = open_scene([half_empty(tmp_path / "a.tif")])
    read = ChipReader(scene, ChipGrid(scene.shape, 8, 8), lambda chip: chip).read(Block(0, 1, 0, 1))
    assert read.images is not None
    chip = read.images[0]
    assert set(chip[0, :, 4:].ravel().tolist()) == {12}  # 12.5, to the even number
    assert set(chip[1].ravel().tolist()) == {40}
    assert chip[0, :, 0].tolist() == [30, 10] * 4
