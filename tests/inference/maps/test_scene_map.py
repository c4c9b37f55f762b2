import json
import os
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
from numpy.testing import assert_allclose, assert_array_equal

from tailora.class_colours import class_colours
from tailora.data.scenes.scene import open_scene
from tailora.errors import ConfigError, DataError, RunError, StorageError
from tailora.inference.maps.chip_grid import ChipGrid
from tailora.inference.maps.cloud_optimised import RawRows
from tailora.inference.maps.map_files import MapFiles, sieve_classes
from tailora.inference.maps.scene_map import draw_map, label_dtype
from tests.data.scenes import NORTH, WEST, write_scene
from tests.end_to_end.chips import snapshot
from tests.inference.maps.planted import NAMES, classifier, halves


def files_in(folder):
    return MapFiles(
        folder / "map.tif", folder / "p.tif", folder / "confidence.tif", folder / "map.gpkg"
    )


def draw(path, folder, *, chip=16, step=8, tokens=1, model=None, files=None, **options):
    scene = open_scene([path])
    grid = ChipGrid(scene.shape, chip, step, tokens)
    return draw_map(scene, model or classifier(tokens), grid, files or files_in(folder), **options)


def read(path):
    with rasterio.open(path) as file:
        return file.read()


def expected_shares(pixels, valid, chip, step, *, most_nodata=0.5, shift=0):
    """Pixel by pixel and chip by chip: the weighted mean, summed over the pixels of each cell."""
    _, rows, columns = pixels.shape
    ramp = min(chip - step, chip / 2)
    fine = (np.arange(chip * 64) + 0.5) / 64
    near = np.minimum(fine, chip - fine)
    profile = np.where(near < ramp, 0.5 - 0.5 * np.cos(np.pi * near / max(ramp, 1)), 1.0) + 1e-6
    weight = np.outer(*[profile.reshape(chip, 64).mean(axis=1)] * 2)
    sums, total = np.zeros((2, rows, columns)), np.zeros((rows, columns))
    for top in sorted({0, *range(shift, rows - chip + 1, step), rows - chip}):
        for left in sorted({0, *range(shift, columns - chip + 1, step), columns - chip}):
            part = np.s_[top : top + chip, left : left + chip]
            mask = valid[part]
            if not mask.any() or mask.mean() < 1 - most_nodata:
                continue
            means = pixels[:, *part][:, mask].mean(axis=1)
            sums[:, *part] += weight * (means / means.sum())[:, None, None]
            total[part] += weight
    down, right = -(-rows // step), -(-columns // step)
    cells = np.zeros((2, down, right))
    weights = np.zeros((down, right))
    for row in range(rows):
        for column in range(columns):
            cells[:, row // step, column // step] += sums[:, row, column]
            weights[row // step, column // step] += total[row, column]
    with np.errstate(invalid="ignore"):
        return cells / weights


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (67, 131), (16, 40), (9, 30), (5, 7)])
def test_a_constant_field_stays_constant(tokens, rows, columns, tmp_path):
    pixels = np.stack([np.full((rows, columns), 30), np.full((rows, columns), 90)]).astype(np.uint8)
    path = write_scene(tmp_path / "a.tif", pixels)
    draw(path, tmp_path, tokens=tokens)
    assert (read(tmp_path / "map.tif") == 2).all()
    found = read(tmp_path / "p.tif")
    assert (found[0] == np.float32(0.25)).all()
    assert (found[1] == np.float32(0.75)).all()


@pytest.mark.parametrize("step", [4, 8, 11, 16])
def test_a_boundary_comes_to_lie_within_a_step_and_corners_where_they_were(step, tmp_path):
    path = write_scene(tmp_path / "a.tif", halves(70, 130, 61), crs="EPSG:32616")
    draw(path, tmp_path, step=step)
    with rasterio.open(tmp_path / "map.tif") as file:
        labels = file.read(1)
        assert file.crs == rasterio.CRS.from_epsg(32616)
        assert (file.bounds.left, file.bounds.top) == (WEST, NORTH)
        size = step * 10.0
        assert file.res == (size, size)
        assert 0 <= file.bounds.right - (WEST + 1300) < size
        assert 0 <= (NORTH - 700) - file.bounds.bottom < size
    first_water = (labels == 2).argmax(axis=1)
    assert (np.abs(first_water * step - 61) <= step).all()
    assert (np.diff(labels.astype(int), axis=1) >= 0).all()


def test_dense_answers_put_the_boundary_nearer(tmp_path):
    path = write_scene(tmp_path / "a.tif", halves(64, 128, 62))
    for name, tokens in (("chips", 1), ("dense", 4)):
        (tmp_path / name).mkdir()
        draw(path, tmp_path / name, step=16, tokens=tokens)
    dense = read(tmp_path / "dense" / "map.tif")[0]
    assert dense.shape == (16, 32)
    first_water = (dense == 2).argmax(axis=1) * 4
    assert (np.abs(first_water - 62) <= 4).all()


@pytest.mark.parametrize(("chip", "step"), [(16, 8), (16, 5), (12, 12)])
def test_shares_are_the_weighted_mean_of_the_chips_over_each_cell(chip, step, tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 255, (2, 45, 61)).astype(np.uint8)
    pixels[:, 10:30, 20:45] = 0  # declared as no data below
    path = write_scene(tmp_path / "a.tif", pixels, nodata=0)
    summary = draw(path, tmp_path, chip=chip, step=step)
    valid = (pixels != 0).all(axis=0)
    filled = pixels.astype(float)
    expected = expected_shares(filled, valid, chip, step)
    found = read(tmp_path / "p.tif")
    known = ~np.isnan(found[0])
    assert 0.5 < known.mean() < 1
    # chips with gaps are filled by whole numbers before they are classified
    assert_allclose(found[:, known], expected[:, known], atol=2e-3)
    assert_allclose(read(tmp_path / "confidence.tif")[0][known], found.max(axis=0)[known])
    labels = read(tmp_path / "map.tif")[0]
    assert_array_equal(labels[known], found.argmax(axis=0)[known] + 1)
    assert (labels[~known] == 0).all()
    assert summary.no_class == (~known).sum()
    assert summary.left_out > 0
    assert sum(summary.cells.values()) == known.sum()


def noise(rows, columns, seed=0):
    return np.random.default_rng(seed).integers(1, 255, (2, rows, columns)).astype(np.uint8)


def with_doubt(folder):
    return MapFiles(folder / "map.tif", confidence=folder / "sure.tif", doubt=folder / "doubt.tif")


@pytest.mark.parametrize(("chip", "step"), [(16, 8), (16, 5)])
def test_doubt_is_the_lead_of_another_class_in_shifted_chips(chip, step, tmp_path):
    pixels = noise(45, 61)
    pixels[:, 10:30, 20:45] = 0
    path = write_scene(tmp_path / "a.tif", pixels, nodata=0)
    draw(path, tmp_path, chip=chip, step=step, files=with_doubt(tmp_path))
    valid = (pixels != 0).all(axis=0)
    shifted = expected_shares(pixels.astype(float), valid, chip, step, shift=step // 2)
    labels = read(tmp_path / "map.tif")[0].astype(int)
    known = labels > 0
    own = np.take_along_axis(shifted, np.maximum(labels - 1, 0)[None], axis=0)[0]
    lead, unsure = read(tmp_path / "doubt.tif")
    assert_array_equal(np.isnan(unsure), ~known)
    assert np.isnan(lead[~known]).all()
    expected = shifted.max(axis=0) - own
    assert 0.02 < (expected[known] > 0.001).mean() < 0.6
    assert_allclose(lead[known], expected[known], atol=4e-3)
    assert_allclose(unsure[known], 1 - read(tmp_path / "sure.tif")[0][known], atol=1e-6)


def test_doubt_of_a_constant_field_is_none(tmp_path):
    path = write_scene(tmp_path / "a.tif", np.full((2, 33, 40), 7, np.uint8))
    draw(path, tmp_path, chip=8, step=4, tokens=8, files=with_doubt(tmp_path))
    lead, unsure = read(tmp_path / "doubt.tif")
    assert (lead == 0).all()
    assert (unsure == 0.5).all()


@pytest.mark.parametrize("calls", [2, 9])
def test_a_map_with_doubt_resumes_in_either_pass(calls, tmp_path):
    """About six blocks of each pass: one stop is in the first, the other in the second."""
    path = write_scene(tmp_path / "a.tif", noise(400, 70))
    for name in ("whole", "resumed"):
        (tmp_path / name).mkdir()
    options = {"chip": 16, "step": 8}
    draw(path, tmp_path / "whole", files=with_doubt(tmp_path / "whole"), sieve=3, **options)
    files, left = with_doubt(tmp_path / "resumed"), iter(range(calls))

    def interrupted(images):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return classifier().predict(images)

    with pytest.raises(KeyboardInterrupt):
        draw(path, tmp_path / "resumed", files=files, sieve=3,
             model=classifier(predict=interrupted), **options)  # fmt: skip
    draw(path, tmp_path / "resumed", files=files, sieve=3, resume=True, **options)
    assert snapshot(tmp_path / "whole") == snapshot(tmp_path / "resumed")


def test_small_areas_take_the_class_of_the_largest_beside_them(tmp_path):
    """By hand: one cell, two that touch at a corner, a pair, and cells beside no class."""
    values = np.array([
        [1, 1, 1, 1, 1, 0, 2],
        [1, 2, 1, 1, 1, 0, 2],
        [1, 1, 2, 1, 3, 0, 0],
        [1, 1, 1, 1, 3, 3, 2],
        [4, 4, 1, 1, 3, 3, 3],
    ], dtype=np.uint8)  # fmt: skip
    rows = RawRows(tmp_path / "a.raw", 1, values.shape, "uint8")
    rows.reserve()
    rows.write(0, values[:, None])
    single = {(1, 1): 1, (2, 2): 1, (3, 6): 3}
    for least, becomes in ((2, single), (3, {**single, (4, 0): 1, (4, 1): 1})):
        expected = values.copy()
        for place, value in becomes.items():
            expected[place] = value
        out = RawRows(tmp_path / "b.raw", 1, values.shape, "uint8")
        assert sieve_classes(rows, least, out) == len(becomes)
        assert_array_equal(out.read(0, 5), expected)


def test_a_sieved_map_counts_and_outlines_what_is_left(tmp_path):
    pixels = halves(64, 64, 32)
    pixels[:, 8:16, 8:16] = pixels[::-1, 8:16, 8:16]  # four cells of water in the forest
    path = write_scene(tmp_path / "a.tif", pixels)
    summary = draw(path, tmp_path, chip=4, step=4, sieve=5)
    assert summary.sieved == 4
    assert summary.cells == {"forest": 128, "water": 128}
    assert summary.polygons == 2
    assert (read(tmp_path / "map.tif")[0][:, :8] == 1).all()


def test_cells_without_data_have_no_class(tmp_path):
    pixels = halves(64, 64, 32)
    pixels[:, :24] = 255
    path = write_scene(tmp_path / "a.tif", pixels, nodata=255)
    draw(path, tmp_path, chip=16, step=8)
    labels = read(tmp_path / "map.tif")[0]
    assert (labels[:3] == 0).all()
    assert (labels[3:] > 0).all()


@pytest.mark.parametrize(("columns", "has_class"), [(3, False), (4, True), (5, True)])
def test_a_cell_needs_data_in_half_of_its_pixels(columns, has_class, tmp_path):
    pixels = halves(32, 32, 16)
    pixels[:, :, columns:16] = 255
    path = write_scene(tmp_path / "a.tif", pixels, nodata=255)
    draw(path, tmp_path, chip=16, step=8, most_nodata=0.9)
    labels = read(tmp_path / "map.tif")[0]
    assert ((labels[:, 0] > 0) == has_class).all()
    assert (labels[:, 1] == 0).all()
    assert (labels[:, 2:] == 2).all()


class KilledError(Exception):
    pass


def dies_after(n, model):
    """The model, which is killed at its n-th batch."""
    calls = []

    def predict(images):
        calls.append(1)
        if len(calls) > n:
            raise KilledError
        return model.predict(images)

    return classifier(predict=predict)


@pytest.mark.parametrize("after", [3, 7, 20])
def test_a_resumed_map_has_the_same_bytes(after, tmp_path):
    rng = np.random.default_rng(1)
    path = write_scene(tmp_path / "a.tif", rng.integers(1, 255, (2, 300, 240)).astype(np.uint8))
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    summary = draw(path, whole, step=6)
    with pytest.raises(KilledError):
        draw(path, stopped, step=6, model=dies_after(after, classifier()))
    assert [p.name for p in stopped.iterdir()] == ([".map.tif.unfinished"] if after > 6 else [])
    again = draw(path, stopped, step=6, resume=True)
    assert again.to_json() == summary.to_json()
    assert {p.name for p in whole.iterdir()} == {p.name for p in stopped.iterdir()}
    for name in (
        "map.tif", "p.tif", "confidence.tif", "map.qml", "map.tif.aux.xml", "map.gpkg",
    ):  # fmt: skip
        assert (whole / name).read_bytes() == (stopped / name).read_bytes(), name


def test_only_what_is_missing_is_done_when_resumed(tmp_path):
    path = write_scene(tmp_path / "a.tif", halves(200, 200, 80))
    with pytest.raises(KilledError):
        draw(path, tmp_path / "m", step=4, model=dies_after(30, classifier()))
    batches = []

    def predict(images):
        batches.append(len(images))
        return classifier().predict(images)

    draw(path, tmp_path / "m", step=4, model=classifier(predict=predict), resume=True)
    assert 0 < sum(batches) < len(ChipGrid((200, 200), 16, 4)) * 0.7
    batches.clear()
    before = snapshot(tmp_path)
    kept = draw(path, tmp_path / "m", step=4, model=classifier(predict=predict), resume=True)
    assert not batches
    assert kept.cells["forest"] > 0
    assert kept.polygons == 2
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("change", ["model", "step", "scene", "one pixel", "mask", "outputs"])
def test_an_unfinished_map_of_another_making_is_not_resumed(change, tmp_path):
    path = write_scene(tmp_path / "a.tif", halves(200, 200, 80))
    with pytest.raises(KilledError):
        draw(path, tmp_path / "m", step=4, model=dies_after(30, classifier()))
    options = {"step": 4}
    if change == "model":
        options["model"] = classifier(mark="other")
    elif change == "step":
        options["step"] = 5
    elif change == "scene":
        write_scene(path, halves(200, 200, 90))
    elif change == "one pixel":  # in the middle of the file, and the time stays
        status = path.stat()
        content = bytearray(path.read_bytes())
        assert content[len(content) // 2] in (0, 200)
        content[len(content) // 2] = 9
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "mask":  # beside the file, which stays as it is
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="NO"), rasterio.open(path, "r+") as file:
            file.write_mask(np.arange(200 * 200).reshape(200, 200) > 300)
    else:
        options["files"] = MapFiles(tmp_path / "m" / "map.tif")
    with pytest.raises(RunError, match="another scene, run or options"):
        draw(path, tmp_path / "m", resume=True, **options)
    draw(path, tmp_path / "m", **options)  # without resume it begins anew
    assert (tmp_path / "m" / "map.tif").exists()
    assert not (tmp_path / "m" / ".map.tif.unfinished").exists()


def broken_scene(path):
    """A file of strips of 8 rows; bytes in the middle of one strip are overwritten."""
    rng = np.random.default_rng(2)
    pixels = rng.integers(1, 255, (2, 96, 80)).astype(np.uint8)
    write_scene(path, pixels, compress="deflate", blockysize=8, interleave="pixel")
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_0_6", "TIFF", bidx=1))
    content = bytearray(path.read_bytes())
    content[offset : offset + 40] = b"\xff" * 40
    path.write_bytes(content)
    return pixels


def test_an_unreadable_block_stops_or_is_left_out_and_counted(tmp_path):
    path = tmp_path / "a.tif"
    pixels = broken_scene(path)
    with pytest.raises(DataError, match=r"rows .* --skip-broken"):
        draw(path, tmp_path / "m")
    assert not (tmp_path / "m").exists() or not list((tmp_path / "m").iterdir())
    summary = draw(path, tmp_path / "m", skip_broken=True)
    # rows 48 to 55 are lost: chips of 16 at steps of 8 that begin at 40 and 48 touch them
    assert summary.broken == 2 * 9
    labels = read(tmp_path / "m" / "map.tif")[0]
    assert (labels[6] == 0).all()
    assert (labels[[0, 1, 2, 3, 4, 8, 9, 10, 11]] > 0).all()
    good = write_scene(tmp_path / "good.tif", pixels)
    draw(good, tmp_path / "g")
    assert_array_equal(labels[:5], read(tmp_path / "g" / "map.tif")[0][:5])


def test_a_scene_without_any_data_gives_no_map(tmp_path):
    path = write_scene(tmp_path / "a.tif", np.zeros((2, 40, 40), dtype=np.uint8), nodata=0)
    before = snapshot(tmp_path)
    with pytest.raises(DataError, match=r"no chip .* can be mapped"):
        draw(path, tmp_path)
    assert {k for k in snapshot(tmp_path) if ".tif" in k} == {k for k in before if ".tif" in k}


def test_the_map_says_what_it_was_made_of(tmp_path):
    path = write_scene(tmp_path / "a.tif", halves(64, 64, 30))
    draw(path, tmp_path)
    with rasterio.open(tmp_path / "map.tif") as file:
        said = json.loads(file.tags()["TAILORA"])
        assert file.nodata == 0
        assert file.dtypes == ("uint8",)
        assert file.colormap(1)[1] == (27, 120, 55, 255)
    assert set(said["cells"]) == set(NAMES)
    with rasterio.open(tmp_path / "p.tif") as file:
        assert file.descriptions == NAMES


def test_maps_of_many_classes_have_sixteen_bits_and_more_than_that_are_refused(tmp_path):
    path = write_scene(tmp_path / "a.tif", halves(32, 32, 16))
    names = tuple(f"class {i}" for i in range(300))

    def predict(images):
        shares = np.zeros((len(images), 1, 1, 300), dtype=np.float32)
        shares[..., 299] = 1
        return shares

    draw(path, tmp_path, model=classifier(names=names, predict=predict))
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.dtypes == ("uint16",)
        assert (file.read(1) == 300).all()
        assert file.colorinterp[0].name == "palette"
    with pytest.raises(ConfigError, match=r"at most 65535 classes .* has 70000"):
        label_dtype(70_000)
    assert label_dtype(65_535) == "uint16"


def test_bands_values_and_colours_keep_the_order_of_the_classes(tmp_path):
    """Unsorted names, unequal shares: 1/7, 4/7 and 2/7 everywhere."""
    names = ("water", "bare", "forest")
    pixels = np.stack([np.full((32, 48), v) for v in (30, 120, 60)]).astype(np.uint8)
    path = write_scene(tmp_path / "a.tif", pixels)
    summary = draw(path, tmp_path, model=classifier(names=names))
    with rasterio.open(tmp_path / "p.tif") as file:
        assert file.descriptions == names
        assert_allclose(file.read()[:, 1, 2], np.array([1, 4, 2]) / 7, atol=1e-6)
    with rasterio.open(tmp_path / "map.tif") as file:
        assert (file.read(1) == 2).all()
        assert [file.colormap(1)[i][:3] for i in (1, 2, 3)] == class_colours(names)
    assert summary.cells == {"water": 0, "bare": 24, "forest": 0}
    assert summary.verdicts == {"water": "trusted", "bare": "weak", "forest": "untested"}
    table = (tmp_path / "map.tif.aux.xml").read_text("utf-8")
    assert "<F>2</F><F>bare</F><F>weak</F><F>24</F><F>1.0</F>" in table
    _, _, _, columns = pyogrio.raw.read(tmp_path / "map.gpkg")
    assert [column[0] for column in columns[:3]] == ["bare", 2, "weak"]


def test_the_fill_of_gaps_is_the_mean_of_what_has_data(tmp_path):
    """Nodata 255 would lift both means and make the shares 0.42 and 0.58, not 0.25 and 0.75."""
    pixels = np.stack([np.full((16, 16), 30), np.full((16, 16), 90)]).astype(np.uint8)
    pixels[:, :5] = 255
    path = write_scene(tmp_path / "a.tif", pixels, nodata=255)
    draw(path, tmp_path, chip=16, step=16)
    assert_allclose(read(tmp_path / "p.tif")[:, 0, 0], [0.25, 0.75], atol=1e-6)


@pytest.fixture(scope="module")
def whole_maps(tmp_path_factory):
    """Bytes of the files of an old map and of a new one."""
    found = []
    for name, boundary in (("old", 30), ("new", 50)):
        folder = tmp_path_factory.mktemp(name)
        path = write_scene(folder / "a.tif", halves(64, 64, boundary))
        draw(path, folder / "m")
        found.append({p.name: p.read_bytes() for p in (folder / "m").iterdir()})
    return found


def both(tmp_path, old):
    """A scene whose map is there, and another that has the name now."""
    (tmp_path / "m").mkdir()
    for name, content in old.items():
        (tmp_path / "m" / name).write_bytes(content)
    return write_scene(tmp_path / "a.tif", halves(64, 64, 50))


def shown(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".")}


# six files: 0 to 5 are made ready, 6 to 11 of the old ones are hidden, 12 to 17 are shown
@pytest.mark.parametrize("step", [6, 7, 11, 12, 14, 17])
def test_a_map_that_cannot_replace_another_leaves_all_of_the_other(
    step, whole_maps, tmp_path, monkeypatch
):
    old, new = whole_maps
    path, calls, replace = both(tmp_path, old), [], Path.replace

    def fails(source, target):
        if Path(target).parent == tmp_path / "m":
            calls.append(target)
            if len(calls) == step + 1:
                raise PermissionError(13, "Permission denied")
        return replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fails)
        with pytest.raises(StorageError, match="Permission denied"):
            draw(path, tmp_path / "m")
    assert shown(tmp_path / "m") == old
    draw(path, tmp_path / "m", resume=True)
    assert shown(tmp_path / "m") == new
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == sorted(new)


@pytest.mark.parametrize("step", [0, 5, 6, 7, 11, 12, 14, 17])
def test_a_kill_while_a_map_replaces_another_leaves_no_mixture(step, whole_maps, tmp_path):
    old, new = whole_maps
    path = both(tmp_path, old)
    child = os.fork()
    if not child:  # a process that can be killed
        calls, replace = [], Path.replace

        def dies(source, target):
            if Path(target).parent == tmp_path / "m":
                calls.append(target)
                if len(calls) == step + 1:
                    os._exit(9)
            return replace(source, target)

        Path.replace = dies
        draw(path, tmp_path / "m")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    seen = shown(tmp_path / "m")
    assert seen.items() <= old.items() or seen.items() <= new.items()
    if "map.tif" in seen:  # whoever goes by the map itself sees all of one making
        assert seen in (old, new)
    draw(path, tmp_path / "m", resume=True)
    assert shown(tmp_path / "m") == new
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == sorted(new)
