"""Comparisons that cannot be used: one line, code 2, nothing lost."""

import json

import numpy as np
import pytest

from tailora.errors import RunError
from tailora.runs.comparison_folder import ComparisonFolder
from tailora.storage import write_json
from tests.end_to_end.chips import copy_run, refused, succeed, tailora
from tests.report.fake_comparison import fake_comparison

TRIAL = {"number": 0, "value": 0.5, "values": {}}
TUNED = {"row": "lora", "chosen": 0, "values": {}, "own": {}, "trials": [TRIAL]}


@pytest.mark.parametrize(
    "tuning", [None, {"rows": []}, {"rows": [TUNED], "space": {"a": "1..2"}, "by": "all"}]
)
def test_a_whole_comparison_is_read(tuning, tmp_path):
    content = json.loads(json.dumps(fake_comparison(tuning=tuning)))
    write_json(tmp_path / "comparison.json", content)
    read = json.loads(json.dumps(ComparisonFolder(tmp_path).read().to_json()))
    assert _known(read) == _known(content)
    if tuning is None:
        assert list(read) == list(content)


def _known(value):
    """Without what is null or empty, as what an earlier version did not write is read."""
    if isinstance(value, dict):
        kept = {key: _known(inner) for key, inner in value.items()}
        return {key: inner for key, inner in kept.items() if inner not in (None, {}, [], "")}
    return [_known(inner) for inner in value] if isinstance(value, list) else value


def _row(**values):
    return lambda c: c | {"rows": [c["rows"][0] | values, *c["rows"][1:]]}


def _measure(**values):
    return lambda c: _row(measures=c["rows"][0]["measures"] | values)(c)


def _tuned(**values):
    return lambda c: c | {"tuning": {"rows": [TUNED | values]}}


WRONG = {
    "no rows": (lambda c: c | {"rows": []}, "rows"),
    "rows of numbers": (lambda c: c | {"rows": [3]}, "rows.0"),
    "a probe that is a list": (_row(probe=[]), "rows.0.probe"),
    "scores of a row": (_row(scores={"all": 3}), "rows.0.scores.all"),
    "a mean beyond 1e15": (_row(scores={"all": {"mean": 1e300}}), "rows.0.scores.all.mean"),
    "a difference": (_row(difference={"all": {"mean": "x"}}), "difference.all.mean"),
    "measures a list": (_row(measures=[]), "rows.0.measures"),
    "a measure": (_measure(auroc={"all": True}), "measures.auroc.all"),
    "changes a list": (_row(changes=[1]), "rows.0.changes"),
    "classes without names": (lambda c: c | {"classes": [{}]}, "classes.0.name"),
    "per class": (_row(per_class=[None]), "per_class.0"),
    "groups": (lambda c: c | {"groups": {"head": 3}}, "groups.head"),
    "machine": (lambda c: c | {"machine": {"cores": []}}, "machine.cores"),
    "dataset": (lambda c: c | {"dataset": True}, "dataset"),
    "confidence": (lambda c: c | {"confidence": 95}, "confidence"),
    "tuned rows": (lambda c: c | {"tuning": {"rows": [{}]}}, "tuning.rows.0"),
    "no such trial": (_tuned(chosen=7), "no trial 7"),
    "a trial without a score": (_tuned(trials=[TRIAL | {"value": None}]), "no trial 0"),
    "another option": (_tuned(trials=[TRIAL | {"values": {"a": 1}}]), "other options"),
}


@pytest.mark.parametrize("row", WRONG)
def test_a_comparison_that_is_damaged_below_its_top_is_refused(row, tmp_path):
    change, where = WRONG[row]
    write_json(tmp_path / "comparison.json", change(fake_comparison()))
    with pytest.raises(RunError, match=f"comparison.json' is damaged: .*{where}.*--resume"):
        ComparisonFolder(tmp_path).read()


WORDS = ("--methods", "zero-shot", "--seeds", 1)


@pytest.fixture(scope="module")
def compared(tmp_path_factory, data, quick):
    """A comparison of one row that nobody may change."""
    out = tmp_path_factory.mktemp("compared") / "out"
    succeed("compare", data, "--out", out, *quick, *WORDS)
    return out


def _json(name, change):
    def harm(place):
        write_json(place / name, change(json.loads((place / name).read_text("utf-8"))))

    return harm


def _arrays(**changes):
    def harm(place):
        with np.load(place / "predictions.npz") as stored:
            arrays = dict(stored)
        for name, change in changes.items():
            arrays[name] = change(arrays[name])
        np.savez(place / "predictions.npz", **arrays)

    return harm


DAMAGE = {
    "facts a list": (_json("row.json", lambda _: []), "row.json"),
    "seconds a list": (_json("row.json", lambda r: r | {"seconds": []}), "seconds"),
    "no validation": (_json("row.json", lambda _: {"seconds": 1.0, "own_seconds": 1.0}), "valid"),
    "no facts": (lambda place: (place / "row.json").unlink(), "row.json is missing"),
    "metrics a list": (_json("metrics.json", lambda _: []), "metrics.json"),
    "no method": (_json("metrics.json", lambda m: m | {"methods": []}), "a method"),
    "no array": (lambda place: (place / "predictions.npz").write_bytes(b""), "predictions.npz"),
    "lost arrays": (lambda place: (place / "predictions.npz").unlink(), "npz is missing"),
    "one row less": (_arrays(targets=lambda t: t[1:]), "fit no test split"),
    "class 99": (_arrays(predictions=lambda p: p + 99), "predictions that fit"),
    "counts of two": (_arrays(counts=lambda c: c[:2]), "other classes"),
}


@pytest.mark.parametrize("row", DAMAGE)
def test_a_damaged_result_is_named(row, compared, data, quick, tmp_path):
    harm, says = DAMAGE[row]
    out = copy_run(compared, tmp_path / "c")
    [place] = out.glob("results/zero-shot/*/seed-0")
    harm(place)
    words = ("compare", data, "--out", out, *quick, *WORDS, "--resume")
    refused(tailora(*words), says, str(place), "delete that folder")


@pytest.mark.usefixtures("plain_page")
def test_a_result_that_was_deleted_is_done_again(compared, data, quick, tmp_path):
    out = copy_run(compared, tmp_path / "c")
    [place] = out.glob("results/zero-shot/*/seed-0")
    words = ("compare", data, "--out", out, *quick, *WORDS, "--resume")
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    succeed(*words)
    assert (place / "metrics.json").is_file()


def test_an_end_of_file_is_a_fault_and_no_interruption(compared, monkeypatch):
    def read(_):
        raise EOFError("no data left in file")

    monkeypatch.setattr(ComparisonFolder, "read", read)
    answer = tailora("report", compared)
    assert answer.code == 70
    assert "EOFError: no data left in file" in answer.err
