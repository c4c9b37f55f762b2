"""`tailora map RUN scene.tif --out map.tif`, from scene and polygons to a map and back."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.control import GroundControlPoint

from tailora.config.recipe import DataOptions
from tailora.inference.scene_inputs import SceneOptions, open_for
from tests.data.scenes import NORTH, WEST, box, write_labels, write_scene
from tests.end_to_end.chips import (
    copy_run,
    refused,
    reseal,
    snapshot,
    succeed,
    tailora,
    write_raster,
)
from tests.end_to_end.test_disk_full import no_file_longer_than

SIDE, CHIP = 200, 16
NAMES = ("red", "green", "blue")
COLOURS = {"forest": (40, 120, 50), "water": (30, 60, 160), "town": (170, 90, 80)}


def country(rows=SIDE, columns=SIDE, *, seed=0):
    """Forest on the left, water on the right, a town in the upper middle: colours and noise."""
    noise = np.random.default_rng(seed).normal(0, 8, (3, rows, columns))
    ground = np.full((rows, columns), 0)
    ground[:, columns // 2 :] = 1
    ground[: rows // 2, columns // 8 : columns // 2] = 2
    tint = np.array(list(COLOURS.values()))[ground]
    return (np.moveaxis(tint, -1, 0) + noise).clip(1, 255).astype(np.uint8), ground


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """A scene and polygons of 16 x 16 pixels over most of it."""
    folder = tmp_path_factory.mktemp("ground")
    pixels, truth = country()
    scene = write_scene(folder / "scene.tif", pixels, names=NAMES)
    shapes, names = [], []
    for row in range(2, SIDE - 20, 20):
        for column in range(2, SIDE - 20, 20):
            inside = truth[row : row + 16, column : column + 16]
            if (inside == inside[0, 0]).all():
                shapes.append(box(row, column, 16, 16))
                names.append(list(COLOURS)[inside[0, 0]])
    return scene, write_labels(folder / "labels.gpkg", shapes, names)


@pytest.fixture(scope="module")
def mapper(tmp_path_factory, ground, encoder):
    """A run fitted on chips of that scene."""
    run = tmp_path_factory.mktemp("mapper") / "run"
    scene, labels = ground
    words = [
        "fit", scene, "--labels", labels, "--class-field", "landuse", "--chip", CHIP, "--out", run,
        "--backbone", encoder, "--image-size", 14, "--method", "lora", "--rank", 2, "--epochs", 4,
        "--quiet", "--set", "probe.l2=[0.1,0.001]", "--set", "evaluate.replicates=40",
        "--set", "train.batch_size=16",
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:  # here only: others' runs need their reports
        patch.setattr("tailora.methods.fit.write_report", lambda *_, **__: None)
        succeed(*words)
    return run


def read(path):
    with rasterio.open(path) as file:
        return file.read()


def test_a_run_on_a_scene_knows_its_chips(mapper):
    data = json.loads((mapper / "run.json").read_text("utf-8"))["dataset"]
    assert (data["chip"], data["pixel"], data["pixel_units"]) == (CHIP, [10.0, 10.0], "metre")


def test_one_fit_and_one_predict_give_a_georeferenced_map(mapper, ground, tmp_path):
    answer = succeed(
        "map", mapper, ground[0], "--out", "map.tif", "--probabilities", "p.tif",
        "--confidence", "c.tif", "--polygons", "map.gpkg",
    )  # fmt: skip
    assert sorted(snapshot(tmp_path)) == [
        "c.tif", "map.gpkg", "map.qml", "map.tif", "map.tif.aux.xml", "p.tif",
    ]  # fmt: skip
    classes = json.loads((mapper / "classes.json").read_text("utf-8"))["classes"]
    names = [entry["name"] for entry in classes]
    _, truth = country()
    with rasterio.open("map.tif") as file, rasterio.open(ground[0]) as scene:
        labels = file.read(1)
        assert file.crs == scene.crs
        assert file.bounds.left == scene.bounds.left
        assert file.bounds.top == scene.bounds.top
        assert file.shape == (25, 25)
    wanted = np.array([names.index(name) + 1 for name in COLOURS])[truth[4::8, 4::8]]
    assert (labels == wanted).mean() > 0.85
    shares = read("p.tif")
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(shares.argmax(axis=0) + 1, labels)
    np.testing.assert_array_equal(shares.max(axis=0), read("c.tif")[0])
    meta, _, shapes, columns = pyogrio.raw.read("map.gpkg")
    assert set(columns[list(meta["fields"]).index("class")]) <= set(names)
    for word in ("forest", "share of the map", "25 x 25 cells of 8 pixels", f"{len(shapes)} poly"):
        assert word in answer.out
    assert "mapping scene" in answer.err


def test_a_band_declared_as_alpha_is_told_of(mapper, ground):
    with rasterio.open(ground[0]) as file:
        pixels = file.read()
    write_scene(Path("four.tif"), np.concatenate([pixels, pixels[:1] * 0 + 255]))
    named = ("--band-names", ",".join(NAMES))
    said = " ".join(succeed("map", mapper, "four.tif", "--out", "map.tif", *named).out.split())
    assert "'four.tif' declares its last band as alpha, so it marks pixels without data" in said
    said = succeed("map", mapper, ground[0], "--out", "three.tif").out
    assert "alpha" not in said


def test_a_run_on_four_bands_reads_alpha_as_one_of_them(tmp_path):
    pixels = np.full((4, 40, 40), 9, np.uint8)
    path = write_scene(tmp_path / "four.tif", pixels)
    for stored in (3, 4):
        run = SimpleNamespace(
            input=SimpleNamespace(names=None, bands=(1, 2, 3), dtype="uint8"),
            record=SimpleNamespace(dataset=SimpleNamespace(bands=stored)),
            recipe=SimpleNamespace(data=DataOptions()),
        )
        scene, _ = open_for(run, [path], "four", SceneOptions())
        assert (len(scene.bands), len(scene.notes)) == (stored, 4 - stored)


def test_a_map_is_assessed_by_the_names_in_its_own_legend(mapper, ground):
    succeed("map", mapper, ground[0], "--out", "map.tif", "--quiet")
    succeed("assess", "map.tif", "--sample", 150, "--out", "points.gpkg", "--quiet")
    _, _, points, _ = pyogrio.raw.read("points.gpkg")
    x, y = shapely.get_coordinates(shapely.from_wkb(points)).T
    _, truth = country()
    codes = truth[((NORTH - y) // 10).astype(int), ((x - WEST) // 10).astype(int)]
    names = [list(COLOURS)[code] for code in codes]
    write_labels(Path("labels.gpkg"), shapely.from_wkb(points), names, field="reference")
    found = json.loads(succeed("assess", "map.tif", "--labels", "labels.gpkg", "--json").out)
    assert {one["accuracy"]["name"] for one in found["classes"]} == set(COLOURS)
    assert not [note for note in found["notes"] if "too few" not in note]
    hectares = (read("map.tif")[0] > 0).sum() * 0.64  # cells of 80 m
    assert sum(one["hectares"]["value"] for one in found["classes"]) == pytest.approx(hectares)
    assert found["accuracy"]["overall"]["value"] > 0.85


def test_a_cell_covered_by_one_chip_says_what_predict_says_of_that_chip(mapper, ground, tmp_path):
    succeed(
        "map", mapper, ground[0], "--out", "map.tif", "--step", CHIP, "--probabilities",
        "p.tif", "-q",
    )  # fmt: skip
    shares = read("p.tif")
    with rasterio.open(ground[0]) as scene:
        for row, column in ((0, 0), (3, 7), (10, 2)):
            cut = scene.read()[
                :, row * CHIP : (row + 1) * CHIP, column * CHIP : (column + 1) * CHIP
            ]
            write_raster(tmp_path / "chip.tif", cut)
            entry = json.loads(succeed("predict", mapper, "chip.tif", "--json", "-q").out)[0]
            expected = list(entry["probabilities"].values())
            np.testing.assert_allclose(shares[:, row, column], expected, atol=1e-5)


def test_dense_maps_mean_what_the_chips_say(mapper, ground, tmp_path):
    succeed("map", mapper, ground[0], "--out", "d.tif", "--dense", "--step", CHIP, "-q")
    with rasterio.open("d.tif") as file:
        assert file.shape == (25, 25)  # two patches of 7 pixels a chip of 14, so 8 pixels a cell
    _, truth = country()
    classes = json.loads((mapper / "classes.json").read_text("utf-8"))["classes"]
    names = [entry["name"] for entry in classes]
    wanted = np.array([names.index(name) + 1 for name in COLOURS])[truth[4::8, 4::8]]
    assert (read("d.tif")[0] == wanted).mean() > 0.8


def test_a_folder_of_scenes_gives_a_map_each_and_resume_keeps_those_that_are_there(
    mapper, ground, tmp_path
):
    for i, size in enumerate((40, 56)):
        write_scene(tmp_path / "in" / f"s{i}.tif", country(size, 64, seed=i)[0], names=NAMES)
    words = ("map", mapper, "in", "--out", "maps", "--polygons", "shapes", "--json", "-q")
    said = json.loads(succeed(*words).out)
    assert [entry["map"] for entry in said] == ["maps/s0.tif", "maps/s1.tif"]
    assert {p.name for p in (tmp_path / "shapes").iterdir()} == {"s0.gpkg", "s1.gpkg"}
    assert [entry["shape"] for entry in said] == [[5, 8], [7, 8]]
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.tif")}
    (tmp_path / "maps" / "s1.tif").unlink()
    assert json.loads(succeed(*words, "--resume").out) == said
    after = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.tif")}
    changed = {p.name for p in before if before[p] != after[p]}
    assert changed == {"s1.tif"}


def test_bands_are_found_by_name_in_any_order_and_in_files_of_their_own(mapper, ground, tmp_path):
    pixels, _ = country()
    write_scene(tmp_path / "turned.tif", pixels[::-1], names=NAMES[::-1])
    run = copy_run(mapper, tmp_path / "run")
    record = json.loads((run / "run.json").read_text("utf-8"))
    record["input"]["names"] = ["B04", "B03", "B02"]
    (run / "run.json").write_text(json.dumps(record), "utf-8")
    reseal(run)
    for i, name in enumerate(("B04", "B03", "B02")):
        write_scene(tmp_path / "bands" / f"x_{name}.tif", pixels[[i]])
    write_scene(tmp_path / "bands" / "preview.tif", pixels)
    write_scene(tmp_path / "nameless.tif", pixels)
    succeed("map", mapper, ground[0], "--out", "a.tif", "-q")
    succeed("map", mapper, "turned.tif", "--out", "b.tif", "-q")
    succeed("map", run, "bands", "--out", "c.tif", "-q")
    for told in (("--sensor", "rgb"), ("--band-names", "red,green,blue")):
        succeed("map", mapper, "nameless.tif", "--out", "d.tif", *told, "-q")
        np.testing.assert_array_equal(read("a.tif"), read("d.tif"))
    np.testing.assert_array_equal(read("a.tif"), read("b.tif"))
    np.testing.assert_array_equal(read("a.tif"), read("c.tif"))
    refused(tailora("map", mapper, "nameless.tif", "--out", "e.tif", "-q"), "--band-names")


@pytest.mark.parametrize("room", [8, 4_000, 12_000])
def test_a_full_disk_leaves_no_map_and_resume_goes_on(room, mapper, ground, tmp_path):
    words = ("map", mapper, ground[0], "--out", "map.tif", "--polygons", "m.gpkg", "-q")
    with no_file_longer_than(room):
        answer = tailora(*words)
    assert answer.code == 2, answer.err
    assert "--resume" in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not (tmp_path / "map.tif").exists()
    assert not (tmp_path / "m.gpkg").exists()
    succeed(*words, "--resume")
    assert sorted(snapshot(tmp_path)) == ["m.gpkg", "map.qml", "map.tif", "map.tif.aux.xml"]
    succeed("map", mapper, ground[0], "--out", "again.tif", "--polygons", "n.gpkg", "-q")
    assert (tmp_path / "map.tif").read_bytes() == (tmp_path / "again.tif").read_bytes()


def _two(folder):
    for name in ("a", "b"):
        write_scene(folder / "two" / f"{name}.tif", country(40, 40)[0], names=NAMES)
    return folder / "two"


def _of(folder, pixels, **options):
    return write_scene(folder / "bad" / "bad.tif", pixels, **{"names": NAMES, **options})


def tagged(folder, pixels, offset=0.0):
    """Values stored as whole numbers of 16 bits that tags bring to 0..1."""
    path = _of(folder, pixels, names=NAMES, nodata=0)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (1 / 256,) * 3, (offset,) * 3
    return path


def _by_points(folder):
    corners = [(0, 0), (0, 40), (40, 0), (40, 40)]
    points = [GroundControlPoint(r, c, WEST + 10 * c, -10 * r) for r, c in corners]
    path = folder / "points.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=40, height=40, count=3, dtype="uint8", gcps=points,
        crs="EPSG:32633",
    ) as file:  # fmt: skip
        file.write(country(40, 40)[0])
    return path


BAD = {
    "no such file": (lambda f: f / "none.tif", (), "no raster or folder"),
    "no coordinates": (
        lambda f: _of(f, country(40, 40)[0], crs=None), (), "no coordinate reference system",
    ),
    "too few bands": (lambda f: _of(f, country(40, 40)[0][:2], names=NAMES[:2]), (), "blue"),
    "other bands": (
        lambda f: _of(f, country(40, 40)[0], names=("B08", "B11", "B12")), (), "red",
    ),
    "another dtype": (lambda f: _of(f, country(40, 40)[0].astype(np.uint16)), (), "uint16"),
    "values that tags make": (
        lambda f: tagged(f, country(40, 40)[0]), (),
        "float32 values (converted from uint8 x 0.00390625 + 0 by its scale and offset tags)",
    ),
    "control points only": (
        _by_points, (), "4 ground control points only; warp it first",
    ),
    "no data at all": (
        lambda f: _of(f, np.zeros((3, 40, 40), dtype=np.uint8), nodata=0), (), "few valid",
    ),
    "not a raster": (lambda f: shutil.copy(__file__, f / "text.tif"), (), "cannot read"),
    "an empty folder": (lambda f: (f / "empty").mkdir() or f / "empty", (), "no raster"),
    "several scenes, one file": (_two, (), "set --out to a folder"),
    "a step beyond the chip": (None, ("--step", 17), "step must lie in 1..16"),
    "a tiny chip": (None, ("--chip", 2), "[4, 8192]"),
    "a share out of range": (None, ("--most-nodata", 1), "most_nodata"),
    "a wrong ending": (None, ("--polygons", "m.shp"), ".gpkg"),
    "one name twice": (None, ("--confidence", "map.tif"), "written twice"),
    "an unknown sensor": (None, ("--sensor", "sentinel-5"), "sentinel-2"),
    "too few names": (None, ("--band-names", "red,green"), "2 bands"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_mapped_is_refused_and_leaves_nothing(what, mapper, ground, tmp_path):
    make, options, said = BAD[what]
    scene = make(tmp_path) if make else ground[0]
    before = snapshot(tmp_path)
    refused(tailora("map", mapper, scene, "--out", "map.tif", *options, "-q"), said)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "options",
    [("--step", 4), ("--dense",), ("--resume",), ("--polygons", "a.gpkg"), ("--nodata", 0)],
)
def test_options_of_maps_are_refused_without_a_map(options, mapper, ground, refuse):
    refuse("predict", mapper, ground[0], "--out", "a.csv", *options, says=(options[0], "--out MAP"))


def test_predict_still_makes_the_same_map_and_points_to_the_verb_that_does(mapper, ground):
    options = ("--step", CHIP, "--polygons")
    succeed("map", mapper, ground[0], "--out", "a.tif", *options, "a.gpkg", "-q")
    answer = succeed("predict", mapper, ground[0], "--out", "b.tif", *options, "b.gpkg", "-q")
    assert answer.err.startswith("note: use `tailora map")
    assert len(answer.err.splitlines()) == 1
    assert np.array_equal(read("a.tif"), read("b.tif"))
    text = succeed("predict", "--help").out
    assert "tailora map" in text
    assert not [option for option in ("--polygons", "--step", "--resume") if option in text]


def test_a_scene_is_not_shrunk_to_one_answer(mapper, ground, refuse):
    refuse("predict", mapper, ground[0], "-q", says=("200 x 200 pixels", "--out scene-map.tif"))


def test_a_run_on_image_files_asks_for_the_chip(finished, ground, refuse, tmp_path):
    refuse("map", finished, ground[0], "--out", "map.tif", says=("--chip",))
    succeed("map", finished, ground[0], "--out", "map.tif", "--chip", 20, "-q")
    assert read("map.tif").shape == (1, 20, 20)


def test_dense_is_refused_where_only_the_class_token_is_pooled(mapper, ground, tmp_path, refuse):
    run = copy_run(mapper, tmp_path / "run")
    recipe = (run / "recipe.toml").read_text("utf-8")
    assert 'pooling = "both"' in recipe
    (run / "recipe.toml").write_text(recipe.replace('"both"', '"class"'), "utf-8")
    reseal(run)
    refuse("map", run, ground[0], "--out", "map.tif", "--dense", says=("class",))


def test_pixels_of_another_size_are_mapped_with_a_word_of_warning(mapper, tmp_path):
    write_scene(tmp_path / "a.tif", country(48, 48)[0], names=NAMES, pixel=30.0)
    answer = succeed("map", mapper, "a.tif", "--out", "map.tif")
    assert "are 30 metre instead of 10 in training" in " ".join(answer.out.split())
    with rasterio.open("map.tif") as file:
        assert file.res == (240, 240)
        assert file.bounds.left == WEST


@pytest.mark.parametrize(("factor", "warned"), [(1, False), (20, True)])
def test_values_unlike_those_of_training_are_mapped_with_a_word_of_warning(
    factor, warned, encoder, plain_report, tmp_path
):
    pixels = country()[0].astype(np.uint16)
    scene = write_scene(tmp_path / "scene.tif", pixels * 10, names=NAMES)
    shapes = [box(2 + 20 * i, 2 + 20 * j, 16, 16) for i in range(9) for j in range(9)]
    names = [("left", "right")[j > 4] for _ in range(9) for j in range(9)]
    labels = write_labels(tmp_path / "labels.gpkg", shapes, names)
    succeed(
        "fit", scene, "--labels", labels, "--class-field", "landuse", "--chip", CHIP, "--out",
        "run", "--backbone", encoder, "--image-size", 14, "--method", "zero-shot", "--quiet",
        "--set", "probe.l2=[0.1]", "--set", "evaluate.replicates=40",
    )  # fmt: skip
    other = write_scene(tmp_path / "other.tif", pixels[:, :60, :90] * 10 * factor, names=NAMES)
    said = " ".join(succeed("map", "run", other, "--out", "map.tif").out.split())
    assert ("if units or processing level differ" in said) is warned


def test_a_run_is_evaluated_on_another_scene_with_labels_given_by_flags(mapper, ground, tmp_path):
    scene, labels = ground
    flags = ("--labels", labels, "--class-field", "landuse", "--chip", CHIP)
    colon = f"{scene}:labels={labels}:class_field=landuse:chip={CHIP}"
    by_flags, by_colon = (
        succeed("evaluate", mapper, *words, "--json").out for words in ((scene, *flags), (colon,))
    )
    assert by_flags == by_colon
    assert json.loads(by_flags)["methods"][-1]["macro_f1"]["all"] > 0.5


def test_chips_of_another_size_are_said_and_absurd_ones_refused(mapper, ground, tmp_path):
    for wrong in (3, 8193, 10**15, 10**30):
        answer = tailora("map", mapper, ground[0], "--out", "m.tif", "--chip", wrong, "-q")
        refused(answer, "--chip must lie in [4, 8192]")
    answer = succeed("map", mapper, ground[0], "--out", "m.tif", "--chip", 3 * CHIP)
    told = " ".join((answer.out + answer.err).split())
    assert f"chips are {3 * CHIP} pixels per side instead of {CHIP}" in told
    assert "another size" not in succeed("map", mapper, ground[0], "--out", "own.tif").out


def test_a_scene_that_was_learnt_from_is_known_under_another_name(mapper, ground, tmp_path):
    """Its test chips are left, but those that reach onto training ground are not."""
    with rasterio.open(ground[0]) as file:
        copy = write_scene(tmp_path / "copy.tif", file.read(), names=NAMES, compress="deflate")
    _, truth = country()
    classes = write_scene(tmp_path / "classes.tif", truth[None].astype(np.uint8))
    named = "".join(f"<Category>{name}</Category>" for name in COLOURS)
    (tmp_path / "classes.tif.aux.xml").write_text(
        f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{named}</CategoryNames>'
        "</PAMRasterBand></PAMDataset>"
    )
    found = json.loads(succeed("evaluate", mapper, copy, "--labels", classes, "--json").out)
    record = json.loads((mapper / "run.json").read_text("utf-8"))["dataset"]
    assert found["learnt_from"] > record["n_train"] + record["n_val"]
    assert np.sum(found["methods"][-1]["confusion"]) > 0


def test_a_scene_in_a_local_system_is_mapped_in_that_system(mapper, tmp_path):
    local = rasterio.CRS.from_user_input('LOCAL_CS["site",UNIT["metre",1]]')
    write_scene(tmp_path / "a.tif", country(48, 64)[0], names=NAMES, crs=local)
    succeed("map", mapper, "a.tif", "--out", "map.tif", "--polygons", "m.gpkg")
    with rasterio.open("map.tif") as file:
        assert file.crs.to_wkt().startswith('LOCAL_CS["site"')
        assert file.bounds[::3] == (WEST, 5_822_000.0)
    assert pyogrio.read_info("m.gpkg")["crs"].startswith('LOCAL_CS["site"')


def test_masks_beside_the_scene_have_no_class_on_the_map(mapper, tmp_path):
    pixels, _ = country(96, 64)
    mask = np.full((96, 64), 255, dtype=np.uint8)
    mask[32:, :16] = mask[:16, 48:] = 0
    write_scene(tmp_path / "plain.tif", pixels, names=NAMES)
    pixels[:, mask == 0] = 255  # and enters no chip beside it
    write_scene(tmp_path / "a.tif", pixels, names=NAMES)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False),
        rasterio.open(tmp_path / "a.tif", "r+") as file,
    ):
        file.write_mask(mask)
    succeed("map", mapper, "a.tif", "--out", "map.tif", "--step", CHIP)
    succeed("map", mapper, "plain.tif", "--out", "whole.tif", "--step", CHIP)
    found, has = read("map.tif")[0], mask[::CHIP, ::CHIP] > 0
    np.testing.assert_array_equal(found > 0, has)
    np.testing.assert_array_equal(found[has], read("whole.tif")[0][has])


def test_one_reflectance_stored_in_two_ways_is_learnt_mapped_and_scored_alike(
    ground, encoder, tmp_path
):
    stored = country()[0].astype(np.uint16)
    first = tagged(tmp_path / "first", stored)
    later = tagged(tmp_path / "later", stored + 256, -1.0)
    labels = ("--labels", ground[1], "--class-field", "landuse", "--chip", CHIP)
    succeed(
        "fit", first, *labels, "--out", "run", "--backbone", encoder, "--image-size", 14,
        "--method", "zero-shot", "--quiet", "--set", "probe.l2=[0.1]",
        "--set", "evaluate.replicates=40", "--set", "evaluate.label_value=false",
    )  # fmt: skip
    record = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    chips = np.array(COLOURS["forest"] + COLOURS["water"]) / 256
    assert chips.min() < min(record["input"]["mean"]) < max(record["input"]["mean"]) < chips.max()
    for name, path in (("a.tif", first), ("b.tif", later)):
        succeed("map", "run", path, "--out", name, "-q")
    np.testing.assert_array_equal(read("a.tif"), read("b.tif"))
    assert len(np.unique(read("a.tif"))) == 3
    third = tagged(tmp_path / "third", stored + 512, -2.0)
    scores = [  # of chips that the run has not seen, unlike those of its own scene
        json.loads(succeed("evaluate", "run", path, *labels, "--json").out)["methods"]
        for path in (later, third)
    ]
    assert scores[0] == scores[1]
    assert scores[0][-1]["macro_f1"]["all"] > 0.9
    write_scene(tmp_path / "raw.tif", stored, names=NAMES)
    refused(tailora("map", "run", "raw.tif", "--out", "c.tif", "-q"), "trained on float32")
    refused(tailora("evaluate", "run", "raw.tif", *labels, "-q"), "float32")
