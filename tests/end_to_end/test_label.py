"""`tailora label`: from images without labels to a run, without a browser."""

import contextlib
import json
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from PIL import Image
from sklearn.metrics import cohen_kappa_score

from tailora.cli.label import _serve
from tailora.config.recipe import Recipe
from tailora.labelling.session import LabellingSession
from tailora.storage import write_json
from tests.data.scenes import write_scene
from tests.end_to_end.chips import (
    SIDE,
    read_rows,
    refused,
    succeed,
    tailora,
    write_chips,
)

CHIP = 16


@pytest.fixture(scope="module")
def words(encoder):
    return ("--backbone", encoder, "--set", f"data.image_size={SIDE}", "--no-browser")


@pytest.fixture
def person(monkeypatch):
    """Answers every image by a function of the session and the image, in place of a browser."""
    answers = {}

    def serve(session, *, port, browser):
        for _ in range(answers.get("pages", 3)):
            for one in session.queries(12):
                session.answer(one.item, answers["of"](session, one.item), seconds=0.5)
            session.advance(12)

    def pretend(port):
        return None

    fake = types.SimpleNamespace(serve=serve, require_server=pretend)
    monkeypatch.setitem(sys.modules, "tailora.labelling.serve", fake)
    return answers


def of_folder(session, item):
    return session.pool.source.id(item).split("/")[0]


def test_images_are_labelled_exported_and_fitted(words, person, tmp_path):
    pool = write_chips(tmp_path / "pool", {"x": 40, "y, z": 16}, seed=5)
    (tmp_path / "classes.txt").write_text("x\ny, z\n")
    person["of"] = of_folder
    first = ("label", pool, "--classes", "classes.txt", "--out", "s", "--seed", 2)
    assert "36 answers in s" in succeed(*first, *words, "--like", "x=x/000.png").err
    settings = json.loads((tmp_path / "s" / "session.json").read_text())
    assert (settings["classes"], settings["seed"]) == (["x", "y, z"], 2)
    person["pages"] = 1
    assert "48 answers" in succeed("label", pool, "--out", "s", "--no-browser").err  # continues

    told = succeed("label", "export", "s", "--out", "out/labels.csv", "--json", "--quiet").out
    rows = read_rows((tmp_path / "out" / "labels.csv").read_text("utf-8"))
    assert json.loads(told)["labels"] == len(rows) == 48
    assert all(row["path"] == f"../pool/{row['id']}" for row in rows)
    assert all(row["id"].startswith(f"{row['label']}/") for row in rows)
    assert {"find", "random"} <= {row["acquisition"] for row in rows}
    drawn = sum(row["acquisition"] in ("random", "check") for row in rows)
    [note] = json.loads(told)["notes"]
    assert note.startswith(f"drawn at random: {drawn} of 48 labels, which alone estimate accuracy")
    fit = ("fit", "out/labels.csv", "--method", "zero-shot", *words[:4], "--out", "run")
    succeed(*fit, "--quiet", "--set", "evaluate.replicates=10")


def test_suggestions_that_failed_are_told_at_the_end(person, capsys):
    class Failed(contextlib.nullcontext):
        notes, queries, advance = (), lambda *_: (), lambda *_: ()
        status = staticmethod(lambda: types.SimpleNamespace(failed="MemoryError", answered=3))

    _serve(Failed(), Path("s"), 0, browser=False, quiet=True)
    said = capsys.readouterr().err
    assert said == "note: suggestions could not be renewed: MemoryError\n"


