"""`tailora search`: images and windows of scenes that look like examples."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyogrio
import pytest
import shapely
from PIL import Image
from scipy.linalg import inv, sqrtm
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import normalize

import tailora
from tailora.backbones.symmetries import over_views
from tailora.data import prepare_images
from tailora.features.whitening import RIDGE
from tailora.inference import search_pool
from tailora.runs.run import Classifier
from tests.data.scenes import NORTH, WEST, write_scene
from tests.end_to_end.chips import (
    SIDE,
    chip,
    copy_run,
    read_rows,
    refused,
    snapshot,
    succeed,
    write_chip,
    write_chips,
    write_raster,
)
from tests.end_to_end.chips import tailora as run_tailora
from tests.end_to_end.test_segment import OPTIONS, write_pairs

RARE = "日本"
CHIP, STEP = 16, 8


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Folder of class folders with 32 chips, three of them rare."""
    return write_chips(
        tmp_path_factory.mktemp("small") / "chips", {"a": 15, "b, c": 14, RARE: 3}, seed=4
    )


@pytest.fixture(scope="module")
def words(encoder):
    """Options for the tiny pretrained encoder."""
    return ("--backbone", encoder, "--set", f"data.image_size={SIDE}")


@pytest.fixture
def scene(tmp_path):
    """Scene of 64 x 80 pixels with bright blots, and no data in the first rows."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(20, 90, (3, 64, 80), dtype=np.uint8)
    for row, column in ((20, 8), (40, 60), (24, 50)):
        pixels[:, row : row + 14, column : column + 14] += 120
    pixels[:, :12] = 0
    return write_scene(tmp_path / "scene.tif", pixels, nodata=0)


def found(*words):
    return json.loads(succeed("search", *words, "--json", "--quiet").out)


def features(run, data):
    """Features of all images straight from the model, and their names."""
    opened = tailora.open_dataset(data)
    loaded = tailora.load_run(run, views=1)
    images = prepare_images(opened, data.parent / "prepared", image_size=SIDE)
    batch = loaded.input.select(images.batch(np.arange(len(opened))))
    return loaded.model.features(batch).detach().numpy().astype(float), opened.ids(), loaded, batch


def expected(rows, like, unlike=()):
    """Scores by SciPy and scikit-learn."""
    covariance = np.cov(rows.T.astype(float), bias=True)
    ridge = RIDGE * covariance.diagonal().mean() * np.eye(rows.shape[1])
    own = (rows - rows.mean(axis=0, dtype=float)) @ inv(sqrtm(covariance + ridge))
    of, less = (
        cosine_similarity(own, normalize(own[one]).mean(axis=0)[None])[:, 0] if len(one) else 0
        for one in (like, list(unlike))
    )
    return of - less / 4


def test_images_rank_by_cosine_of_the_run_s_features(finished, small, tmp_path):
    rows, ids, _, _ = features(finished, small)
    like, unlike = [f"{RARE}/000.png", f"{RARE}/002.png"], ["b, c/003.png"]
    answer = succeed(
        "search", small, "--run", finished, "--like", ",".join(like), "--unlike", unlike[0],
        "--top", 40, "--out", "hits.csv",
    )  # fmt: skip
    scores = expected(rows, [ids.index(one) for one in like], [ids.index(one) for one in unlike])
    left = [i for i in np.argsort(-scores, kind="stable") if ids[i] not in (*like, *unlike)]
    hits = read_rows((tmp_path / "hits.csv").read_text("utf-8"))
    assert [hit["id"] for hit in hits] == [ids[i] for i in left]
    assert [int(hit["rank"]) for hit in hits] == list(range(1, len(left) + 1))
    np.testing.assert_allclose([float(hit["score"]) for hit in hits], scores[left], atol=1e-5)
    assert [hit["label"] for hit in hits] == [hit["id"].rpartition("/")[0] for hit in hits]
    assert hits[0]["path"] == str(small / hits[0]["id"])
    right = [hit["label"] == RARE for hit in hits]
    measured = average_precision_score(right, [float(hit["score"]) for hit in hits])
    assert f"precision at 10 {100 * np.mean(right[:10]):.1f} %" in answer.out
    assert f"average precision {100 * measured:.1f} %" in answer.out
    assert "1 of 29 images" in answer.out


def test_eight_views_average_over_turns(finished, small):
    rows, ids, loaded, batch = features(finished, small)
    rows = over_views(loaded.model.encoder, batch).detach().numpy().astype(float)
    hits = found(small, "--run", finished, "--like", "a/001.png", "--views", 8)["hits"]
    scores = expected(rows, [ids.index("a/001.png")])
    np.testing.assert_allclose(
        [hit["score"] for hit in hits], [scores[ids.index(hit["id"])] for hit in hits], atol=1e-5
    )


def test_a_second_search_reads_no_image_and_says_the_same(small, words, monkeypatch, tmp_path):
    like = ("--like", f"{RARE}/000.png")
    first = found(small, *words, *like, "--out", "hits.csv")
    csv = (tmp_path / "hits.csv").read_bytes()
    assert not first["reused"]

    def unread(*_):
        raise AssertionError("an image was read")

    monkeypatch.setattr("tailora.data.sources.decode", unread)
    again = found(small, *words, *like, "--out", "hits.csv")
    assert again == first | {"reused": True}
    assert (tmp_path / "hits.csv").read_bytes() == csv
    other = found(small, *words, "--like", "a/000.png", "--cache", "tailora-features")
    assert other["reused"]
    assert other["hits"] != first["hits"]


def test_features_are_made_anew_for_other_images_or_another_encoder(
    small, words, finished, tmp_path
):
    here = shutil.copytree(small, tmp_path / "chips")
    like = ("--like", "a/000.png", "--cache", "kept")
    found(here, *words, *like)
    assert found(here, *words, *like)["reused"]
    assert not found(here, *words, *like, "--views", 8)["reused"]
    assert not found(here, "--run", finished, *like)["reused"]
    write_chip(here / "a" / "003.png", chip(np.random.default_rng(9), 2))
    assert not found(here, *words, *like)["reused"]


def test_copies_of_examples_are_left_out_or_marked(small, words, tmp_path):
    here = shutil.copytree(small, tmp_path / "chips")
    shutil.copy(here / RARE / "000.png", here / "a" / "copy.png")
    shutil.copy(here / RARE / "000.png", tmp_path / "elsewhere.png")
    plain = found(here, *words, "--like", "elsewhere.png", "--top", 99, "--class", RARE)
    ids = [hit["id"] for hit in plain["hits"]]
    assert plain["copies"] == 2
    assert len(ids) == 31
    assert not {f"{RARE}/000.png", "a/copy.png"} & set(ids)
    assert plain["quality"]["images"] == 2
    kept = found(
        here, *words, "--like", "elsewhere.png", "--keep-examples", "--top", 3, "--out", "h.csv"
    )
    assert [hit["example"] for hit in kept["hits"]] == [True, True, False]
    assert kept["hits"][0]["score"] == pytest.approx(1)
    rows = read_rows((tmp_path / "h.csv").read_text("utf-8"))
    assert [row["example"] for row in rows] == ["1", "1", "0"]
    assert "--class" in kept["notes"][0]


def test_a_plain_folder_is_searched_at_any_depth_without_labels(small, words, tmp_path):
    pool = tmp_path / "pool"
    shutil.copytree(small / "a", pool / "2024")
    shutil.copy(small / RARE / "001.png", pool / "one.png")
    hits = found(pool, *words, "--like", small / RARE / "000.png", "--top", 99, "--out", "h.csv")
    assert {hit["id"] for hit in hits["hits"]} == {
        "one.png", *(f"2024/{i:03d}.png" for i in range(15))
    }  # fmt: skip
    assert hits["quality"] is None
    assert hits["notes"] == []
    assert "label" not in read_rows((tmp_path / "h.csv").read_text("utf-8"))[0]


def test_a_page_shows_examples_and_hits(small, words, tmp_path):
    out = succeed(
        "search", small, *words, "--like", f"{RARE}/000.png", "--unlike", "a/000.png", "--html",
        "hits.html", "--top", 4,
    ).out  # fmt: skip
    page = (tmp_path / "hits.html").read_text("utf-8")
    assert page.count("data:image/png") == 6
    assert "Counter-examples" in page
    assert "not kept" in out


def test_windows_of_a_scene_lie_apart_in_its_coordinates(scene, words, tmp_path):
    box = (WEST + 80, NORTH - 340, WEST + 240, NORTH - 180)  # rows 18 to 34, columns 8 to 24
    like = ("--like", ",".join(map(str, box)))
    grid = ("--chip", CHIP, "--step", STEP, "--top", 99)
    answer = found(scene, *words, *like, *grid, "--out", "hits.gpkg")
    meta, _, shapes, fields = pyogrio.raw.read(tmp_path / "hits.gpkg")
    boxes = shapely.from_wkb(shapes)
    assert meta["crs"] == "EPSG:32633"
    assert list(meta["fields"]) == ["rank", "id", "score"]
    np.testing.assert_allclose(
        shapely.bounds(boxes), [hit["bounds"] for hit in answer["hits"]], atol=1e-6
    )
    assert fields[1].tolist() == [hit["id"] for hit in answer["hits"]]
    assert fields[2].tolist() == [hit["score"] for hit in answer["hits"]]
    every = [*boxes, shapely.box(*box)]
    assert all(
        one.intersection(other).area == 0 for i, one in enumerate(every) for other in every[:i]
    )
    # one that is no hit has no data, or overlaps the example or a better hit
    rows, columns = np.mgrid[0 : 64 - CHIP + 1 : STEP, 0 : 80 - CHIP + 1 : STEP].reshape(2, -1)
    assert answer["left_out"] == (rows < 8).sum()
    ground = shapely.box(
        WEST + 10 * columns, NORTH - 10 * (rows + CHIP), WEST + 10 * (columns + CHIP),
        NORTH - 10 * rows,
    )[rows >= 8]  # fmt: skip
    near = shapely.STRtree(every).query(ground, predicate="intersects")
    assert {int(i) for i in near[0]} == set(range(len(ground)))
    # both other blots come first, and their windows are found again by their ids
    centres = shapely.get_coordinates(shapely.centroid(boxes[:2]))
    blots = np.array([[WEST + 670, NORTH - 470], [WEST + 570, NORTH - 310]])
    gaps = np.abs(centres[:, None] - blots[None]).max(axis=2)
    assert (gaps.min(axis=0) <= 80).all()
    hit = answer["hits"][0]
    again = found(scene, *words, "--like", hit["id"], *grid, "--keep-examples", "--cache",
                  "tailora-features")  # fmt: skip
    assert again["reused"]
    assert again["hits"][0]["id"] == hit["id"]
    assert again["hits"][0]["example"]


def test_hits_of_a_scene_are_geojson_in_longitude_and_latitude_too(scene, words, tmp_path):
    box = f"{WEST + 80},{NORTH - 340},{WEST + 240},{NORTH - 180}"
    grid = ("--chip", CHIP, "--like", box, "--top", 2)
    hits = found(scene, *words, *grid, "--out", "hits.geojson")["hits"]
    told = json.loads((tmp_path / "hits.geojson").read_text())
    west = np.array(told["features"][0]["geometry"]["coordinates"][0])
    assert ((west > [12, 52]) & (west < [13, 53])).all()
    found(scene, *words, *grid, "--out", "hits.csv")
    rows = read_rows((tmp_path / "hits.csv").read_text())
    assert [[float(row[edge]) for edge in ("west", "south", "east", "north")] for row in rows] == [
        hit["bounds"] for hit in hits
    ]


def test_an_edited_scene_is_read_again(scene, words):
    like = ("--like", "row00048-column00048", "--chip", CHIP, "--cache", "kept")
    first = found(scene, *words, *like)
    assert found(scene, *words, *like)["reused"]
    with Image.open(scene) as image:
        pixels = np.moveaxis(np.array(image), -1, 0)
    write_scene(scene, pixels[:, ::-1], nodata=0)
    again = found(scene, *words, *like)
    assert not again["reused"]
    assert again["hits"] != first["hits"]


def test_an_example_of_another_scale_is_told(scene, words, tmp_path):
    write_chip(tmp_path / "e.png", chip(np.random.default_rng(0), 1, side=30))
    out = succeed("search", scene, *words, "--like", "e.png", "--chip", CHIP).out
    assert "use --chip 30" in out


def test_broken_images_are_skipped_when_asked(small, words, tmp_path):
    here = shutil.copytree(small, tmp_path / "chips")
    (here / "a" / "000.png").write_bytes(b"nothing")
    like = ("--like", f"{RARE}/000.png")
    like = (*like, "--quiet")
    refused(run_tailora("search", here, *words, *like, "--out", "h.csv"), "--skip-broken")
    assert not (tmp_path / "tailora-features").exists()
    answer = found(here, *words, *like, "--skip-broken", "--top", 99)
    assert answer["left_out"] == 1
    assert len(answer["hits"]) == 30
    like = ("--like", "a/000.png", "--skip-broken", "--quiet")
    refused(run_tailora("search", here, *words, *like), "cannot be used")


def test_it_is_a_function_that_takes_objects(small, finished):
    data, run = tailora.open_dataset(small), tailora.load_run(finished)
    result = tailora.search(data, [f"{RARE}/000.png"], run=run, top=5)
    same = tailora.search(str(small), [f"{RARE}/000.png"], run=finished, top=5)
    assert isinstance(result, tailora.SearchResult)
    assert result.hits == same.hits
    table = result.hits.to_frame()
    assert table["rank"].tolist() == [1, 2, 3, 4, 5]


def test_layers_that_the_head_alone_sees_are_not_searched(small, finished):
    run = tailora.load_run(finished)
    other = replace(
        run,
        recipe=run.recipe.override({"probe.layers": [1, -1]}),
        model=Classifier(run.model.encoder.with_layers((1, -1)), run.model.head),
    )
    words = (str(small), [f"{RARE}/000.png"])
    assert tailora.search(*words, run=other) == tailora.search(*words, run=run)


@pytest.fixture(scope="module")
def segmenting(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("segment")
    pairs = write_pairs(folder / "pairs", images=12)
    succeed("fit", pairs, "--out", folder / "run", "--backbone", encoder, *OPTIONS,
            "--ignore", "255")  # fmt: skip
    return folder / "run"


LIKE = ("--like", "a/000.png")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("chips",), ["--like"]),
        (("chips", "--like", ""), ["--like"]),
        (("chips", "--like", "none.png"), ["'none.png'", "neither a file nor the id"]),
        (("chips", "--like", "chips/a"), ["'chips/a' is a folder", "list the images"]),
        (("scene.tif", "--like", "3,4"), ["'3'", "WEST,SOUTH,EAST,NORTH"]),
        (("chips", "--like", "a/000.png,x/1.png"), ["'x/1.png'", "such as 'a/000.png'"]),
        (("chips", *LIKE, "--unlike", "none.png"), ["'none.png'"]),
        (("chips", "--like", "grey-alpha.tif"), ["grey-alpha.tif", "2 bands", "3 of uint8"]),
        (("chips", "--like", "no-image.png"), ["no-image.png", "not a JPEG, PNG or TIFF"]),
        (("chips", "--like", "1,2,3,4"), ["box", "is for a scene"]),
        (("chips", *LIKE, "--top", 0), ["--top", "at least 1"]),
        (("chips", *LIKE, "--combine", "sum"), ["--combine", "mean or max"]),
        (("chips", *LIKE, "--views", 2), ["--views", "1 or 8"]),
        (("chips", *LIKE, "--class", "d"), ["unknown class 'd'"]),
        (("chips", *LIKE, "--out", "h.gpkg"), ["windows of a scene"]),
        (("chips", *LIKE, "--out", "h.txt"), ["--out", ".csv, .gpkg, .geojson"]),
        (("chips", *LIKE, "--html", "h.txt"), ["--html", ".html"]),
        (("chips", *LIKE, "--chip", 16), ["--chip", "scene"]),
        (("chips", *LIKE, "--set", "data.image_size=15"), ["15"]),
        (("empty", *LIKE), ["no image"]),
        (("nowhere", *LIKE), ["no file or folder 'nowhere'"]),
        (("torn.tif", *LIKE), ["torn.tif"]),
        (("nodata.tif", "--like", "row00016-column00016", "--chip", 16), ["decoded"]),
        (("scene.tif", "--like", "1,2,3,4"), ["not within", "330000"]),
        (("scene.tif", "--like", "330000,5821990,330010,5822000"), ["1 x 1 pixels"]),
        (("scene.tif", "--like", "row1"), ["'row1'", "row00032-column00032"]),
        (("scene.tif", "--like", "a.png", "--chip", 2), ["--chip", "[4, 8192]"]),
        (("scene.tif", "--like", "a.png", "--chip", 16, "--step", 17), ["step", "16"]),
        (("scene.tif", "--like", "a.png", "--class", "a"), ["--class needs labels"]),
    ],
    ids=str,
)
def test_what_cannot_be_searched_is_refused_in_one_line(
    words, says, scene, small, encoder, tmp_path, refuse
):
    shutil.copytree(small, tmp_path / "chips")
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.tif").write_bytes(scene.read_bytes()[:300])
    (tmp_path / "no-image.png").write_bytes(b"text")
    write_raster(tmp_path / "grey-alpha.tif", np.ones((2, 20, 20), np.uint8))
    write_scene(tmp_path / "nodata.tif", np.zeros((3, 64, 80), np.uint8), nodata=0)
    refuse("search", *words, "--backbone", encoder, says=says)


def test_a_run_of_another_task_or_with_another_encoder_is_refused(
    segmenting, finished, small, tmp_path, refuse
):
    refuse("search", small, *LIKE, "--run", segmenting, says=["search", "'segment'"])
    refuse("search", small, *LIKE, "--run", "none", says=["none"])
    refuse("search", small, *LIKE, "--run", finished, "--backbone", "x", says=["--backbone"])
    grey = write_chips(tmp_path / "five", {"a": 2}, bands=3)
    write_raster(grey / "a" / "five.tif", np.ones((5, 20, 20), np.uint8))
    says = ["five.tif", "5 bands", "3 of uint8"]
    refuse("search", grey, *LIKE, "--run", finished, "--quiet", says=says)
    write_raster(tmp_path / "five.tif", np.ones((5, 20, 20), np.uint8))
    refuse("search", small, "--like", "five.tif", "--run", finished, says=["five.tif", "5 bands"])
    run = copy_run(finished, tmp_path / "run")
    (run / "classes.json").write_text("{}")
    before = snapshot(tmp_path)
    refused(run_tailora("search", small, *LIKE, "--run", run), "classes.json")
    assert snapshot(tmp_path) == before


def test_many_groups_of_images_and_threads_keep_the_order(small, words, monkeypatch):
    like = ("--like", "a/000.png", "--top", 99)
    whole = found(small, *words, *like)["hits"]
    monkeypatch.setattr(search_pool, "_AT_ONCE", 3)
    parts = found(small, *words, *like)["hits"]
    assert [hit["id"] for hit in parts] == [hit["id"] for hit in whole]
    np.testing.assert_allclose(
        [hit["score"] for hit in parts], [hit["score"] for hit in whole], atol=1e-5
    )
