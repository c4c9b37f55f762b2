"""Windows of scenes with a class for every pixel: which pixel has which, and who is kept apart."""

import itertools
from functools import partial

import numpy as np
import pytest
import shapely

from tailora.data import find_duplicates, open_dataset
from tailora.data.open import open_windows
from tailora.data.scenes.object_windows import open_object_windows
from tailora.data.scenes.scene import open_scene
from tailora.data.targets import pictures_of
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


def drawn_by_two():
    """Fields as anna sees them; ben has no top two rows, and moves and renames the others."""
    shapes, names = fields_of(SIDE)
    half = len(shapes) // 4
    moved = [shapely.affinity.translate(shape, 20, -30) for shape in shapes[half:]]
    renamed = ["water" if name == "farm" else name for name in names[half:]]
    return {"anna": (shapes, names), "ben": (moved, renamed)}


def write_rated(path, drawn, *more):
    """All polygons in one layer, those of the raters in turn where possible."""
    rows = [(*pair, who) for who, (shapes, names) in drawn.items()
            for pair in zip(shapes, names, strict=True)]  # fmt: skip
    rows = [row for start in range(9) for row in rows[start::9]] + list(more)
    shapes, names, raters = zip(*rows, strict=True)
    return write_labels(path, list(shapes), names, raters=raters)


def test_each_rater_has_windows_with_masks_of_their_own(place):
    """Each rater's masks are those of their polygons alone; ground is in one split and block."""
    drawn = drawn_by_two()
    write_rated(place / "rated.gpkg", drawn, (box(0, 0, 4, 4), "farm", None))
    data = opened(place, labels="rated.gpkg", rater_field="who")
    everything = opened(place, labels="rated.gpkg", rater_field="who", to_learn=False)
    name_of = np.append(everything.classes, "")
    of_rater = np.array([name.partition("@")[2] for name in everything.ids()])
    assert len(set(everything.ids())) == len(everything)
    for who, (shapes, names) in drawn.items():
        alone = opened(place, labels=write_labels(place / f"{who}.gpkg", shapes, names).name,
                       to_learn=False)  # fmt: skip
        rows = np.flatnonzero(of_rater == who)
        assert [everything.source.id(i).removesuffix(f"@{who}") for i in rows] == alone.ids()
        for k, i in enumerate(rows):
            wanted = np.append(alone.classes, "")[alone.targets.read(k)]
            np.testing.assert_array_equal(name_of[everything.targets.read(i)], wanted)
        held = dict(zip(alone.classes, alone.targets.objects(np.arange(len(alone))), strict=True))
        own = everything.targets.objects(rows)
        assert {c: n for c, n in zip(everything.classes, own, strict=True) if n} == held
    ground = [name.partition("@")[0] for name in data.ids()]
    places = dict(zip(ground, pictures_of(data.targets), strict=True))
    assert [places[name] for name in ground] == pictures_of(data.targets).tolist()
    assert len(set(places.values())) == len(places) < len(data)
    assert len(set(zip(ground, data.splits, data.groups, strict=True))) == len(places)
    assert "labels: skipped features without 'who': 1" in data.notes
    assert "2 raters: a window counts once for each who labelled it" in data.notes
    copies = [{name.partition("@")[0] for name in one.ids} for one in find_duplicates(data)]
    assert all(len(ground) > 1 for ground in copies)  # the scene repeats itself elsewhere


def test_a_rater_who_has_not_seen_a_scene_says_nothing_about_it(place, tmp_path):
    """Ben has only seen the second scene: of the first, even its background is not his."""
    write_scene(tmp_path / "second.tif", traced(2, 64), west=WEST + 10 * SIDE)
    shapes = [box(3, 3, 9, 9), box(3, SIDE + 3, 9, 9), box(3, SIDE + 3, 5, 5)]
    write_labels(tmp_path / "rated.gpkg", shapes, ["a", "a", "b"], raters=["anna", "anna", "ben"])
    (tmp_path / "two.toml").write_text(
        f'labels = "rated.gpkg"\nclass_field = "landuse"\nrater_field = "who"\nchip = 32\n'
        f'outside = "rest"\n'
        f'[[scene]]\nfiles = "{place / "scene.tif"}"\n[[scene]]\nfiles = "second.tif"\n'
    )
    data = open_windows(tmp_path / "two.toml", to_learn=False)
    seen = [(name.split("-")[0], name.partition("@")[2]) for name in data.ids()]
    assert {one: seen.count(one) for one in seen} == {
        ("scene", "anna"): 25, ("second", "anna"): 4, ("second", "ben"): 4
    }  # fmt: skip
    assert any("left out: 3 labels outside the scene" in note for note in data.notes)
    pictures = pictures_of(data.targets)
    assert len(set(pictures)) == 29


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
        ({"rater_field": "rater"}, DataError, "have no field 'rater', only ['landuse']"),
        ({"rater_field": "landuse"}, ConfigError, "are both 'landuse': one names who drew"),
        ({"field": "landuse,kind"}, DataError, "have no field 'kind', only ['landuse']"),
        ({"field": "landuse,"}, DataError, "have no field '', only ['landuse']"),
        ({"field": "landuse,landuse"}, ConfigError, "'landuse' is named twice in landuse, landuse"),
        (
            {"rater_field": "who", "labels": "coarse.tif", "field": None},
            ConfigError,
            "are a raster, which has no raters; leave rater_field out",
        ),
        (
            {"rater_field": "who", "labels": "nobody.gpkg"},
            DataError,
            "has a class in field 'landuse' and a rater in field 'who': skipped features without",
        ),
        (
            {"rater_field": "who", "labels": "ids.gpkg"},
            DataError,
            "has 101 different values in 101 features, more than 100: ids, not raters",
        ),
        (
            {"rater_field": "who", "labels": "some.gpkg", "outside": "x"},
            ConfigError,
            "has 1 without a class or a rater: their surroundings",
        ),
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
    write_labels(place / "nobody.gpkg", [box(8, 8, 5, 5)], ["a"], raters=[None])
    write_labels(place / "some.gpkg", [box(8, 8, 5, 5)] * 2, ["a", "b"], raters=["anna", None])
    squares = [box(1 + i, 1, 1, 1) for i in range(101)]
    write_labels(place / "ids.gpkg", squares, ["a"] * 101, raters=[str(i) for i in range(101)])
    given = {"labels": "labels.gpkg", "field": "landuse", "chip": CHIP, **options}
    given["class_field"] = given.pop("field")
    given["labels"] = str(place / given["labels"])
    scene = place / given.pop("scene", "scene.tif")
    with pytest.raises(error) as caught:
        open_windows(scene, **given)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_raters_are_refused_where_a_place_has_one_label(place):
    for cut in (open_dataset, partial(open_windows, cut=open_object_windows)):
        with pytest.raises(ConfigError, match="for several opinions about one pixel"):
            cut(place / "scene.tif", labels=str(place / "labels.gpkg"), class_field="landuse",
                rater_field="who")  # fmt: skip


def test_outside_is_refused_for_chips_and_for_features_without_a_class(place):
    with pytest.raises(ConfigError, match="choose --task segment"):
        open_dataset(place / "scene.tif", labels=str(place / "labels.gpkg"), class_field="landuse",
                     outside="x")  # fmt: skip
    write_labels(place / "some.gpkg", [box(0, 0, 5, 5), box(9, 9, 5, 5)], ["a", None])
    with pytest.raises(ConfigError, match="has 1 without a class"):
        opened(place, labels="some.gpkg", outside="x")
