import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from tailora.data.scenes.scene import open_scene, starts
from tailora.errors import ConfigError, DataError
from tests.data.scenes import NORTH, WEST, traced, write_scene


def bilinear(pixels, places):
    """Values at places along both sides, in pixels from the middle of the first."""
    own = np.arange(len(pixels))
    down = np.array([np.interp(places, own, column) for column in pixels.T]).T
    return np.array([np.interp(places, own, row) for row in down])


def test_window_is_what_rasterio_reads_there(tmp_path):
    path = write_scene(tmp_path / "a.tif", traced(3, 80), names=("B02", "B03", "B04"))
    scene = open_scene([path])
    values, valid = scene.read(13, 27, 20, 31)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(values, file.read(window=Window(27, 13, 31, 20)))
    assert valid.all()
    assert scene.names == ("B02", "B03", "B04")
    assert scene.wavelengths == pytest.approx((0.4924, 0.5598, 0.6646))
    assert scene.grid.at(0, 0) == (WEST, NORTH)


def test_bands_are_read_by_name_in_the_order_asked_for(tmp_path):
    path = write_scene(tmp_path / "a.tif", traced(3, 40), names=("B02", "B03", "B04"))
    values, _ = open_scene([path], bands=["red", "B02"]).read(0, 0, 40, 40)
    np.testing.assert_array_equal(values, traced(3, 40)[[2, 0]])


def test_coarser_bands_in_files_of_their_own_come_to_the_finest_grid(tmp_path):
    fine, coarse = traced(1, 60), traced(1, 10).astype(np.uint16) * 5
    write_scene(tmp_path / "x_B09.tif", coarse, pixel=60.0)
    write_scene(tmp_path / "x_B8A.tif", fine[:, ::2, ::2], pixel=20.0)
    write_scene(tmp_path / "x_B02.tif", fine)
    scene = open_scene(sorted(tmp_path.glob("*.tif")))
    assert scene.names == ("B02", "B8A", "B09")
    assert scene.shape == (60, 60)
    values, _ = scene.read(6, 12, 30, 24)
    np.testing.assert_array_equal(values[0], fine[0, 6:36, 12:36])
    expected = np.floor(bilinear(coarse[0], (np.arange(60) + 0.5) / 6 - 0.5) + 0.5 + 1e-6)
    np.testing.assert_array_equal(values[2], expected[6:36, 12:36])
    nearest, _ = open_scene(sorted(tmp_path.glob("*.tif")), resampling="nearest").read(0, 0, 60, 60)
    np.testing.assert_array_equal(nearest[2], coarse[0].repeat(6, axis=0).repeat(6, axis=1))


def test_grids_that_begin_elsewhere_are_cut_to_common_ground(tmp_path):
    pixels = traced(1, 50)
    write_scene(tmp_path / "B02.tif", pixels)
    write_scene(tmp_path / "B03.tif", pixels, west=WEST + 100, north=NORTH - 50)
    scene = open_scene([tmp_path / "B02.tif", tmp_path / "B03.tif"])
    assert scene.shape == (45, 40)
    assert scene.grid.at(0, 0) == (WEST + 100, NORTH - 50)
    values, _ = scene.read(0, 0, 45, 40)
    np.testing.assert_array_equal(values[0], pixels[0, 5:, 10:])
    np.testing.assert_array_equal(values[1], pixels[0, :45, :40])


def test_gaps_are_what_any_band_has_no_data_for(tmp_path):
    pixels = traced(2, 30) + 1
    pixels[0, :4] = 0
    pixels[1, :, :3] = 0
    scene = open_scene([write_scene(tmp_path / "a.tif", pixels, nodata=0)])
    _, valid = scene.read(0, 0, 30, 30)
    assert scene.may_have_gaps
    np.testing.assert_array_equal(valid, (pixels > 0).all(axis=0))
    plain = open_scene([write_scene(tmp_path / "b.tif", pixels)])
    assert not plain.may_have_gaps
    assert plain.read(0, 0, 30, 30)[1].all()
    stated = open_scene([tmp_path / "b.tif"], nodata=0)
    np.testing.assert_array_equal(stated.read(0, 0, 30, 30)[1], valid)


