"""What a finished run and a comparison say as objects, beside what their JSON says."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from tailora.errors import ConfigError, RunError
from tailora.methods.scoring import csv_text, set_text
from tailora.runs.comparison import ComparisonResult
from tailora.runs.comparison_folder import read_comparison
from tailora.runs.result import read_run, read_unreported
from tailora.storage import write_json
from tests.report.fake_comparison import fake_comparison
from tests.report.fake_run import write_fake_run

ODD = ("=1+1", "a;b", "-", "c\\d")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run without a map that nobody may change."""
    return write_fake_run(tmp_path_factory.mktemp("run"), n_classes=4, arrays=False)


def written(path):
    return json.loads(path.read_text("utf-8"))


def test_a_run_says_what_its_files_say(folder):
    run = read_run(folder)
    record = written(folder / "run.json")
    classes = written(folder / "classes.json")["classes"]
    assert run.record.machine.memory_gb == record["machine"]["memory_gb"]
    assert [copy.ids for copy in run.record.dataset.duplicates] == [
        tuple(entry["ids"]) for entry in record["dataset"]["duplicates"]
    ]
    assert [one.seconds for one in run.costs] == [entry["seconds"] for entry in record["stages"]]
    assert [one.verdict for one in run.classes] == [entry["verdict"] for entry in classes]
    assert run.recipe.train.lr == 0.001
    assert run.recipe_text == (folder / "recipe.toml").read_text("utf-8")
    assert run.metrics.to_json() == written(folder / "metrics.json") | {
        "methods": [method.to_json() for method in run.metrics.methods]
    }
    assert len(run.history) == 0
    assert run.evidence == {}
    assert not run.has_evidence("keep")
    assert "without checksums" in run.notes[0]


def test_classes_are_ordered_by_their_training_samples(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "run")
    path = tmp_path / "run" / "classes.json"
    entries = written(path)["classes"]
    for entry, n_train in zip(entries, (5, 40, 7, 40), strict=True):
        entry["n_train"] = n_train
    write_json(path, {"classes": entries})
    run = read_run(tmp_path / "run")
    assert run.order == [1, 3, 2, 0]
    groups = written(folder / "metrics.json")["groups"]
    named = [next(g for g in groups if name in groups[g]) for name in run.class_names]
    assert run.groups == named
    assert run.in_group("head", "tail") == [c for c in run.order if named[c] != "middle"]


def test_metrics_are_tables_by_class_group_method_and_pair(folder):
    metrics, content = read_run(folder).metrics, written(folder / "metrics.json")
    frame = metrics.to_frame()
    flat = pd.json_normalize(content["methods"], "per_class", "method")
    assert frame["f1"].equals(flat["f1"])
    assert list(frame["method"]) == list(flat["method"])
    assert frame["f1_high"].tolist()[:2] == [ends[1] for ends in flat["f1_interval"][:2]]
    groups = metrics.to_frame("group").set_index(["method", "group"])
    for method in content["methods"]:
        row = groups.loc[method["method"], "tail"]
        assert row["macro_f1"] == method["macro_f1"]["tail"]
        assert row["macro_f1_low"] == method["macro_f1_interval"]["tail"][0]
        assert row["auprc"] == method["ranking"]["tail"]["auprc"]
        assert row["coverage"] == method["coverage"]["by_group"]["tail"]
    assert list(metrics.to_frame("method")["g_mean"]) == [m["g_mean"] for m in content["methods"]]
    pairs = metrics.to_frame("pair").set_index("group")
    assert pairs.loc["all", "difference"] == content["paired"][0]["macro_f1_difference"]["all"]
    assert pairs.loc["all", "difference_low"] == content["paired"][0]["interval"]["all"][0]
    with pytest.raises(ConfigError, match="did you mean 'group'"):
        metrics.to_frame("groups")


