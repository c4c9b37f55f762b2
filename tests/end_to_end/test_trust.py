"""Verdicts, prediction sets and scalings, from `fit` to `predict`, each fitted on its own split."""

import json
import shutil

import numpy as np
import pytest

from tests.end_to_end.chips import (
    COUNTS,
    chip,
    copy_run,
    read_rows,
    reseal,
    succeed,
    write_chip,
    write_table,
)

CHECKS = {"support", "interval", "calibration", "coverage"}


def _json(path):
    return json.loads(path.read_text("utf-8"))


def test_the_sets_of_predictions_are_those_of_the_saved_thresholds(finished):
    sets = _json(finished / "calibration.json")["sets"]
    assert sets["coverage"] == 0.9
    limits = [np.inf if t is None else t for t in sets["thresholds"]]
    for row in read_rows((finished / "predictions.csv").read_text("utf-8")):
        inside = [n for n, t in zip(sorted(COUNTS), limits, strict=True) if 1 - p(row, n) <= t]
        assert row["set"] == (";".join(inside) or "-")


def p(row, name):
    return float(row[f"p({name})"])


def test_new_images_get_the_same_columns_from_the_saved_run(finished, data):
    own = read_rows((finished / "predictions.csv").read_text("utf-8"))
    files = [data / row["path"] for row in own]
    again = read_rows(succeed("predict", finished, *files, "--quiet").out)
    objects = json.loads(succeed("predict", finished, *files, "--quiet", "--json").out)
    for mine, theirs, entry in zip(again, own, objects, strict=True):
        for key in ("class", "trusted", "verdict", "set"):
            assert mine[key] == theirs[key]
        assert (";".join(entry["set"]) or "-") == mine["set"]


def test_probabilities_are_scaled_where_that_helped_and_raw_ones_can_be_had(
    finished, data, tmp_path
):
    """A temperature put in by hand: powers of the raw shares, in predictions and nowhere twice."""
    run = copy_run(finished, tmp_path / "run")
    image = data / "007" / "000.png"
    told = {}
    for applied in (None, "temperature"):
        entry = _json(run / "calibration.json")
        entry["scalings"]["temperature"] = {"value": 2.5}
        (run / "calibration.json").write_text(json.dumps(entry | {"applied": applied}))
        reseal(run)
        for flags in ((), ("--raw",)):
            row = read_rows(succeed("predict", run, image, "--quiet", *flags).out)[0]
            told[applied, flags] = np.array([p(row, name) for name in sorted(COUNTS)]), row["set"]
    plain, _ = told[None, ()]
    np.testing.assert_array_equal(told[None, ("--raw",)][0], plain)
    np.testing.assert_array_equal(told["temperature", ("--raw",)][0], plain)
    scaled = plain ** (1 / 2.5)
    assert told["temperature", ()][0] == pytest.approx(scaled / scaled.sum(), abs=1e-6)
    # the set is that of what the run says, whichever shares are shown
    assert told["temperature", ()][1] == told["temperature", ("--raw",)][1]


def test_a_run_of_an_earlier_version_predicts_without_sets(finished, data, tmp_path):
    run = copy_run(finished, tmp_path / "run")
    (run / "calibration.json").unlink()
    reseal(run)  # as of a run whose checksums know of none
    image = data / "007" / "000.png"
    assert read_rows(succeed("predict", run, image, "-q").out)[0]["set"] == ""
    assert json.loads(succeed("predict", run, image, "-q", "--json").out)[0]["set"] is None
    found = json.loads(succeed("evaluate", run, data, "--json", "-q").out)["methods"][0]
    assert found["coverage"] is found["scaling"] is None


def test_damaged_thresholds_are_refused(refuse, finished, data, tmp_path):
    run = copy_run(finished, tmp_path / "run")
    (run / "calibration.json").write_text("{}")
    reseal(run)
    says = ["calibration.json' is damaged", "fit the run again"]
    refuse("predict", run, data / "007", "--quiet", "--out", "p.csv", says=says)


def test_every_verdict_names_the_checks_that_failed(finished):
    for entry in _json(finished / "classes.json")["classes"]:
        assert set(entry["failed"]) <= CHECKS
        assert (entry["verdict"] == "trusted") == (not entry["failed"])
        assert (entry["verdict"] == "untested") == (entry["failed"] == ["support"])
        assert all(f"{check}: " in entry["reason"] for check in entry["failed"])