def test_nan_and_alpha_are_gaps_too(tmp_path):
    pixels = np.ones((1, 20, 20), dtype=np.float32)
    pixels[0, 5, 5] = np.nan
    _, valid = open_scene([write_scene(tmp_path / "f.tif", pixels)]).read(0, 0, 20, 20)
    assert np.argwhere(~valid).tolist() == [[5, 5]]
    colour = np.full((4, 20, 20), 200, dtype=np.uint8)
    colour[3, :7] = 0
    path = write_scene(tmp_path / "a.tif", colour, photometric="RGB", alpha="yes")
    values, valid = open_scene([path]).read(0, 0, 20, 20)
    assert len(values) == 3
    assert np.array_equal(valid, colour[3] > 0)
    values, valid = open_scene([path], alpha=True).read(0, 0, 20, 20)
    np.testing.assert_array_equal(values, colour)
    assert valid.all()
    [note] = open_scene([path]).notes
    assert "'a.tif' declares its last band as alpha" in note
    assert open_scene([path], alpha=True).notes == ()


def test_overview_shows_every_nth_pixel(tmp_path):
    pixels = traced(1, 90)
    values, _ = open_scene([write_scene(tmp_path / "a.tif", pixels)]).overview(30)
    assert values.shape == (1, 30, 30)
    np.testing.assert_array_equal(values[0], pixels[0, 1::3, 1::3])


def test_threads_and_processes_read_the_same(tmp_path):
    scene = open_scene([write_scene(tmp_path / "a.tif", traced(3, 200))])
    sent = pickle.loads(pickle.dumps(scene))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: sent.read(i, 2 * i, 20, 20)[0], range(80)))
    for i, window in enumerate(found):
        np.testing.assert_array_equal(window, traced(3, 200)[:, i : i + 20, 2 * i : 2 * i + 20])


def broken_in_the_middle(path):
    pixels = np.random.default_rng(0).integers(0, 9999, (1, 256, 256)).astype(np.uint16)
    write_scene(path, pixels, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = b"\xff" * 3000
    path.write_bytes(content)
    return path


def test_unreadable_block_in_the_middle_is_named_and_others_are_read(tmp_path):
    scene = open_scene([broken_in_the_middle(tmp_path / "a.tif")])
    assert scene.read(0, 0, 32, 32)[0].any()
    where = r"cannot read rows 0 to 255, columns 0 to 255 of .*a\.tif"
    with pytest.raises(DataError, match=f"{where}': the file is damaged or cut short$"):
        scene.read(0, 0, 256, 256)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "none.tif", "no raster"),
        (lambda p: write_scene(p / "a.tif", traced(1, 8), crs=None), "no coordinate reference"),
        (
            lambda p: write_scene(p / "a.tif", np.ones((1, 8, 8), dtype=np.complex64)),
            "complex pixels",
        ),
        (lambda p: write_scene(p / "a.tif", traced(1, 8), pixel=-10.0), "not north up"),
    ],
)
def test_files_that_cannot_be_laid_on_the_ground_are_refused(tmp_path, make, message):
    with pytest.raises(DataError, match=message):
        open_scene([make(tmp_path)])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"bands": ["B99"]}, ConfigError, "unknown band 'B99'"),
        ({"band_names": ["red"]}, ConfigError, r"has 1 bands \['red'\], but the images have 3"),
        ({"sensor": "sentinel-2"}, ConfigError, "sensor 'sentinel-2' has 13 bands"),
        ({"resampling": "lanczo"}, ConfigError, "unknown resampling"),
        ({"bands": ["red"], "named": False}, DataError, "the files do not name theirs"),
    ],
)
def test_wrong_bands_are_refused(tmp_path, options, error, message):
    names = ("B02", "B03", "B04") if options.pop("named", True) else None
    path = write_scene(tmp_path / "a.tif", traced(3, 8), names=names)
    if "sensor" in options:
        path = write_scene(tmp_path / "b.tif", traced(3, 8))
    with pytest.raises(error, match=message):
        open_scene([path], **options)


def test_bands_of_other_places_or_coordinates_are_no_scene(tmp_path):
    here = write_scene(tmp_path / "B02.tif", traced(1, 8))
    far = write_scene(tmp_path / "B03.tif", traced(1, 8), west=WEST + 9999)
    zone = write_scene(tmp_path / "B04.tif", traced(1, 8), crs="EPSG:32632")
    with pytest.raises(DataError, match="do not overlap"):
        open_scene([here, far])
    with pytest.raises(DataError, match="different CRSs"):
        open_scene([here, zone])


def test_window_must_lie_within(tmp_path):
    scene = open_scene([write_scene(tmp_path / "a.tif", traced(1, 8))])
    with pytest.raises(DataError, match="exceeds scene 'a' of 8 x 8"):
        scene.read(4, 4, 8, 8)


@pytest.mark.parametrize(
    ("length", "expected"),
    [(1025, [0, 1]), (2000, [0, 824, 976]), (4000, [0, 824, 1648, 2472, 2976]), (9, [0])],
)
def test_windows_cover_a_line_and_end_with_it(length, expected):
    assert starts(length, 1024, 824) == expected
