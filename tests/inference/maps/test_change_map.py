"""Maps of changes by a model whose answers can be worked out by hand."""

import json

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform_geom
from shapely.geometry import shape

from tailora.data.scenes.label_raster import read_label_raster
from tailora.data.scenes.scene import open_scene
from tailora.data.scenes.warped import warped_onto
from tailora.errors import DataError
from tailora.inference.maps.change_map import ChangeFiles, PairClassifier, draw_changes
from tailora.inference.maps.chip_grid import ChipGrid
from tailora.metrics.change_rule import compare_shares
from tests.data.scenes import WEST, write_scene
from tests.inference.maps.planted import NAMES, halves, shares_of_bands

ROWS, COLUMNS, CHIP = 30, 50, 8


def model(tokens=CHIP, dates=2):
    shares = shares_of_bands(tokens)
    return PairClassifier(
        NAMES, ["trusted", "weak"], lambda chip: chip.astype(np.float32),
        lambda *images: [shares(one + 1) for one in images], [2] * dates,
        lambda both: compare_shares(*both), "planted",
    )  # fmt: skip


def drawn(tmp_path, before, after, *, tokens=CHIP, name="change.tif", **files):
    first = open_scene([write_scene(tmp_path / "before.tif", before, nodata=255)])
    second = after if not isinstance(after, np.ndarray) else open_scene(
        [write_scene(tmp_path / "after.tif", after, nodata=255)]
    )  # fmt: skip
    grid = ChipGrid(first.shape, CHIP, CHIP // 2, tokens)
    out = tmp_path / name
    found = draw_changes(
        first, warped_onto(first, second), model(tokens), grid, ChangeFiles(out, **files)
    )
    with rasterio.open(out) as file:
        return found, file.read(), (file.profile, file.descriptions, file.tags())


def test_a_map_says_what_changed_into_what(tmp_path):
    """The boundary moves from column 20 to 30: ten columns of water become forest."""
    before, after = halves(ROWS, COLUMNS, 20), halves(ROWS, COLUMNS, 30)
    before[:, :3, :7] = 255  # no data
    found, bands, file = drawn(tmp_path, before, after, polygons=tmp_path / "c.gpkg")
    expected = np.zeros((ROWS, COLUMNS), int)
    expected[:, 20:30] = 1
    expected[:3, :7] = 255
    np.testing.assert_array_equal(bands[0], expected)
    known = expected != 255
    columns = np.broadcast_to(np.arange(COLUMNS), expected.shape)
    np.testing.assert_array_equal(bands[1][known], np.where(columns < 20, 1, 2)[known])
    np.testing.assert_array_equal(bands[2][known], np.where(columns < 30, 1, 2)[known])
    assert (bands[:, ~known] == 255).all()
    assert (bands[3][known] > 90).all()
    profile, descriptions, tags = file
    assert descriptions == ("change", "from", "to", "confidence in %")
    assert (profile["nodata"], profile["dtype"]) == (255, "uint8")
    assert json.loads(tags["TAILORA_CHANGE"])["classes"] == list(NAMES)
    [one] = found.transitions
    assert (one.before, one.after, one.cells) == ("water", "forest", 10 * ROWS)
    assert one.hectares == pytest.approx(10 * ROWS * 100 / 10_000)
    assert one.share == pytest.approx(10 * ROWS / known.sum())
    assert (found.unchanged, found.no_data, found.polygons) == (40 * ROWS - 21, 21, 1)
    text = (tmp_path / "change.tif.aux.xml").read_text("utf-8")
    assert text.count("<PAMRasterBand") == 3
    assert "<Category>unchanged</Category><Category>forest</Category>" in text


def test_a_reference_has_no_errors_of_its_own(tmp_path):
    """Of 3 % wrong pixels at either date 2 * .97 * .03 seem changed; with a reference the 3 %."""
    rng, side = np.random.default_rng(0), 120
    truth = np.arange(side) // 40 % 2 + np.zeros((side, 1), dtype=int)
    noisy = [np.where(rng.random((side, side)) < 0.03, 1 - truth, truth) for _ in range(2)]
    pixels = [np.stack([one == 0, one == 1]) * np.uint8(200) for one in noisy]
    first, second = (
        open_scene([write_scene(tmp_path / f"{i}.tif", one)]) for i, one in enumerate(pixels)
    )
    known = write_scene(tmp_path / "known.tif", (truth + 1).astype(np.uint8)[None])
    reference = read_label_raster(known, second.grid)
    grid, shares = ChipGrid(first.shape, CHIP, CHIP // 2, CHIP), []
    for name, before in (("both", first), ("reference", reference)):
        own = model(dates=2 - (before is reference))
        found = draw_changes(before, second, own, grid, ChangeFiles(tmp_path / f"{name}.tif"))
        shares.append(found.changed / side**2)
    wrong = [one != truth for one in noisy]
    assert shares == [(wrong[0] != wrong[1]).mean(), wrong[1].mean()]
    assert shares == pytest.approx([2 * 0.97 * 0.03, 0.03], abs=0.005)


def test_swapping_dates_swaps_from_and_to_and_equal_dates_have_no_change(tmp_path):
    rng = np.random.default_rng(0)
    before, after = rng.integers(0, 200, (2, 2, ROWS, COLUMNS), dtype=np.uint8)
    after[:, 20:, 45:] = 255
    there, one, _ = drawn(tmp_path, before, after, name="one.tif")
    back, two, _ = drawn(tmp_path, after, before, name="two.tif")
    np.testing.assert_array_equal(one[[0, 2, 1, 3]], two)
    assert {t.cells for t in there.transitions} == {t.cells for t in back.transitions}
    assert (one[0] == 1).mean() > 0.02
    found, same, _ = drawn(tmp_path, before, before, name="same.tif")
    assert found.transitions == ()
    assert not same[0].any()


def test_a_classifier_of_chips_gives_cells(tmp_path):
    found, bands, file = drawn(
        tmp_path, halves(ROWS, 48, 16), halves(ROWS, 48, 32), tokens=1, name="cells.tif"
    )
    assert (found.cell, file[0]["transform"].a) == (CHIP // 2, 40)
    assert (bands[0][:, 5:7] == 1).all()
    assert not bands[0][:, [0, 1, 2, 9, 10, 11]].any()


def test_the_second_date_may_lie_on_another_grid(tmp_path):
    """In degrees, coarser, and larger than the first: changed columns are found all the same."""
    found, reference, _ = drawn(
        tmp_path, halves(ROWS, COLUMNS, 20), halves(ROWS, COLUMNS, 30), name="a.tif"
    )
    with rasterio.open(tmp_path / "after.tif") as file:
        outline = shape(
            transform_geom(file.crs, "EPSG:4326", _outline(file.bounds))
        ).buffer(0.0004)  # fmt: skip
        west, south, east, north = outline.bounds
        size = (60, 80)
        pixel = (east - west) / size[1], (north - south) / size[0]
        transform = rasterio.Affine(pixel[0], 0, west, 0, -pixel[1], north)
        other = np.zeros((2, *size), dtype=np.uint8)
        rasterio.warp.reproject(
            file.read(), other, src_transform=file.transform, src_crs=file.crs,
            dst_transform=transform, dst_crs="EPSG:4326", dst_nodata=255, init_dest_nodata=True,
            resampling=rasterio.enums.Resampling.nearest,
        )  # fmt: skip
    with rasterio.open(
        tmp_path / "degrees.tif", "w", driver="GTiff", width=size[1], height=size[0], count=2,
        dtype="uint8", crs="EPSG:4326", transform=transform, nodata=255,
    ) as file:  # fmt: skip
        file.write(other)
    second = open_scene([tmp_path / "degrees.tif"])
    warped, bands, _ = drawn(tmp_path, halves(ROWS, COLUMNS, 20), second, name="b.tif")
    known = bands[0] != 255
    assert known.mean() > 0.85  # but for a rim
    assert (bands[0] == reference[0])[known].mean() > 0.97
    assert warped.transitions[0].after == found.transitions[0].after == "forest"


def _outline(bounds):
    return {
        "type": "Polygon",
        "coordinates": [[
            (bounds.left, bounds.top), (bounds.right, bounds.top), (bounds.right, bounds.bottom),
            (bounds.left, bounds.bottom), (bounds.left, bounds.top),
        ]],
    }  # fmt: skip


def test_a_shifted_date_is_compared_where_both_have_data(tmp_path):
    pixels = halves(ROWS, COLUMNS, 20)
    shifted = write_scene(tmp_path / "east.tif", pixels[:, :, 12:], west=WEST + 120)
    found, bands, _ = drawn(tmp_path, pixels, open_scene([shifted]))
    assert (bands[0][:, :12] == 255).all()
    assert not bands[0][:, 12:].any()
    assert (found.unchanged, found.no_data) == (38 * ROWS, 12 * ROWS)


def test_much_finer_pixels_are_averaged(tmp_path):
    fine = np.random.default_rng(0).integers(0, 200, (1, 40, 40), dtype=np.uint8)
    first = open_scene([write_scene(tmp_path / "a.tif", np.zeros((1, 8, 8), np.uint8))])
    second = open_scene([write_scene(tmp_path / "b.tif", fine, pixel=2.0)])
    values, valid = warped_onto(first, second).read(2, 0, 6, 8)
    means = fine[0].reshape(8, 5, 8, 5).mean(axis=(1, 3))[2:]
    np.testing.assert_allclose(values[0], means, atol=0.51)
    assert valid.all()


def test_scenes_of_other_places_are_refused(tmp_path):
    pixels = halves(ROWS, COLUMNS, 20)
    first = open_scene([write_scene(tmp_path / "a.tif", pixels)])
    for name, west in (("far.tif", WEST + 1e5), ("edge.tif", WEST + 10 * COLUMNS - 3)):
        second = open_scene([write_scene(tmp_path / name, pixels, west=west)])
        with pytest.raises(DataError, match=r"covers 0\.\d % of 'a', at least 1% is needed"):
            warped_onto(first, second)


def test_nothing_is_left_of_a_map_without_common_data(tmp_path):
    pixels = halves(ROWS, COLUMNS, 20)
    with pytest.raises(DataError, match="no chip has enough data at both dates"):
        drawn(tmp_path, pixels, np.full_like(pixels, 255))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after.tif", "before.tif"]
