"""`tailora curate`: copies, doubtful labels and outliers of a folder of images."""

import csv
import json
import shutil

import numpy as np
import pytest

from tailora import Recipe, curate, load_run, open_dataset
from tests.data.scenes import write_scene
from tests.end_to_end.chips import SIDE, refused, snapshot, succeed, tailora, write_chips

SIZES = {"a": 24, "b, c": 16, "日本": 8}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Folder of class folders, in which one image has a copy and another a wrong label."""
    root = write_chips(tmp_path_factory.mktemp("curate") / "chips", SIZES, seed=4)
    shutil.copy(root / "a" / "003.png", root / "a" / "copy.png")
    shutil.copy(root / "a" / "004.png", root / "b, c" / "conflict.png")
    return root


@pytest.fixture(scope="module")
def words(encoder):
    """Options for the tiny pretrained encoder."""
    return ("--backbone", encoder, "--set", f"data.image_size={SIDE}")


def test_copies_and_wrong_labels_are_found_and_nothing_is_removed(small, words, tmp_path):
    before = snapshot(small)
    told = succeed("curate", small, *words, "--out", "cur", "--folds", 4).out
    assert snapshot(small) == before
    assert {path.name for path in (tmp_path / "cur").iterdir()} == {
        "index.html", "images.csv", "copies.csv", "curation.json", "tailora-features"
    }  # fmt: skip
    found = json.loads((tmp_path / "cur" / "curation.json").read_text("utf-8"))
    pairs = [set(one["ids"]) for one in found["copies"]]
    assert {"a/004.png", "b, c/conflict.png"} == pairs[0]  # different labels come first
    assert {"a/003.png", "a/copy.png"} in pairs
    assert found["conflicts"] == 1
    # the splits are those of `fit`, and a copy in another one is a leak
    splits = dict(zip((data := open_dataset(small)).ids(), data.splits, strict=True))
    for one in found["copies"]:
        assert one["splits"] == [splits[name] for name in one["ids"]]
    assert found["leaks"] == sum(len(set(one["splits"])) > 1 for one in found["copies"])
    assert "with different labels 1" in told
    with (tmp_path / "cur" / "images.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert len(rows) == sum(SIZES.values()) + 2
    wrong = rows["b, c/conflict.png"]
    assert wrong["label"] == "b, c"
    assert wrong["copies"] == "1"
    assert 0 <= float(wrong["support"]) < 0.5
    # a copy must not vouch for its own label: they are in one fold
    assert wrong["suggested"] == "a"
    for one in found["classes"]:
        own = [row for row in rows.values() if row["label"] == one["name"]]
        assert one["unlearnt"] == sum(row["learnt"] == "0" for row in own)
        mean = np.mean([float(row["forgotten"]) for row in own])
        np.testing.assert_allclose(one["forgotten"], mean, rtol=1e-4)
    # every image is of some class, whatever its label
    assert [one["name"] for one in found["groups"]] == ["head", "middle", "tail", "all"]
    every, sizes = found["groups"][-1], [one["images"] for one in found["classes"]]
    assert every["images"] == sum(sizes) == len(rows)
    np.testing.assert_allclose(sum(one["estimated"] for one in found["classes"]), len(rows))
    for one, size in zip(found["classes"], sizes, strict=True):
        assert one["imbalance"] == max(sizes) / size
        np.testing.assert_allclose(one["effective"], (1 - 0.9999**size) / 1e-4)
    assert f"all: {every['to_do']}" in told
    page = (tmp_path / "cur" / "index.html").read_text("utf-8")
    assert "Noise and imbalance" in page
    assert "never learnt" in page
    assert "Doubtful labels of tail classes" in page
    assert "different labels" in page
    assert [one["name"] for one in found["classes"]] == ["a", "b, c", "日本"]
    assert [one["group"] for one in found["classes"]] == ["head", "middle", "tail"]


def test_a_run_adds_what_its_training_saw(finished, data, tmp_path):
    told = succeed("curate", data, "--run", finished, "--out", "cur", "--folds", 3, "--json").out
    assert json.loads(told)["classes"]
    with (tmp_path / "cur" / "images.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    history = {one.id: one for one in load_run(finished).image_history}
    assert {name for name, row in rows.items() if row["training_el2n"]} == set(history)
    for name, one in history.items():
        assert float(rows[name]["training_el2n"]) == pytest.approx(one.el2n, rel=1e-4)
        assert float(rows[name]["training_confidence"]) == pytest.approx(one.confidence, rel=1e-4)
        assert rows[name]["training_forgotten"] == str(one.forgotten)
        assert rows[name]["training_learnt"] == str(int(one.learnt))
    assert "Images in training" in (tmp_path / "cur" / "index.html").read_text("utf-8")


def test_python_gives_the_same_and_a_second_time_reads_kept_features(
    small, words, tmp_path, monkeypatch
):
    recipe = Recipe().override({"backbone.name": str(words[1]), "data.image_size": SIDE})
    first = curate(small, recipe=recipe, folds=3, cache=tmp_path / "kept")

    def unread(*_):
        raise AssertionError("an image was read")

    monkeypatch.setattr("tailora.inference.search_pool.Pool.read", unread)
    again = curate(small, recipe=recipe, folds=3, cache=tmp_path / "kept")
    assert again == first
    assert len(first.doubts) == sum(one.doubted for one in first.classes)
    margins = [first.images[row].support for row in first.doubts]
    assert margins == sorted(margins)


def test_a_folder_without_labels_has_copies_and_outliers(small, words, tmp_path):
    pool = tmp_path / "pool"
    shutil.copytree(small / "a", pool)
    answer = json.loads(succeed("curate", pool, *words, "--out", "cur", "--json", "--quiet").out)
    assert answer["classes"] == []
    assert answer["doubted"] == 0
    assert [one["ids"] for one in answer["copies"]] == [["003.png", "copy.png"]]
    assert "Doubtful" not in (tmp_path / "cur" / "index.html").read_text("utf-8")


def test_an_unreadable_image_is_left_out_when_asked(small, words, tmp_path):
    here = shutil.copytree(small, tmp_path / "chips")
    (here / "a" / "005.png").write_bytes(b"no image")
    refused(tailora("curate", here, *words, "--out", "cur", "--quiet"), "--skip-broken")
    answer = succeed("curate", here, *words, "--out", "cur", "--skip-broken", "--folds", 3).out
    assert "left out because they cannot be read: a/005.png" in answer


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--folds", 2), "--folds must be at least 3"),
        (("--cosine", 0), "--cosine must lie in (0, 1]"),
        (("--cosine", 1.5), "--cosine must lie in (0, 1]"),
        (("--run", "nowhere"), "nowhere"),
        (("--run", "nowhere", "--backbone", "x"), "leave out --backbone"),
        (("--backbone", "nonsense"), "nonsense"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(given, said, small, tmp_path):
    refused(tailora("curate", small, "--out", "cur", *given), said)
    assert not (tmp_path / "cur").exists()


def test_too_few_images_to_judge_labels_are_refused(words, tmp_path):
    chips = write_chips(tmp_path / "chips", {"a": 2, "b": 2}, seed=0)
    answer = tailora("curate", chips, *words, "--out", "cur", "--quiet")
    refused(answer, "fewer than 5 independent images")


def test_a_file_is_no_folder_for_results(small, words):
    refused(tailora("curate", small, *words, "--out", small / "a" / "000.png"), "is a file")


def test_a_scene_is_refused(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 90, 90), dtype=np.uint8)
    write_scene(tmp_path / "scene.tif", pixels)
    refused(tailora("curate", tmp_path / "scene.tif", "--out", "cur"), "is a scene", "search")
