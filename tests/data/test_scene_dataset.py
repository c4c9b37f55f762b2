import json
from collections import defaultdict

import numpy as np
import pytest
import shapely
from rasterio.features import rasterize
from rasterio.warp import transform as transform_points
from rasterio.warp import transform_geom

from tailora.data import SPLITS, open_dataset, prepare_images
from tailora.data.scenes.chips import share_ground
from tailora.data.scenes.labels import MOST_CLASSES
from tailora.data.scenes.scene import open_scene
from tailora.errors import ConfigError, DataError
from tests.data.scenes import (
    CLASSES,
    NORTH,
    WEST,
    box,
    fields_of,
    traced,
    write_labels,
    write_scene,
)
from tests.data.test_scene import broken_in_the_middle

SIDE = 400


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a scene of three bands and labels of three classes."""
    folder = tmp_path_factory.mktemp("place")
    write_scene(folder / "scene.tif", traced(3, SIDE), names=("B02", "B03", "B04"))
    write_labels(folder / "labels.gpkg", *fields_of(SIDE))
    return folder


def opened(folder, *, scene="scene.tif", labels="labels.gpkg", field="landuse", chip=8, **more):
    return open_dataset(
        folder / scene, labels=str(folder / labels), class_field=field, chip=chip, **more
    )


def corner(data, i):
    return corner_of(data.source, i)


def corner_of(chips, i):
    half = chips.chip // 2
    return int(chips.places.rows[i]) - half, int(chips.places.columns[i]) - half


def test_chips_are_windows_of_the_scene_with_the_label_at_their_centre(place):
    data = opened(place)
    shapes, names = fields_of(SIDE)
    transform = open_scene([place / "scene.tif"]).grid.transform
    pairs = [(s, CLASSES.index(n) + 1) for s, n in zip(shapes, names, strict=True)]
    codes = rasterize(pairs, out_shape=(SIDE, SIDE), transform=transform)
    assert data.bands == ("B02", "B03", "B04")
    assert set(data.classes) <= set(CLASSES)
    for i in range(0, len(data), 37):
        top, left = corner(data, i)
        chip = data.source.read(i)
        np.testing.assert_array_equal(chip, traced(3, SIDE)[:, top : top + 8, left : left + 8])
        around = codes[top + 3 : top + 6, left + 3 : left + 6]
        assert set(np.unique(around)) == {CLASSES.index(data.classes[data.labels[i]]) + 1}


@pytest.mark.parametrize("seed", range(3))
def test_no_pixel_no_block_and_no_polygon_is_in_two_splits(place, seed):
    data = opened(place, seed=seed, block=50)
    used = np.zeros((SIDE, SIDE), dtype=np.uint8)
    sides, blocks = defaultdict(set), defaultdict(set)
    for i in range(len(data)):
        top, left = corner(data, i)
        used[top : top + 8, left : left + 8] |= 1 << SPLITS.index(data.splits[i])
        sides[data.groups[i]].add(data.splits[i])
        for r, c in ((top, left), (top + 7, left + 7)):
            blocks[r // 50, c // 50].add(data.splits[i])
    assert set(np.unique(used).tolist()) <= {0, 1, 2, 4}
    assert all(len(splits) == 1 for splits in (*sides.values(), *blocks.values()))
    for split in SPLITS:
        assert min(data.counts(split).values) > 0


def test_pixels_of_each_class_are_counted_where_the_scene_is(place):
    _, names = fields_of(SIDE)
    area = {name: 18 * 18 * names.count(name) for name in CLASSES}
    assert opened(place).source.pixels == area


def test_every_polygon_gets_a_chip_where_the_stride_is_wide(place, tmp_path):
    data = opened(place, stride=100)
    shapes, _ = fields_of(SIDE)
    inside = sum(1 for s in shapes if s.bounds[0] > WEST)  # not cut by the edge of a chip
    assert len(data.source.places) > 0.5 * inside
    assert len(set(data.source.places.things.tolist())) == len(data)


def test_labels_in_other_coordinates_are_laid_on_the_scene(place, tmp_path):
    shapes, names = fields_of(SIDE)
    turned = [
        shapely.from_geojson(
            json.dumps(transform_geom("EPSG:32633", "EPSG:4326", s.__geo_interface__))
        )
        for s in shapes
    ]
    write_labels(tmp_path / "l.geojson", turned, names, crs="EPSG:4326")
    data, same = opened(place, labels=tmp_path / "l.geojson"), opened(place)
    assert "reprojected from EPSG:4326" in " ".join(data.notes)
    assert np.array_equal(data.source.places.rows, same.source.places.rows)
    assert np.array_equal(data.labels, same.labels)
    x, y = same.source.position(0)
    top, left = corner(same, 0)
    expected = transform_points(
        "EPSG:32633", "EPSG:4326", [WEST + 10 * (left + 4)], [NORTH - 10 * (top + 4)]
    )
    assert (x, y) == pytest.approx((expected[0][0], expected[1][0]))


def test_points_stand_in_the_middle_of_their_chips_and_those_at_the_edge_are_counted(
    place, tmp_path
):
    rng = np.random.default_rng(1)
    rows, columns = rng.uniform(0, SIDE, (2, 300))
    rows[0] = columns[0] = 1.0
    points = [
        shapely.Point(WEST + 10 * c, NORTH - 10 * r) for r, c in zip(rows, columns, strict=True)
    ]
    write_labels(tmp_path / "p.shp", points, rng.choice(CLASSES, 300).tolist(), kind="Point")
    data = opened(place, labels=tmp_path / "p.shp")
    centres = {(int(r), int(c)) for r, c in zip(rows, columns, strict=True)}
    found = data.source.places
    assert set(zip(found.rows.tolist(), found.columns.tolist(), strict=True)) <= centres
    assert "points too close to the edge" in " ".join(data.notes)
    assert data.groups[0].startswith("block ")
    assert sum(data.source.pixels.values()) == 300


def test_overlaps_belong_to_nobody(tmp_path):
    write_scene(tmp_path / "scene.tif", traced(1, SIDE))
    shapes, names = fields_of(SIDE)
    first = names[0]
    shapes.append(box(0, 0, 18, 9))
    names.append("water" if first != "water" else "farm")
    write_labels(tmp_path / "labels.gpkg", shapes, names)
    data = opened(tmp_path)
    assert "162 pixels where polygons of different classes overlap" in " ".join(data.notes)
    assert data.source.pixels[first] == 18 * 18 * names.count(first) - 162


def test_chips_on_ground_without_data_are_left_out_and_counted_and_gaps_are_filled(tmp_path):
    pixels = traced(1, SIDE) + 1
    pixels[:, :, :200] = 0
    pixels[:, 301, 301] = 0
    write_scene(tmp_path / "scene.tif", pixels, nodata=0)
    write_labels(tmp_path / "labels.gpkg", *fields_of(SIDE))
    data = opened(tmp_path)
    assert "chips with too many no-data pixels" in " ".join(data.notes)
    tops = [corner(data, i) for i in range(len(data))]
    assert min(left for _, left in tops) >= 198  # a fifth of 8 pixels may be missing
    assert min(data.source.read(i).min() for i in range(len(data))) > 0
    gaps = [i for i, (r, c) in enumerate(tops) if r <= 301 < r + 8 and c <= 301 < c + 8]
    for i in gaps:
        top, left = tops[i]
        window = pixels[0, top : top + 8, left : left + 8]
        assert data.source.read(i)[0, 301 - top, 301 - left] == round(window[window > 0].mean())


def test_scene_that_is_all_gap_is_refused(tmp_path):
    write_scene(tmp_path / "scene.tif", np.zeros((1, SIDE, SIDE), np.uint16), nodata=0)
    write_labels(tmp_path / "labels.gpkg", *fields_of(SIDE))
    with pytest.raises(DataError, match=r"no chip of .* can be used: more than 20% .* no data"):
        opened(tmp_path)


def test_invalid_empty_and_nameless_features_are_mended_or_skipped_and_counted(tmp_path):
    write_scene(tmp_path / "scene.tif", traced(1, SIDE))
    shapes, names = fields_of(SIDE)
    west, north = WEST, NORTH
    bow = shapely.Polygon(
        [(west, north), (west + 180, north - 180), (west + 180, north), (west, north - 180)]
    )
    assert not bow.is_valid
    shapes[0] = bow
    shapes += [shapely.Polygon(), None, shapely.LineString([(west, north), (west + 9, north)])]
    names += ["farm", "farm", "farm"]
    shapes.append(box(380, 380, 18, 18))
    names.append("")
    write_labels(tmp_path / "labels.gpkg", shapes, names)
    notes = " ".join(opened(tmp_path).notes)
    assert "labels: repaired invalid geometries: 1" in notes
    assert "labels: skipped empty, broken or line geometries: 3" in notes
    assert "labels: skipped features without 'landuse': 1" in notes


def with_labels(tmp_path, shapes=None, names=None, **options):
    write_scene(tmp_path / "scene.tif", traced(1, SIDE))
    if shapes is None:
        shapes, names = fields_of(SIDE)
    write_labels(tmp_path / "labels.gpkg", shapes, names, **options)
    return tmp_path


MANY = [f"{i}" for i in range(MOST_CLASSES + 1)]
SMALL = [box(i, j, 2, 2) for i in (8, 90) for j in (8, 90)]


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (with_labels, {"field": "land_use"}, "no field 'land_use'.*mean 'landuse'"),
        (lambda p: with_labels(p, crs=None), {}, "labels .* have no coordinate reference system"),
        (
            lambda p: with_labels(p, [shapely.box(0, 0, 100, 100)] * 4, list("aabb")),
            {},
            "no label of .* overlaps scene 'scene': labels extend over 0, 0, 100, 100",
        ),
        (
            lambda p: with_labels(p, [shapely.box(0, 0, 0.25, 1234567)] * 4, list("aabb")),
            {},
            f"over 0, 0, 0.25, 1234567, the scene over 330000, {5822000 - 10 * SIDE}, ",
        ),
        (with_labels, {"labels": "none.gpkg"}, "no labels .*none.gpkg"),
        (
            lambda p: with_labels(p, SMALL, list("abab")),
            {},
            "can be cut: smaller than 3 x 3 pixels of 10 or overlapping others: 4 polygons",
        ),
        (
            lambda p: with_labels(p, [shapely.Point(WEST, NORTH)] * len(MANY), MANY),
            {},
            "field 'landuse' .* has 1001 different values in 1001 features, more than 1000",
        ),
        (
            lambda p: with_labels(p, [box(r, 8, 18, 18) for r in (8, 200)], ["a", "b"]),
            {},
            ": too few to train and test two classes on separate ground",
        ),
        (lambda p: with_labels(p, [None] * 2, list("ab"), kind="Polygon"), {}, "no polygon or "),
        (
            lambda p: with_labels(p, *fields_of(SIDE)),
            {"chip": SIDE + 1},
            "no chip of 401 pixels can be cut: the largest scene has 400 x 400 pixels",
        ),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_used_are_refused(tmp_path, make, options, message):
    with pytest.raises(DataError, match=message):
        opened(make(tmp_path), **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"chip": 3}, r"chip must lie in \[4, 8192\], got 3"),
        ({"chip": 8193}, r"chip must lie in \[4, 8192\], got 8193"),
        ({"chip": 10**15}, r"chip must lie in \[4, 8192\], got 1e\+15"),
        ({"chip": 10**30}, "chip has more than 18 digits"),
        ({"stride": 0}, r"stride must lie in \[1, 1048576\], got 0"),
        ({"stride": 2**60}, r"stride must lie in \[1, 1048576\]"),
        ({"block": 7}, r"block must lie in \[8, 1048576\], got 7"),
        ({"block": 2**21}, r"block must lie in"),
        ({"min_train": 0}, r"min_train must lie in"),
    ],
)
def test_absurd_sizes_of_chips_are_refused(place, options, said):
    with pytest.raises(ConfigError, match=said):
        opened(place, **options)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"chip = {'9' * 5000}", "is not TOML: Exceeds the limit"),
        (f"nodata = {'9' * 400}", "nodata has more than 18 digits"),
        (f"bands = {'[' * 100_000}", "is not TOML"),
    ],
)
def test_endless_numbers_and_brackets_in_a_file_of_scenes_are_refused(tmp_path, text, said):
    (tmp_path / "scenes.toml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        open_dataset(tmp_path / "scenes.toml")


@pytest.mark.parametrize("seed", range(3))
def test_chips_that_share_a_pixel_are_found(place, seed):
    data = opened(place).select(np.arange(0, 900, 2))
    rng = np.random.default_rng(seed)
    rows, others = rng.choice(len(data), 60), rng.choice(len(data), 9)
    corners = np.array([corner_of(data.source.base, i) for i in data.source.indices])[:, None]
    away = np.abs(corners[rows] - corners[others].transpose(1, 0, 2)).max(axis=2)
    shared = share_ground(data.source, rows, others)
    np.testing.assert_array_equal(shared, (away < 8).any(axis=1))
    assert 0 < shared.sum() < 60


def test_polygons_of_two_layers_of_a_file_are_not_one(tmp_path):
    """Number 5 of a layer is not number 5 of another, though the file is the same."""
    write_scene(tmp_path / "a.tif", traced(1, SIDE))
    write_scene(tmp_path / "b.tif", traced(1, SIDE), west=WEST + 10 * SIDE)
    shapes, names = fields_of(SIDE)
    moved = [shapely.transform(shape, lambda p: p + np.array([10.0 * SIDE, 0])) for shape in shapes]
    write_labels(tmp_path / "l.gpkg", shapes, names, layer="first")
    write_labels(tmp_path / "l.gpkg", moved, names, layer="second")
    scenes = "".join(
        f'[[scene]]\nfiles = "{file}.tif"\nlayer = "{layer}"\n'
        for file, layer in (("a", "first"), ("b", "second"))
    )
    (tmp_path / "two.toml").write_text(
        f'labels = "l.gpkg"\nclass_field = "landuse"\nchip = 8\n{scenes}'
    )
    data = open_dataset(tmp_path / "two.toml")
    by_scene = [set(data.groups[data.source.places.scenes == k]) for k in (0, 1)]
    assert not by_scene[0] & by_scene[1]


def test_of_several_layers_one_must_be_chosen(tmp_path):
    with_labels(tmp_path, layer="first")
    write_labels(tmp_path / "labels.gpkg", *fields_of(SIDE), layer="second")
    with pytest.raises(DataError, match=r"which layer has the labels\? choose one of"):
        opened(tmp_path)
    assert len(opened(tmp_path, layer="second"))


def test_unreadable_block_stops_or_is_left_out_and_counted(tmp_path):
    broken_in_the_middle(tmp_path / "scene.tif")
    write_labels(tmp_path / "labels.gpkg", *fields_of(256))
    data = opened(tmp_path)
    with pytest.raises(DataError, match=r"cannot read rows .*skip-broken"):
        prepare_images(data, tmp_path / "images", image_size=8)
    images = prepare_images(data, tmp_path / "images", image_size=8, skip_broken=True)
    assert 0 < len(images.broken) < len(data) / 2
    assert "broken images left out" in " ".join(images.dataset.notes)


def test_manifest_names_scenes_labels_and_chips(place, tmp_path):
    text = f"""
        labels = "{place / "labels.gpkg"}"
        class_field = "landuse"
        chip = 8
        bands = ["red", "blue"]
        files = "{place}/sc*.tif"
        name = "fields"
    """
    (tmp_path / "m.toml").write_text(text)
    data = open_dataset(tmp_path / "m.toml")
    assert data.name == "fields"
    assert data.bands == ("B04", "B02")
    same = opened(place)
    assert np.array_equal(data.splits, same.splits)
    assert data.fingerprint != same.fingerprint
    np.testing.assert_array_equal(data.source.read(5), same.source.read(5)[[2, 0]])


def test_overlapping_scenes_share_their_blocks_and_polygons(place, tmp_path):
    write_scene(
        tmp_path / "later.tif", traced(3, SIDE)[:, 100:, 60:], names=("B02", "B03", "B04"),
        west=WEST + 600, north=NORTH - 1000,
    )  # fmt: skip
    (tmp_path / "m.toml").write_text(f"""
        labels = "{place / "labels.gpkg"}"
        class_field = "landuse"
        chip = 8
        block = 50
        [[scene]]
        files = "{place / "scene.tif"}"
        [[scene]]
        files = "later.tif"
    """)
    data = open_dataset(tmp_path / "m.toml")
    places, sides, used = data.source.places, defaultdict(set), np.zeros((SIDE, SIDE), np.uint8)
    assert set(places.scenes.tolist()) == {0, 1}
    for i in range(len(data)):
        top, left = corner(data, i)
        top, left = top + 100 * places.scenes[i], left + 60 * places.scenes[i]
        used[top : top + 8, left : left + 8] |= 1 << SPLITS.index(data.splits[i])
        sides[data.groups[i]].add(data.splits[i])
    assert set(np.unique(used).tolist()) <= {0, 1, 2, 4}
    assert all(len(splits) == 1 for splits in sides.values())


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("chips = 8", ConfigError, "unknown key of .*'chips'; did you mean 'chip'"),
        ("chip = 'a'", ConfigError, "chip must be int, got 'a'"),
        ("chip = 3", ConfigError, "chip must lie in"),
        ("most_nodata = 1.0", ConfigError, r"most_nodata must lie in \[0, 1\)"),
        ("block = 5", ConfigError, "block must lie in"),
        ("labels = ''", ConfigError, r"labels \(--labels\) is missing"),
        ("files = 'x*.tif'", DataError, "no file matches"),
        ("chip == 3", ConfigError, "is not TOML"),
        ("[[scene]]\nchip = 8", ConfigError, "chip applies to all scenes"),
    ],
)
def test_manifest_that_makes_no_sense_is_refused(place, tmp_path, text, error, message):
    lines = {
        "labels": f"labels = '{place / 'labels.gpkg'}'",
        "class_field": "class_field = 'landuse'",
        "chip": "chip = 8",
        "files": f"files = '{place / 'scene.tif'}'",
    }
    lines.pop(text.split()[0], None)
    (tmp_path / "m.toml").write_text("\n".join([*lines.values(), text]))
    with pytest.raises(error, match=message):
        open_dataset(tmp_path / "m.toml")


def test_options_after_the_path_and_as_arguments_are_the_same(place, monkeypatch):
    monkeypatch.chdir(place)
    text = "scene.tif:labels=labels.gpkg:class_field=landuse:chip=8:bands=B02,B03:most_nodata=0.1"
    assert open_dataset(text).bands == ("B02", "B03")
    with pytest.raises(ConfigError, match="unknown option of a scene 'chips'"):
        open_dataset("scene.tif:chips=8")
    with pytest.raises(ConfigError, match="chip takes a number, got 'x'"):
        open_dataset("scene.tif:chip=x")
    with pytest.raises(ConfigError, match=r"labels \(--labels\) is missing"):
        open_dataset("scene.tif")
    with pytest.raises(ConfigError, match="chip are options of a raster or a folder of bands"):
        open_dataset("shared-attributes", chip=8)


def test_changed_scene_makes_other_data(tmp_path):
    with_labels(tmp_path)
    before = opened(tmp_path).fingerprint
    assert opened(tmp_path).fingerprint == before
    pixels = traced(1, SIDE)
    pixels[0, 0, 0] += 1
    write_scene(tmp_path / "scene.tif", pixels)
    assert opened(tmp_path).fingerprint != before
