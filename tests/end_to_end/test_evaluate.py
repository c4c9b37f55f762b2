"""`tailora evaluate`: the run's own numbers again, or new ones for other data."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.chips import (
    chip,
    copy_run,
    metrics,
    read_rows,
    reseal,
    succeed,
    tailora,
    write_chip,
    write_chips,
    write_table,
)

SCORES = ("macro_f1", "macro_f1_interval", "accuracy", "balanced_accuracy", "ece", "per_class")


def test_the_test_split_of_the_run_s_data_gives_the_run_s_numbers(finished, data, tmp_path):
    out = tmp_path / "again.json"
    answer = succeed("evaluate", finished, data, "--json", "--quiet", "--out", out)
    again = json.loads(answer.out)
    assert again == json.loads(out.read_text("utf-8"))
    own = metrics(finished)
    assert again["groups"] == own["groups"]
    assert [method["method"] for method in again["methods"]] == ["deblora"]
    for key in SCORES:
        assert again["methods"][0][key] == own["methods"][-1][key], key
    named = json.loads(succeed("evaluate", finished, data, "--split", "test", "--json", "-q").out)
    assert named == again


def test_all_of_other_data_are_used_and_classes_are_matched_by_name(finished, tmp_path):
    other = write_chips(tmp_path / "other", {"[red]": 4, "日本": 9}, seed=3)
    found = json.loads(succeed("evaluate", finished, other, "--json", "--quiet").out)["methods"][0]
    tested = {row["name"]: row["n_test"] for row in found["per_class"]}
    assert {name: n for name, n in tested.items() if n} == {"[red]": 4, "日本": 9}
    rows = read_rows(succeed("predict", finished, other, "--quiet").out)
    right = sum(row["path"].split("/")[-2] == row["class"] for row in rows)
    assert found["accuracy"] == pytest.approx(right / 13)


def test_one_split_of_other_data_can_be_chosen(finished, tmp_path):
    write_chips(tmp_path / "other" / "train", {"[red]": 8, "007": 9}, seed=3)
    other = write_chips(tmp_path / "other" / "test", {"[red]": 1, "007": 3}, seed=4).parent
    answer = succeed("evaluate", finished, other, "--split", "test", "--json", "--quiet")
    tested = [row["n_test"] for row in json.loads(answer.out)["methods"][0]["per_class"]]
    assert sum(tested) == 4


def test_grey_data_serve_a_run_on_colour(finished, tmp_path):
    grey = write_chips(tmp_path / "grey", {"[red]": 3, "007": 3}, bands=1)
    succeed("evaluate", finished, grey, "--quiet")


def test_tables_show_groups_and_every_class_as_it_is_called(finished, data):
    answer = succeed("evaluate", finished, data)
    assert "macro-F1 in points" in answer.out
    for name in ("007", "ship, small", 'été "x"', "[red]", "日本"):
        assert name in answer.out
    assert succeed("evaluate", finished, data, "--quiet").out == ""


def test_broken_images_of_other_data_are_named_or_left_out(finished, tmp_path):
    other = write_chips(tmp_path / "other", {"[red]": 4, "007": 4}, seed=3)
    (other / "007" / "001.png").write_text("hello")
    answer = tailora("evaluate", finished, other, "--quiet")
    assert answer.code == 2
    assert "007/001.png" in answer.err
    found = json.loads(
        succeed("evaluate", finished, other, "--skip-broken", "--json", "--quiet").out
    )
    assert sum(row["n_test"] for row in found["methods"][0]["per_class"]) == 7


@pytest.mark.parametrize("counts", [{"007": 1}, {"[red]": 3}, {"007": 1, "日本": 1}])
def test_one_labelled_sample_of_a_known_class_suffices(counts, finished, tmp_path):
    other = write_chips(tmp_path / "other", counts, seed=3)
    found = json.loads(succeed("evaluate", finished, other, "--json", "--quiet").out)
    tested = {row["name"]: row["n_test"] for row in found["methods"][0]["per_class"]}
    assert {name: n for name, n in tested.items() if n} == counts
    assert found["left_out"] == {}
    succeed("evaluate", finished, other)


def test_one_row_of_a_table_suffices(finished, tmp_path):
    path = write_chip(tmp_path / "new.png", chip(np.random.default_rng(8), 0))
    table = write_table(tmp_path / "one.csv", ("path", "label"), [(path, "007")])
    found = json.loads(succeed("evaluate", finished, table, "--json", "--quiet").out)
    assert np.sum(found["methods"][0]["confusion"]) == 1


def test_images_of_unknown_classes_are_left_out_and_counted(finished, tmp_path):
    other = write_chips(tmp_path / "other", {"007": 2, "airport": 3, "zoo": 1}, seed=3)
    (other / "zoo" / "000.png").write_text("not even an image")
    answer = succeed("evaluate", finished, other)
    assert (
        "left out 4 images of classes the run was not trained on: airport (3); zoo (1)"
        in answer.err
    )
    found = json.loads(succeed("evaluate", finished, other, "--json", "--quiet").out)
    assert found.pop("left_out") == {"airport": 3, "zoo": 1}
    alone = write_chips(tmp_path / "alone", {"007": 2}, seed=3)
    again = json.loads(succeed("evaluate", finished, alone, "--json", "--quiet").out)
    assert again.pop("left_out") == {}
    assert found == again


def test_a_class_that_is_never_predicted_raises_the_alarm(finished, tmp_path):
    other = write_chips(tmp_path / "other", {"007": 30, "[red]": 1, "日本": 1}, seed=9)
    shown = succeed("evaluate", finished, other).out
    found = json.loads(succeed("evaluate", finished, other, "--json", "--quiet").out)
    table = np.array(found["methods"][0]["confusion"])
    gone = [
        name
        for name, row, column in zip(found["classes"], table, table.T, strict=True)
        if row.sum() and not column.sum()
    ]
    assert ("never predicted: " in shown) == bool(gone)
    assert all(name in shown.partition("never predicted: ")[2] for name in gone)


def test_images_that_a_run_was_fitted_on_are_left_out_under_any_name(finished, data, tmp_path):
    """A folder that has grown: only its test images and the new one are scored."""
    grown = Path(shutil.copytree(data, tmp_path / "grown"))
    write_chip(grown / "007" / "new.png", chip(np.random.default_rng(77), 0))
    known = grown / "ship, small" / "000.png"
    known.rename(known.with_name("another-name.png"))
    record = json.loads((finished / "run.json").read_text("utf-8"))["dataset"]
    answer = succeed("evaluate", finished, grown, "--json")
    found = json.loads(answer.out)
    learnt_from = record["n_train"] + record["n_val"]
    assert found["learnt_from"] == learnt_from
    assert np.sum(found["methods"][0]["confusion"]) == record["n_test"] + 1
    assert f"left out {learnt_from} images used for training or validation" in answer.err


def test_a_run_without_the_list_says_that_it_cannot_tell(finished, data, tmp_path):
    run = copy_run(finished, tmp_path / "run")
    (run / "seen.npy").unlink()
    reseal(run)
    other = write_chips(tmp_path / "other", {"007": 2, "[red]": 1}, seed=9)
    answer = succeed("evaluate", run, other, "--json")
    assert json.loads(answer.out)["learnt_from"] is None
    assert "cannot tell" in answer.err
