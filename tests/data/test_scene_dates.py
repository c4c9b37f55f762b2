"""Two scenes of one place as pairs of windows: where the second lies, and what labels mean."""

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform

from tailora.data.scenes.warped import WarpedScene
from tailora.data.sources import file_mark
from tailora.errors import ConfigError, DataError
from tailora.tasks.task import find_task
from tests.data.scenes import NORTH, WEST, box, write_labels, write_scene

SIDE, CHIP, PIXEL = 96, 16, 10.0


def ramp(xs, ys):
    """A plane over the ground, in the coordinates of the first scene."""
    return ((xs - WEST) / 20 + (NORTH - ys) / 40 + 300).astype(np.float32)


def centres(rows, columns, pixel, west, north):
    at = np.mgrid[0:rows, 0:columns] + 0.5
    return west + pixel * at[1], north - pixel * at[0]


def second(path, *, crs="EPSG:32633", pixel=PIXEL, shift=0.0, rows=110, dtype=np.float32):
    """The plane on another grid; it covers the first scene unless it has few rows."""
    (west,), (north,) = transform("EPSG:32633", crs, [WEST - 50 + shift], [NORTH + 50])
    xs, ys = centres(rows, 110, pixel, west, north)
    east, up = transform(crs, "EPSG:32633", xs.ravel(), ys.ravel())
    values = ramp(np.array(east), np.array(up)).reshape(xs.shape).astype(dtype)
    return write_scene(path, np.stack([values] * 2), pixel=pixel, west=west, north=north, crs=crs)


