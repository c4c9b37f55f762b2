"""`tailora select`: what to label next, from folders and scenes."""

import json

import numpy as np
import pyogrio
import pytest
import shapely

from tailora import load_run
from tests.data.scenes import write_scene
from tests.end_to_end.chips import SIDE, read_rows, refused, succeed, tailora, write_chips


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return write_chips(tmp_path_factory.mktemp("select") / "pool", {"x": 30, "y": 10}, seed=5)


@pytest.fixture(scope="module")
def words(encoder):
    return ("--backbone", encoder, "--set", f"data.image_size={SIDE}")


def test_a_table_of_images_to_label(pool, words, tmp_path):
    told = succeed("select", pool, *words, "--budget", 6, "--out", "next.csv", "--quiet").out
    assert told == ""
    rows = read_rows((tmp_path / "next.csv").read_text("utf-8"))
    assert [row["rank"] for row in rows] == list("123456")
    assert len({row["path"] for row in rows}) == 6
    again = succeed(
        "select", pool, *words, "--budget", 6, "--method", "random", "--json", "--quiet"
    )
    assert len(json.loads(again.out)["images"]) == 6


def test_a_run_says_what_it_takes_them_for(pool, finished, tmp_path):
    words = ("--run", finished, "--budget", 5, "--method", "margin", "--out", "next.csv")
    told = succeed("select", pool, *words, "--json", "--quiet").out
    answer = json.loads(told)
    rows = read_rows((tmp_path / "next.csv").read_text("utf-8"))
    names = load_run(finished).class_names
    assert all(row["label"] in names for row in rows)
    assert sum(answer["predicted"].values()) == 5
    succeed("predict", finished, pool, "--out", "p.csv", "--quiet")
    predicted = read_rows((tmp_path / "p.csv").read_text("utf-8"))
    found = next(row for row in predicted if row["path"].endswith(rows[0]["id"]))
    assert found["class"] == rows[0]["label"]


def test_windows_of_a_scene_lie_side_by_side(words, tmp_path):
    pixels = np.random.default_rng(0).integers(1, 255, (3, 64, 96), dtype=np.uint8)
    scene = write_scene(tmp_path / "scene.tif", pixels)
    succeed(
        "select", scene, *words, "--budget", 24, "--method", "bands", "--chip", 16, "--out",
        "next.gpkg", "--quiet",
    )  # fmt: skip
    _, _, shapes, _ = pyogrio.raw.read(tmp_path / "next.gpkg")
    boxes = shapely.from_wkb(shapes)
    assert len(boxes) == 24  # all of 4 x 6
    first, second = np.triu_indices(24, 1)
    assert shapely.area(shapely.intersection(boxes[first], boxes[second])).max() == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--step", 0), "got 0"),
        (("--chip", 0), "--chip must lie in"),
        (("--chip", 16, "--budget", 25), "24 windows, fewer than --budget 25"),
    ],
)
def test_windows_that_cannot_be_are_refused(given, said, words, tmp_path):
    scene = write_scene(tmp_path / "scene.tif", np.ones((3, 64, 96), dtype=np.uint8))
    refused(tailora("select", scene, *words, "--budget", 3, *given, "--quiet"), said)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--budget", 0), "--budget must be at least 1"),
        (("--budget", 41), "fewer than --budget 41"),
        (("--budget", 3, "--method", "margins"), "did you mean 'margin'"),
        (("--budget", 3, "--method", "badge"), "state --run"),
        (("--budget", 3, "--method", "objects"), "state --run"),
        (("--budget", 3, "--out", "next.txt"), "--out must end in .csv"),
        (("--budget", 3, "--out", "next.gpkg"), "is for windows of a scene"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(given, said, pool, words):
    refused(tailora("select", pool, *words, *given, "--quiet"), said)