def test_predictions_are_read_as_they_were_meant(folder, tmp_path):
    run_folder = shutil.copytree(folder, tmp_path / "run")
    for name in ("metrics.json", "classes.json"):  # names that CSV and sets have to spell
        text = (run_folder / name).read_text("utf-8")
        for old, new in zip(read_run(folder).class_names, ODD, strict=True):
            text = text.replace(json.dumps(old), json.dumps(new))
        (run_folder / name).write_text(text, "utf-8")
    sets = [("=1+1", "a;b"), (), ("c\\d",), None]
    shares = np.random.default_rng(0).dirichlet([1] * 4, 4)
    head = ["path", "label", "class", "trusted", "verdict", "set", *(f"p({n})" for n in ODD)]
    rows = [
        [f"{i}.png", ODD[i], ODD[shares[i].argmax()], "no", "weak", set_text(sets[i])]
        + [repr(float(share)) for share in shares[i]]
        for i in range(4)
    ]
    rows[1][5] = "-"  # how earlier versions wrote an empty set
    (run_folder / "predictions.csv").write_text(csv_text([head, *rows]), "utf-8")
    found = read_run(run_folder).predictions
    assert found.labels == ODD
    assert found.predicted == tuple(ODD[c] for c in shares.argmax(axis=1))
    assert found.sets == tuple(sets)
    np.testing.assert_array_equal(found.probabilities, shares)
    frame = found.to_frame()
    assert list(frame.columns) == [*head[:3], "verdict", *head[6:]]
    assert frame["p(a;b)"].tolist() == shares[:, 1].tolist()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "predictions.csv' is missing"),
        ("path,label\na,b\n", "damaged .it lacks column 'class'"),
        ("path,label,class\na,river,nowhere\n", "damaged .it lacks column 'p"),
        ("path,label,class,{p}\na,{a},nowhere,1,0,0,0\n", "class 'nowhere', which the run"),
        ("path,label,class,{p}\na,{a},{a},1,0,x,0\n", "damaged .could not convert"),
        ("path,label,class,{p}\na,{a},{a},1\n", "damaged"),
    ],
)
def test_predictions_that_are_damaged_are_refused_in_one_line(text, says, folder, tmp_path):
    run_folder = shutil.copytree(folder, tmp_path / "run")
    names = read_run(folder).class_names
    if text is not None:
        filled = text.format(p=",".join(f"p({name})" for name in names), a=names[0])
        (run_folder / "predictions.csv").write_text(filled)
    with pytest.raises(RunError, match=says) as caught:
        _ = read_run(run_folder).predictions
    assert "\n" not in str(caught.value)


def test_a_run_without_its_report_is_not_yet_complete(folder, tmp_path):
    run_folder = shutil.copytree(folder, tmp_path / "run")
    write_json(run_folder / "run.json", written(run_folder / "run.json") | {"complete": False})
    assert read_unreported(run_folder).class_names == read_run(folder).class_names
    with pytest.raises(RunError, match="incomplete"):
        read_run(run_folder)


def test_a_comparison_is_tables_by_row_class_and_seed(tmp_path):
    content = fake_comparison(n_probes=2, n_adapters=3)
    write_json(tmp_path / "comparison.json", content)
    found = read_comparison(tmp_path)
    assert found.path == tmp_path
    rows = found.rows.to_frame()
    flat = pd.json_normalize(content["rows"])
    for column in ("scores.tail.mean", "difference.tail.low", "ranks.all", "seconds.own"):
        assert rows[column].equals(flat[column].astype(float)), column
    by_class = found.to_frame("class")
    wanted = [one["mean"] for row in content["rows"] for one in row["per_class"]]
    assert by_class["mean"].tolist() == wanted
    by_seed = found.to_frame("seed")
    tails = [value for row in content["rows"] for value in row["scores"]["tail"]["per_seed"]]
    assert by_seed["tail"].tolist() == tails
    assert by_seed["seed"].tolist() == [0, 1, 2] * 6
    with pytest.raises(ConfigError, match="did you mean 'seed'"):
        found.to_frame("seeds")


def test_a_comparison_is_written_as_it_was_read():
    content = fake_comparison()
    assert json.dumps(ComparisonResult.from_json(content).to_json()) == json.dumps(content)
