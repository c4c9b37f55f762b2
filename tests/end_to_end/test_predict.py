"""`tailora predict`: the same numbers as in the run, for files in any place and order."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.chips import (
    COUNTS,
    chip,
    read_rows,
    snapshot,
    succeed,
    tailora,
    write_chip,
    write_chips,
    write_table,
)


def _shares(row):
    return {key: value for key, value in row.items() if key.startswith("p(")}


def test_the_run_s_own_test_images_are_predicted_to_the_bit(finished, data):
    own = read_rows((finished / "predictions.csv").read_text("utf-8"))
    files = [data / row["path"] for row in own]
    again = read_rows(succeed("predict", finished, *files, "--quiet").out)
    assert [row["path"] for row in again] == [str(file) for file in files]
    for mine, theirs in zip(again, own, strict=True):
        assert _shares(mine) == _shares(theirs)
        assert mine["class"] == theirs["class"]
        assert mine["verdict"] == theirs["verdict"]


def test_so_are_more_images_than_one_batch_holds(plain_report, quick, tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(170):
        name, split = ("forest", "water")[i % 2], "train" if i < 24 else "test"
        write_chip(tmp_path / f"{i}.png", chip(rng, i % 2))
        rows.append((f"{i}.png", name, "val" if 24 <= i < 30 else split))
    table = write_table(tmp_path / "list.csv", ("path", "label", "split"), rows)
    run = tmp_path / "run"
    succeed("fit", table, "--out", run, *quick, "--method", "lora", "--epochs", 1)
    own = read_rows((run / "predictions.csv").read_text("utf-8"))
    assert len(own) == 140
    again = read_rows(
        succeed("predict", run, *(tmp_path / row["path"] for row in own), "--quiet").out
    )
    assert [_shares(row) for row in again] == [_shares(row) for row in own]


def test_the_columns_hold_class_probabilities_and_trust(finished, data, tmp_path):
    answer = succeed("predict", finished, data, "--out", tmp_path / "p.csv")
    assert f"{sum(COUNTS.values())} images in" in answer.out
    assert all(name in answer.out for name in COUNTS)
    rows = read_rows((tmp_path / "p.csv").read_text("utf-8"))
    assert len(rows) == sum(COUNTS.values())
    trusted = {
        entry["name"]: entry["verdict"] == "trusted"
        for entry in json.loads((finished / "classes.json").read_text("utf-8"))["classes"]
    }
    assert set(trusted.values()) == {True, False}
    for row in rows:
        shares = {name: float(row[f"p({name})"]) for name in COUNTS}
        assert row["class"] == max(shares, key=shares.__getitem__)
        assert float(row["probability"]) == max(shares.values())
        assert row["trusted"] == ("yes" if trusted[row["class"]] else "no")


def test_json_says_the_same_as_csv(finished, data):
    folder = data / "[red]"
    rows = read_rows(succeed("predict", finished, folder, "--quiet").out)
    objects = json.loads(succeed("predict", finished, folder, "--json", "--quiet").out)
    assert len(objects) == COUNTS["[red]"]
    for row, entry in zip(rows, objects, strict=True):
        assert (entry["path"], entry["class"]) == (row["path"], row["class"])
        assert entry["trusted"] is (row["trusted"] == "yes")
        assert {f"p({n})": repr(p) for n, p in entry["probabilities"].items()} == _shares(row)


def test_folders_are_searched_in_order_and_names_may_hold_anything(finished, data, tmp_path):
    for name in ('a, "b".png', "é\n.png", "sub/z.png", "notes.txt"):
        (tmp_path / "new" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data / "007" / "000.png", tmp_path / "new" / name)
    rows = read_rows(succeed("predict", finished, "new", "--quiet").out)
    names = ['new/a, "b".png', "new/sub/z.png", "new/é\n.png"]
    assert [row["path"] for row in rows] == names
    assert len({tuple(_shares(row).items()) for row in rows}) == 1


def test_broken_images_are_left_out_and_counted_when_asked_for(finished, data, tmp_path):
    (tmp_path / "no.png").write_text("hello")
    good = data / "007" / "000.png"
    assert tailora("predict", finished, good, "no.png", "--quiet").code == 2
    answer = succeed("predict", finished, "no.png", good, "--skip-broken")
    assert [row["path"] for row in read_rows(answer.out)] == [str(good)]
    assert "left out 1 unreadable image: no.png" in answer.err
    only = tailora("predict", finished, "no.png", "--skip-broken", "--quiet")
    assert only.code == 2
    assert "no image of 1 can be read" in only.err


def test_grey_images_serve_a_run_on_colour(finished, tmp_path):
    grey = write_chips(tmp_path / "grey", {"any": 3}, bands=1)
    assert len(read_rows(succeed("predict", finished, grey, "--quiet").out)) == 3


def test_a_moved_run_predicts_the_same_and_nothing_in_it_changes(finished, data, tmp_path):
    moved = Path(shutil.copytree(finished, tmp_path / "moved"))
    before = snapshot(moved)
    image = data / "007" / "000.png"
    assert (
        succeed("predict", moved, image, "-q").out == succeed("predict", finished, image, "-q").out
    )
    assert snapshot(moved) == before


@pytest.mark.parametrize("flag", ["--quiet", None])
def test_a_progress_bar_is_shown_unless_quiet(flag, finished, data):
    answer = succeed("predict", finished, data / "[red]", *([flag] if flag else []))
    assert bool(answer.err) is (flag is None)
    assert answer.out.startswith("path,class,probability,trusted,verdict,")