def test_windows_of_a_scene_are_labelled_exported_and_fitted(words, person, tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(20, 90, (3, 8 * CHIP, 12 * CHIP), dtype=np.uint8)
    pixels[:, :, 6 * CHIP :] += 120
    scene = write_scene(tmp_path / "scene.tif", pixels)

    def of_place(session, item):
        if item % 12 == 5:
            return "unsure"
        return "bright" if item % 12 >= 6 else "dark"

    person |= {"of": of_place, "pages": 8}
    start = ("label", scene, "--classes", "dark,bright", "--chip", CHIP, "--out", "s")
    succeed(*start, *words, "--quiet")
    succeed("label", "export", "s", "--out", "labels.gpkg", "--quiet")
    meta, _, shapes, fields = pyogrio.raw.read(tmp_path / "labels.gpkg")
    named = dict(zip(meta["fields"], fields, strict=True))
    columns = shapely.centroid(shapely.from_wkb(shapes))
    assert list(meta["fields"]) == ["class", "id", "acquisition"]
    assert len(shapes) == 88  # without those of which nobody was sure
    middle = 330_000 + 10 * 6 * CHIP
    assert ((named["class"] == "bright") == (shapely.get_x(columns) > middle)).all()
    fit = ("fit", scene, "--labels", "labels.gpkg", "--class-field", "class", "--chip", CHIP)
    succeed(*fit, "--method", "zero-shot", *words[:4], "--out", "run", "--quiet")

    for form in ("coco", "label-studio"):
        succeed("label", "export", "s", "--out", f"{form}.json", "--format", form, "--quiet")
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert [(one["file_name"], one["width"]) for one in coco["images"]] == [("scene.tif", 192)]
    assert coco["annotations"][0]["bbox"] == [0, 0, CHIP, CHIP]
    (task,) = json.loads((tmp_path / "label-studio.json").read_text())
    first = task["annotations"][0]["result"][1]
    assert first["value"]["x"] == pytest.approx(100 / 12)
    assert first["value"]["rectanglelabels"] == ["dark"]
    # what was written comes in again
    expected = counts(tmp_path, "s")
    for number, file in enumerate(("labels.gpkg", "coco.json", "label-studio.json")):
        out = f"s{number}"
        shutil.copytree("s", out)
        (tmp_path / out / "answers.jsonl").write_text("")
        told = succeed("label", "import", out, file, "--json", "--quiet").out
        assert json.loads(told) == {"labels": 88, "answered": 0, "differ": 0, "elsewhere": 0}
        assert counts(tmp_path, out) == expected


def counts(folder, name):
    succeed("label", "export", name, "--out", "again.csv", "--quiet")
    rows = read_rows((folder / "again.csv").read_text("utf-8"))
    return sorted((row["id"], row["label"], row["west"]) for row in rows)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, encoder):
    """A folder with a pool of flat files, and a session that has labelled all but four."""
    root = tmp_path_factory.mktemp("labelled")
    pool = write_chips(root / "pool", {"x": 12, "y": 8}, seed=1)
    recipe = Recipe().override({"backbone.name": str(encoder), "data.image_size": SIDE})
    with LabellingSession.create(pool, root / "a", classes=["x", "y"], recipe=recipe) as session:
        for one in session.queries(16):
            session.answer(one.item, of_folder(session, one.item))
    return root


def test_labels_go_to_other_tools_and_come_back(labelled, tmp_path):
    root = shutil.copytree(labelled, tmp_path / "labelled")
    for form in ("coco", "label-studio"):
        out = root / f"{form}.json"
        succeed("label", "export", root / "a", "--out", out, "--format", form, "--quiet")
    coco = json.loads((root / "coco.json").read_text())
    assert len(coco["images"]) == len(coco["annotations"]) == 16
    names = {one["id"]: one["name"] for one in coco["categories"]}
    for image, one in zip(coco["images"], coco["annotations"], strict=True):
        with Image.open(root / image["file_name"]) as picture:
            assert one["bbox"] == [0, 0, *picture.size]
        assert names[one["category_id"]] == image["file_name"].split("/")[-2]
    tasks = json.loads((root / "label-studio.json").read_text())
    result = tasks[0]["annotations"][0]["result"][0]
    assert result["value"]["choices"] == [tasks[0]["data"]["image"].split("/")[-2]]

    (root / "a" / "answers.jsonl").write_text("")
    table = root / "some.csv"
    pool = labelled / "pool"
    table.write_text(f"path,label\n{pool}/x/000.png,x\n{pool}/y/001.png,y\n{pool}/no/1.png,y\n")
    told = [succeed("label", "import", root / "a", root / name, "--json", "--quiet").out
            for name in ("some.csv", "coco.json", "label-studio.json")]  # fmt: skip
    came = [json.loads(text) for text in told]
    assert came[0] == {"labels": 2, "answered": 0, "differ": 0, "elsewhere": 1}
    before = sum(f"pool/{name}" in str(tasks) for name in ("x/000.png", "y/001.png"))
    assert came[1] == {
        "labels": 16 - before, "answered": before, "differ": 0, "elsewhere": 0,
    }  # fmt: skip
    assert came[2] == {"labels": 0, "answered": 16, "differ": 0, "elsewhere": 0}
    table.write_text(f"path,label\n{pool}/x/000.png,y\n{pool}/y/001.png,y\n")
    told = succeed("label", "import", root / "a", table).out
    assert "0 labels added; answered before: 2, of which 1 differently; the answers of" in told


