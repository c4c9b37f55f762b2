"""Windows of scenes with a class for every pixel: which pixel has which, and who is kept apart."""

import itertools

import numpy as np
import pytest
import shapely

from tailora.data import open_dataset
from tailora.data.open import open_windows
from tailora.data.scenes.scene import open_scene
from tailora.errors import ConfigError, DataError
from tests.data.scenes import NORTH, WEST, box, fields_of, traced, write_labels, write_scene

SIDE = 160
CHIP = 16
BACKGROUND = "all else"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a scene of two bands and squares of three classes, 18 of 20 px wide."""
    folder = tmp_path_factory.mktemp("place")
    write_scene(folder / "scene.tif", traced(2, SIDE))
    write_labels(folder / "labels.gpkg", *fields_of(SIDE))
    return folder


def opened(folder, *, labels="labels.gpkg", field="landuse", chip=CHIP, **more):
    return open_windows(
        folder / "scene.tif", labels=str(folder / labels), class_field=field, chip=chip, **more
    )


def corners(data):
    half = data.source.chip // 2
    return np.stack([data.source.places.rows, data.source.places.columns], axis=1) - half


def whole(data, side=SIDE):
    """Masks of all windows laid beside each other: names of classes, empty without one."""
    found = np.full((side, side), "", dtype="<U12")
    names = np.append(data.classes, "")
    for i, (top, left) in enumerate(corners(data)):
        mask = data.targets.read(i)
        found[top : top + len(mask), left : left + len(mask)] = names[mask]
    return found


def inside(shape, pixel=10.0, side=SIDE):
    """Pixels whose centre a shape contains, by shapely."""
    rows, columns = np.mgrid[0:side, 0:side]
    x, y = WEST + pixel * (columns + 0.5), NORTH - pixel * (rows + 0.5)
    return shapely.contains_xy(shape, x, y)


def test_a_pixel_has_the_class_of_the_polygon_that_contains_its_centre(place):
    """Triangles whose edges cross pixels anywhere, over several windows and across tiles."""
    rng = np.random.default_rng(0)
    shapes, names = [], []
    for row, column in itertools.product(range(0, 160, 40), repeat=2):
        at = rng.uniform(0, 39, (3, 2)) + np.array([row, column])
        shapes.append(shapely.Polygon([(WEST + 10 * x, NORTH - 10 * y) for y, x in at]))
        names.append(("a", "b")[(row + column) // 40 % 2])
    write_labels(place / "triangles.gpkg", shapes, names)
    data = opened(place, labels="triangles.gpkg", to_learn=False)
    expected = np.full((SIDE, SIDE), "", dtype="<U12")
    for shape, name in zip(shapes, names, strict=True):
        expected[inside(shape)] = name
    np.testing.assert_array_equal(whole(data), expected)
    counts = dict(zip(data.classes, data.targets.tally().sum(axis=0), strict=True))
    assert counts == {name: (expected == name).sum() for name in "ab"}
    assert data.source.pixels == counts


def test_a_point_labels_its_pixel_and_an_impulse_is_not_shifted(place):
    """A polygon of exactly one pixel, and points at both ends of theirs."""
    shapes = [
        box(37, 70, 1, 1),
        shapely.Point(WEST + 10 * 5 + 0.1, NORTH - 10 * 9 - 0.1),
        shapely.Point(WEST + 10 * 101 - 0.1, NORTH - 10 * 50 + 0.1),
    ]
    write_labels(place / "single.gpkg", shapes, ["a", "b", "c"])
    found = whole(opened(place, labels="single.gpkg", to_learn=False))
    at = {name: tuple(np.argwhere(found == name)[0]) for name in "abc"}
    assert at == {"a": (37, 70), "b": (9, 5), "c": (49, 100)}
    assert (found != "").sum() == 3


def test_windows_are_the_pixels_of_the_scene_under_their_masks(place):
    data = opened(place)
    assert len(data) == len(data.targets)
    for i in range(0, len(data), 7):
        top, left = corners(data)[i]
        assert (top % CHIP, left % CHIP) == (0, 0)
        seen = traced(2, SIDE)[:, top : top + CHIP, left : left + CHIP]
        np.testing.assert_array_equal(data.source.read(i), seen)


def test_where_classes_overlap_no_pixel_is_labelled_and_the_count_is_told(place):
    shapes = [box(0, 0, 10, 10), box(5, 5, 10, 10), box(0, 3, 2, 2), box(40, 40, 9, 9)]
    shapes += [shapely.Point(WEST + 455, NORTH - 455)]
    write_labels(place / "overlap.gpkg", shapes, ["a", "b", "a", "b", "a"])
    data = opened(place, labels="overlap.gpkg", to_learn=False)
    found = whole(data)
    assert (found == "a").sum() == 100 - 25  # the third lies within the first, of one class
    assert (found == "b").sum() == 100 - 25 + 81 - 1  # a point of another class
    assert any("26 pixels where labels of different classes overlap" in n for n in data.notes)


def test_what_no_polygon_covers_may_be_a_class(place):
    data = opened(place, outside=BACKGROUND, to_learn=False)
    found = whole(data)
    expected = ~np.any([inside(shape) for shape in fields_of(SIDE)[0]], axis=0)
    np.testing.assert_array_equal(found == BACKGROUND, expected)
    assert len(data) == (SIDE // CHIP) ** 2
    assert not (whole(opened(place, to_learn=False))[expected] != "").any()


@pytest.mark.parametrize("stride", [CHIP, 6])
@pytest.mark.parametrize("seed", range(3))
def test_a_window_lies_between_those_to_train_and_the_others(place, stride, seed):
    data = opened(place, seed=seed, block=48, stride=stride, chip=8)
    at, train = corners(data), data.splits == "train"
    assert train.any()
    assert (~train).any()
    gap = np.abs(at[train][:, None] - at[~train][None]).max(axis=-1) - 8
    assert gap.min() >= 8
    val, test = at[data.splits == "val"], at[data.splits == "test"]
    assert np.abs(val[:, None] - test[None]).max(axis=-1).min() >= 8  # no common pixel
    for group in np.unique(data.groups):
        assert len(set(data.splits[data.groups == group])) == 1


def test_the_fingerprint_follows_the_labels(place):
    one, again = opened(place), opened(place)
    assert one.fingerprint == again.fingerprint
    shapes, names = fields_of(SIDE)
    write_labels(place / "moved.gpkg", [*shapes[:-1], box(145, 145, 3, 3)], names)
    assert opened(place, labels="moved.gpkg").fingerprint != one.fingerprint


def test_objects_are_polygons_with_a_pixel_in_the_windows(place):
    """By hand: one lies in two windows, one in none, and one is smaller than a pixel."""
    shapes = [box(0, 0, 4, 4), box(0, 12, 3, 8), box(12, 12, 3, 3), box(14, 2, 1, 1)]
    shapes += [shapely.Point(WEST + 201, NORTH - 201).buffer(1), box(150, 150, 2, 2)]
    write_labels(place / "few.gpkg", shapes, ["a", "a", "b", "b", "b", "a"])
    data = opened(place, labels="few.gpkg", to_learn=False)
    assert data.classes == ("a", "b")
    assert [tuple(at) for at in corners(data)] == [(0, 0), (0, 16), (144, 144)]
    assert data.targets.objects(np.arange(3)).tolist() == [3, 2]
    assert data.targets.objects(np.array([1])).tolist() == [1, 0]
    assert data.targets.objects(np.array([0, 2])).tolist() == [3, 2]
    assert any("1 polygons or points without a pixel" in note for note in data.notes)


def test_a_raster_labels_the_pixels_whose_centre_it_covers(place):
    """Label pixels of three scene pixels, and a table that names some and ignores others."""
    coarse = np.add.outer(np.arange(54), np.arange(54)).astype(np.uint8) % 4
    write_scene(place / "coarse.tif", coarse[None], pixel=30.0)
    (place / "names.csv").write_text("0,zero\n1,one\n2,two\n3,ignore\n")
    data = opened(place, labels="coarse.tif", field=None, classes=place / "names.csv",
                  to_learn=False)  # fmt: skip
    fine = coarse.repeat(3, axis=0).repeat(3, axis=1)[:SIDE, :SIDE]
    np.testing.assert_array_equal(whole(data), np.array(["zero", "one", "two", ""])[fine])
    assert data.targets.objects(np.arange(3)) is None
    plain = opened(place, labels="coarse.tif", field=None, ignore=2, to_learn=False)
    np.testing.assert_array_equal(whole(plain), np.array(["0", "1", "", "3"])[fine])
    (place / "names.csv").write_text("0,zero\n1,one\n")
    with pytest.raises(DataError, match=r"have values \(2, 3\) that .*names.csv' does not name"):
        opened(place, labels="coarse.tif", field=None, classes=place / "names.csv")
    chips = open_dataset(place / "scene.tif", labels=str(place / "coarse.tif"), chip=4, ignore=3)
    assert chips.classes == ("0", "1", "2")


def test_pixels_without_data_have_no_class(place, tmp_path):
    pixels = traced(2, SIDE) + 1
    pixels[:, 20:30, 20:24] = 0
    pixels[:, 64:80, 64:75] = 0  # most of a window
    write_scene(tmp_path / "scene.tif", pixels, nodata=0)
    data = open_windows(tmp_path / "scene.tif", labels=str(place / "labels.gpkg"), chip=CHIP,
                        class_field="landuse", outside=BACKGROUND, to_learn=False)  # fmt: skip
    found = whole(data)
    assert (found[20:30, 20:24] == "").all()
    assert (found[64:80, 64:80] == "").all()
    assert (found != "").sum() == SIDE**2 - 40 - CHIP**2
    assert any("1 windows with too many no-data pixels" in note for note in data.notes)


def test_tiles_count_what_one_pass_counts(place, monkeypatch):
    """The last windows end 4 px before the scene: pixels beyond are told, not used."""
    one = opened(place, chip=12, to_learn=False)
    monkeypatch.setattr("tailora.data.scenes.windows._TILE", 30)
    tiled = opened(place, chip=12, to_learn=False)
    order = np.lexsort(corners(tiled).T[::-1])
    np.testing.assert_array_equal(corners(tiled)[order], corners(one))
    np.testing.assert_array_equal(tiled.targets.tally()[order], one.targets.tally())
    assert tiled.source.pixels == one.source.pixels
    expected = np.any([inside(shape) for shape in fields_of(SIDE)[0]], axis=0)
    assert sum(one.source.pixels.values()) == expected.sum()
    beyond = expected.sum() - expected[:156, :156].sum()
    for data in (one, tiled):
        assert any(f"{beyond} labelled pixels beyond" in note for note in data.notes)


def test_a_class_without_pixels_to_test_is_not_learnt_and_said_so(place):
    shapes, names = fields_of(SIDE)
    write_labels(place / "rare.gpkg", [*shapes, box(18, 18, 2, 2)], [*names, "rare"])
    data = opened(place, labels="rare.gpkg", chip=8, block=32)
    assert "rare" not in data.classes
    assert any("not learnt" in note and "'rare' (" in note for note in data.notes)
    evaluated = opened(place, labels="rare.gpkg", chip=8, to_learn=False)
    assert "rare" in evaluated.classes
    assert set(evaluated.splits) == {"test"}


def test_two_scenes_of_one_file_share_ground_and_polygons(place, tmp_path):
    """The second date covers the right half and more: equal ground is in equal splits."""
    write_scene(tmp_path / "second.tif", traced(2, SIDE), west=WEST + 10 * 80)
    (tmp_path / "two.toml").write_text(
        f'labels = "{place / "labels.gpkg"}"\nclass_field = "landuse"\nchip = 8\nblock = 32\n'
        f'[[scene]]\nfiles = "{place / "scene.tif"}"\n[[scene]]\nfiles = "second.tif"\n'
    )
    data = open_windows(tmp_path / "two.toml")
    ground = corners(data) + np.outer(data.source.places.scenes, (0, 80))
    train = data.splits == "train"
    assert np.abs(ground[train][:, None] - ground[~train][None]).max(axis=-1).min() >= 16
    names = fields_of(SIDE)[1]
    held = data.targets.objects(np.arange(len(data)))
    assert all(n <= names.count(c) for n, c in zip(held, data.classes, strict=True))


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"field": None}, ConfigError, "class_field (--class-field) is missing"),
        ({"labels": "away.gpkg"}, DataError, "no label of"),
        ({"labels": "away.tif", "field": None}, DataError, "do not overlap it"),
        ({"labels": "float.tif", "field": None}, DataError, "fractional values: measurements"),
        ({"labels": "single.tif", "field": None, "ignore": 3}, DataError, "have no class at any"),
        ({"labels": "thin.gpkg"}, DataError, "or contain no pixel's centre"),
        ({"labels": "lone.gpkg"}, DataError, "too few to train and test two classes"),
        ({"chip": 256}, DataError, "of 160 x 160 pixels is smaller than a window of 256"),
        ({"outside": "x", "labels": "coarse.tif", "field": None}, ConfigError, "is a raster"),
        ({"outside": "x", "labels": "point.gpkg"}, ConfigError, "has 1 point: their surroundings"),
        ({"classes": "a.csv"}, ConfigError, "classes applies to labels that are a raster"),
        ({"most_nodata": 0.2, "scene": "empty.tif"}, DataError, "of each of 64 have no data"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_line(place, options, error, says):
    far = write_scene(place / "away.tif", np.ones((1, 9, 9), np.uint8), west=WEST + 1e5)
    assert open_scene([far]).shape == (9, 9)
    write_scene(place / "float.tif", np.full((1, SIDE, SIDE), 1.5, np.float32))
    write_scene(place / "single.tif", np.full((1, SIDE, SIDE), 3, np.uint8))
    write_scene(place / "coarse.tif", np.ones((1, SIDE, SIDE), np.uint8))
    empty = traced(2, 128) + 1
    empty[:, :, ::3] = 0
    write_scene(place / "empty.tif", empty, nodata=0)
    write_labels(place / "away.gpkg", [box(0, 9000, 5, 5)], ["a"])
    write_labels(place / "thin.gpkg", [box(8, 8, 0.4, 100)], ["a"])
    write_labels(place / "lone.gpkg", [box(8, 8, 5, 5), box(100, 100, 5, 5)], ["a", "b"])
    write_labels(place / "point.gpkg", [shapely.Point(WEST + 99, NORTH - 99)], ["a"])
    given = {"labels": "labels.gpkg", "field": "landuse", "chip": CHIP, **options}
    given["class_field"] = given.pop("field")
    given["labels"] = str(place / given["labels"])
    scene = place / given.pop("scene", "scene.tif")
    with pytest.raises(error) as caught:
        open_windows(scene, **given)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_outside_is_refused_for_chips_and_for_features_without_a_class(place):
    with pytest.raises(ConfigError, match="choose --task segment"):
        open_dataset(place / "scene.tif", labels=str(place / "labels.gpkg"), class_field="landuse",
                     outside="x")  # fmt: skip
    write_labels(place / "some.gpkg", [box(0, 0, 5, 5), box(9, 9, 5, 5)], ["a", None])
    with pytest.raises(ConfigError, match="has 1 without a class"):
        opened(place, labels="some.gpkg", outside="x")