def squares():
    """Polygons of a window each, with land cover before and after."""
    rng = np.random.default_rng(0)
    shapes, kinds = [], []
    for row in range(0, SIDE, CHIP):
        for column in range(0, SIDE, CHIP):
            shapes.append(box(row, column, CHIP, CHIP // 2))
            kinds.append(("forest", "forest") if rng.random() < 0.5 else ("forest", "mine"))
    return shapes, kinds


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dates")
    first = ramp(*centres(SIDE, SIDE, PIXEL, WEST, NORTH))
    write_scene(folder / "before.tif", np.stack([first] * 2))
    second(folder / "after.tif", shift=3.0)
    shapes, kinds = squares()
    write_labels(folder / "changes.gpkg", shapes, [f"{a} -> {b}" for a, b in kinds])
    write_labels(folder / "one.gpkg", shapes[::2], ["change"] * len(shapes[::2]))
    write_labels(folder / "kinds.gpkg", shapes, ["clearing", "mowing"] * (len(shapes) // 2))
    write_labels(folder / "only.gpkg", shapes, ["a -> b", "a -> c"] * (len(shapes) // 2))
    cover = np.ones((1, SIDE, SIDE), np.uint8)
    later = cover.copy()
    later[:, :, ::2] = 2
    for name, values in (("cover", cover), ("later", later), ("mask", (later > 1) * np.uint8(7))):
        if name == "cover":
            values[:, :, ::3] = 2
        write_scene(folder / f"{name}.tif", values)
    return folder


def opened(place, labels="changes.gpkg", *, after="after.tif", options="", **more):
    source = f"{place / 'before.tif'}:after={place / after}:block=32{options}"
    if labels.endswith("gpkg"):
        more = {"class_field": "landuse", **more}
    return find_task("change").open(source, labels=str(place / labels), chip=CHIP, **more)


def corner(data, i):
    row, column = data.source.id(i).split("-row")[1].split("-column")
    return int(row) - CHIP // 2, int(column) - CHIP // 2


@pytest.mark.parametrize(
    ("crs", "pixel", "tolerance"),
    [("EPSG:32633", 10.0, 1e-4), ("EPSG:32634", 10.5, 0.02), ("EPSG:3857", 16.0, 0.05)],
)
def test_the_second_date_is_brought_to_the_pixels_of_the_first(place, crs, pixel, tolerance):
    second(place / "other.tif", crs=crs, pixel=pixel, shift=4.0)
    data = opened(place, after="other.tif")
    assert data.dates == 2
    assert len(data) > 15
    warps = [note for note in data.notes if "is warped" in note]
    assert len(warps) == 1
    assert crs in warps[0]
    for i in (0, len(data) // 2):
        image = data.source.read(i)
        top, left = corner(data, i)
        xs, ys = centres(CHIP, CHIP, PIXEL, WEST + PIXEL * left, NORTH - PIXEL * top)
        assert image.shape == (4, CHIP, CHIP)
        np.testing.assert_array_equal(image[0], ramp(xs, ys))
        np.testing.assert_allclose(image[2], ramp(xs, ys), atol=tolerance)


def test_polygons_name_transitions(place):
    data = opened(place)
    assert set(data.classes) >= {"forest → mine", "mine → forest", "forest → forest"}
    kinds = dict(zip([*np.ndindex(SIDE // CHIP, SIDE // CHIP)], squares()[1], strict=True))
    for i in range(len(data)):
        top, left = corner(data, i)
        mask = data.targets.read(i)
        name = " → ".join(kinds[top // CHIP, left // CHIP])
        assert {data.classes[c] for c in np.unique(mask[:, : CHIP // 2])} == {name}
        assert (mask[:, CHIP // 2 :] == -1).all()


def test_what_no_polygon_covers_may_have_stayed(place):
    data = opened(place, "one.gpkg", outside="no change")
    assert data.classes == ("no change", "change")
    mask = data.targets.read(0)
    assert set(np.unique(mask)) <= {0, 1}
    with pytest.raises(DataError, match=r"nothing that stayed.*--outside 'no change'"):
        opened(place, "only.gpkg")


def test_land_cover_of_both_dates(place):
    data = opened(place, "cover.tif", options=f":labels_after={place / 'later.tif'}")
    assert set(data.classes) == {"1 → 1", "1 → 2", "2 → 1", "2 → 2"}
    with rasterio.open(place / "cover.tif") as a, rasterio.open(place / "later.tif") as b:
        before, after = a.read(1), b.read(1)
    for i in (0, 5):
        top, left = corner(data, i)
        part = np.s_[top : top + CHIP, left : left + CHIP]
        said = np.array(data.classes)[data.targets.read(i)]
        expected = np.char.add(
            np.char.add(before[part].astype(str), " → "), after[part].astype(str)
        )
        np.testing.assert_array_equal(said, expected)


def test_a_raster_of_change_needs_no_names(place):
    data = opened(place, "mask.tif")
    assert data.classes == ("no change", "change")
    _, left = corner(data, 0)
    expected = (np.arange(left, left + CHIP) % 2 == 0).astype(int)
    np.testing.assert_array_equal(data.targets.read(0), np.tile(expected, (CHIP, 1)))


def test_ground_that_the_second_date_lacks_is_not_labelled(place):
    second(place / "half.tif", rows=50)
    data = opened(place, after="half.tif")
    assert any("at the second date" in note for note in data.notes)
    assert all(corner(data, i)[0] < 48 for i in range(len(data)))
    part = [i for i in range(len(data)) if corner(data, i)[0] == 32]
    assert (data.targets.read(part[0])[13:] == -1).all()  # its rows end at 45
    assert (data.targets.read(part[0])[:13, : CHIP // 2] >= 0).all()


def test_a_window_of_the_second_date_is_warped_once_before_its_image_is_read(place, monkeypatch):
    """Also where it has no data in a part, and whatever is asked of its labels."""
    second(place / "once.tif", rows=50)
    read, seen = WarpedScene.read, []

    def counted(scene, *window):
        seen.append(window)
        return read(scene, *window)

    monkeypatch.setattr(WarpedScene, "read", counted)
    data = opened(place, after="once.tif")
    masks = [data.targets.read(i) for i in range(len(data))]
    assert data.fingerprint == opened(place, after="once.tif").fingerprint
    assert len(seen) == 2 * len(set(seen))  # once for each opening
    assert all(np.array_equal(data.targets.read(i), mask) for i, mask in enumerate(masks))


def test_other_values_of_the_second_date_are_another_mark(place):
    marks = [file_mark(opened(place, after=name).source, 0) for name in ("after.tif", "other.tif")]
    assert marks[0] != marks[1]


@pytest.mark.parametrize(
    ("labels", "after", "options", "error", "message"),
    [
        ("kinds.gpkg", "after.tif", "", DataError, "label 'clearing' is no transition such as"),
        (
            "changes.gpkg",
            "far.tif",
            "",
            DataError,
            "covers 0.0 % of 'before', at least 1% is needed",
        ),
        ("changes.gpkg", "bytes.tif", "", DataError, "2 bands of uint8, not 2 bands of float32"),
        ("changes.gpkg", "after.tif", ":rater_field=who", ConfigError, "rater_field"),
    ],
)
def test_what_is_no_pair_is_refused(place, labels, after, options, error, message):
    second(place / "far.tif", shift=5000.0)
    second(place / "bytes.tif", dtype=np.uint8)
    with pytest.raises(error, match=message):
        opened(place, labels, after=after, options=options)


def test_other_tasks_have_no_second_date(place):
    with pytest.raises(ConfigError, match="for --task change"):
        find_task("segment").open(
            f"{place / 'before.tif'}:after={place / 'after.tif'}",
            labels=str(place / "changes.gpkg"), class_field="landuse",
        )  # fmt: skip