def test_metrics_hold_every_method_s_ranking_priors_scalings_and_geometry(finished):
    for method in _json(finished / "metrics.json")["methods"]:
        assert set(method["ranking"]) == {"all", "head", "middle", "tail"}
        assert set(method["shots"]) == {"all", "many", "medium", "few"}
        assert {"uniform", "natural", "reversed", "backward-50"} < set(method["priors"])
        assert method["scaling"]["none"]["ece"] == method["ece_by_group"]
        assert set(method["collapse"]) == {"nc1", "balanced", "imbalanced"}
        assert method["shift"]["axes"] >= 1
        assert method["relative_accuracy"] is None


def test_what_more_labels_would_buy_is_told_for_rare_classes(finished):
    found = _json(finished / "metrics.json")["label_value"]
    assert found["method"] == "deblora"
    tail = _json(finished / "metrics.json")["groups"]["tail"]
    assert {entry["name"] for entry in found["classes"]} == set(tail)
    for entry in found["classes"]:
        assert ("values" in entry) != ("left_out" in entry)


@pytest.fixture
def small(tmp_path):
    """Four classes in three given splits, and the same with the labels of one split shuffled."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(120):
        label, split = i % 4, ("train", "val", "test")[(i // 4) % 3]
        write_chip(tmp_path / "chips" / f"{i}.png", chip(rng, label))
        rows.append((f"chips/{i}.png", "abcd"[label], split))

    def table(shuffled):
        at = [i for i, row in enumerate(rows) if row[2] == shuffled]
        labels = [rows[i][1] for i in at]
        new = dict(zip(at, labels[1:] + labels[:1], strict=True)) if at else {}
        changed = [(a, new.get(i, b), c) for i, (a, b, c) in enumerate(rows)]
        name = tmp_path / f"{shuffled}.csv"
        return write_table(name, ("path", "label", "split"), changed)

    return table


def _fit(table, quick, *more):
    out = table.with_suffix("")
    words = ("--method", "zero-shot", "--set", "probe.l2=[0.1]", *more)
    succeed("fit", table, "--out", out, *quick, *words)
    return out


def test_labels_of_the_test_change_no_threshold_no_temperature_and_no_head(
    small, quick, plain_report
):
    runs = {name: _fit(small(name), quick) for name in ("none", "test", "val")}
    for name in ("calibration.json", "head.safetensors"):
        assert (runs["none"] / name).read_bytes() == (runs["test"] / name).read_bytes(), name
    one, other = (_json(runs[name] / "metrics.json")["methods"][0] for name in ("none", "test"))
    assert one["coverage"] != other["coverage"]
    # labels of validation change what is fitted there, and no score of the test
    fitted = [(runs[name] / "calibration.json").read_text() for name in ("none", "val")]
    assert fitted[0] != fitted[1]
    val = _json(runs["val"] / "metrics.json")["methods"][0]
    for key in ("macro_f1", "ranking", "priors", "shots", "collapse", "shift", "ece_by_group"):
        assert one[key] == val[key], key
    assert one["scaling"]["none"] == val["scaling"]["none"]
    assert one["scaling"]["temperature"] != val["scaling"]["temperature"]


def test_options_of_trust_act(small, quick, plain_report):
    table = small("none")
    loose = _fit(
        table, quick, "--set", "evaluate.coverage=0.5", "--set", "evaluate.label_value=false",
        "--set", "evaluate.balanced_reference=0.8",
    )  # fmt: skip
    found = _json(loose / "metrics.json")
    assert found["label_value"] is None
    method = found["methods"][0]
    assert method["coverage"]["level"] == 0.5
    assert method["relative_accuracy"] == pytest.approx(method["balanced_accuracy"] / 0.8)
    shutil.rmtree(loose)
    tight = _json(_fit(table, quick) / "metrics.json")
    sizes = [entry["methods"][0]["coverage"]["size_by_group"]["all"] for entry in (found, tight)]
    assert sizes[0] < sizes[1]
    [rare] = tight["label_value"]["classes"]  # of four classes one is the tail
    assert rare["sizes"] == [2, 4, 6, 10]
    assert [value["factor"] for value in rare["values"]] == [2.0, 5.0]


@pytest.mark.parametrize(
    "option",
    [
        "coverage=1.0", "coverage=0", "trust_overconfidence=-0.1", "trust_overconfidence=2",
        "balanced_reference=0", "balanced_reference=1.2", "label_value=3",
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(option, refuse, data, quick):
    says = [f"evaluate.{option.partition('=')[0]}"]
    refuse("fit", data, "--out", "run", *quick, "--set", f"evaluate.{option}", says=says)