def test_two_people_are_merged(labelled, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(labelled / "a", tmp_path / name)
    with LabellingSession.open(tmp_path / "b") as session:
        items = sorted(one.item for one in session.queries(16))
        for item in items[:3]:
            session.answer(item, "y")  # were x
        session.answer(items[3], "skip")
    told = succeed("label", "merge", "a", "b", "--out", "both", "--json").out
    found = json.loads(told)
    with LabellingSession.open(tmp_path / "both") as session:
        truth = [of_folder(session, item) for item in items if item != items[3]]
        page = session.queries(3)
        status = session.status()
    other = ["y"] * 3 + truth[3:]
    of_all, of_x, _ = found["agreement"]
    assert (of_all["images"], of_all["agreed"]) == (15, 12)
    assert of_all["kappa"] == pytest.approx(cohen_kappa_score(truth, other))
    assert (of_x["name"], of_x["images"]) == ("x", truth.count("x"))
    assert of_x["agreed"] == truth.count("x") - 3
    assert (found["differ"], found["decided"], found["labels"]) == (3, 0, 13)
    assert sorted(one.item for one in page) == items[:3]
    assert sum(status.counts.values()) == 13
    rows = read_rows((tmp_path / "both" / "differences.csv").read_text())
    assert [(row["a"], row["b"]) for row in rows] == [("x", "y")] * 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("start {pool}", "a new session needs its classes"),
        ("{pool} --classes one", "two classes or more"),
        ("{pool} --classes a,b,a", "'a' more than once"),
        ("{pool} --classes a,,b", "class 2 of --classes has an empty name"),
        ("{pool} --classes a,unsure", "an answer of its own"),
        ("{pool} --classes a,b --like c=x/000.png", "unknown class 'c'"),
        ("{pool} --classes a,b --like x/000.png", "--like must be CLASS=EXAMPLE"),
        ("{pool} --classes a,b --like a=bands.tif {words}", "2 bands"),
        ("{pool} --classes a,b --random-share 2", "--random-share must lie in [0, 1]"),
        ("{pool} --classes a,b --target 0", "--target must be at least 1"),
        ("empty --classes a,b", "empty"),
        ("{pool} --out {a} --target 5", "has its own --target"),
        ("{pool} --out {a} --classes x,z", "has the classes x, y"),
        ("other --out {a}", "are others or have changed"),
        ("export {pool} --out a.csv", "no session of labels"),
        ("export {a} --out a.txt", "--out must end in"),
        ("export {a} --out a.json", "a .json needs --format"),
        ("export {a} --out a.gpkg", "for windows of a scene"),
        ("export fresh --out a.csv", "no label yet"),
        ("import {a} none.csv", "no labels 'none.csv'"),
        ("import {a} wrong.csv", "unknown class 'z'"),
        ("import {a} elsewhere.csv", "none of 1 label"),
        ("import {a} broken.json", "Label Studio's JSON of labels: it lacks 'categories'"),
        ("import {a} words.json", "Label Studio's JSON of labels: a part has another form"),
        ("import {a} bad.json", "'bad.json' is damaged (Expecting value"),
        ("merge {a} --out m", "two sessions or more"),
        ("merge {a} fresh --out m", "other classes"),
        ("merge {a} {a} --out {a}", "is there already"),
    ],
)
def test_what_cannot_be_done_is_told(words, says, labelled, encoder, person, tmp_path):
    (tmp_path / "empty").mkdir()
    write_chips(tmp_path / "other", {"x": 3}, seed=9)
    write_scene(tmp_path / "bands.tif", np.zeros((2, SIDE, SIDE), np.uint8))
    shutil.copytree(labelled / "a", tmp_path / "fresh")
    (tmp_path / "fresh" / "answers.jsonl").write_text("")
    settings = json.loads((tmp_path / "fresh" / "session.json").read_text())
    write_json(tmp_path / "fresh" / "session.json", settings | {"classes": ["x", "y", "w"]})
    (tmp_path / "wrong.csv").write_text("id,label\nx/000.png,z\n")
    (tmp_path / "elsewhere.csv").write_text("id,label\nx/999.png,x\n")
    (tmp_path / "broken.json").write_text('{"images": []}')
    (tmp_path / "words.json").write_text(
        '[{"data": {"image": "a"}, "annotations": [{"result": ["word"]}]}]'
    )
    (tmp_path / "bad.json").write_text("no json")
    options = f"--backbone {encoder} --set data.image_size={SIDE}"
    places = {"pool": labelled / "pool", "a": labelled / "a", "words": options}
    refused(tailora("label", *words.format(**places).split()), says)


def test_a_session_that_is_open_can_be_read_and_not_opened(labelled, person, tmp_path):
    with LabellingSession.open(labelled / "a"):
        succeed("label", "export", labelled / "a", "--out", "a.csv", "--quiet")
        refused(tailora("label", labelled / "pool", "--out", labelled / "a"), "another tailora")
