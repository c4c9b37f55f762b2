import json
import re

import pytest

from tailora.errors import ConfigError, RunError
from tailora.report import write_comparison


def text_of(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


@pytest.fixture(scope="module")
def runs(fake_run, tmp_path_factory):
    base = tmp_path_factory.mktemp("runs")
    return [
        fake_run.write_fake_run(base / name, n_classes=4, seed=seed, arrays=False)
        for seed, name in enumerate(("a", "b"))
    ]


def test_runs_stand_side_by_side_with_what_differs(runs, tmp_path):
    page = write_comparison(runs, tmp_path / "page.html").read_text("utf-8")
    text = text_of(page)
    assert "a debLoRA 83.0 [80.0, 86.0]" in text
    assert "b debLoRA 83.0 [80.0, 86.0]" in text
    assert "setting a b seed 0 1 F1 per class" in text  # nothing else differs
    assert "different data" not in text
    assert "<strong>" not in page  # equal runs: neither leads


def test_other_data_forbid_a_winner(runs, fake_run, tmp_path):
    other = fake_run.write_fake_run(tmp_path / "c", n_classes=3, arrays=False)
    run = json.loads((other / "run.json").read_text())
    run["dataset"]["fingerprint"] = "other"
    (other / "run.json").write_text(json.dumps(run))
    text = text_of(write_comparison([runs[0], other], tmp_path / "page.html").read_text("utf-8"))
    assert "The runs used different data" in text
    assert "the runs have different classes" in text


def test_folders_of_the_same_name_are_told_apart(runs, fake_run, tmp_path):
    twin = fake_run.write_fake_run(tmp_path / "a", n_classes=4, arrays=False)
    text = text_of(write_comparison([runs[0], twin], tmp_path / "page.html").read_text("utf-8"))
    assert f"1: {runs[0]}" in text
    assert f"2: {twin}" in text
    assert "same recipe, data, seed and encoder" in text


def test_the_leader_is_bold_when_its_interval_clears_the_others(fake_run, tmp_path):
    folders = []
    for name, score in (("low", 0.2), ("high", 0.9)):
        folder = fake_run.write_fake_run(tmp_path / name, n_classes=3, arrays=False)
        metrics = json.loads((folder / "metrics.json").read_text())
        metrics["methods"] = metrics["methods"][-1:]
        metrics["methods"][0]["macro_f1"]["tail"] = score
        metrics["methods"][0]["macro_f1_interval"]["tail"] = [score - 0.1, score + 0.1]
        (folder / "metrics.json").write_text(json.dumps(metrics))
        folders.append(folder)
    page = write_comparison(folders, tmp_path / "page.html").read_text("utf-8")
    assert re.findall(r"<strong>(.*?)</strong>", page) == ["90.0"]


def test_one_run_or_a_missing_one_is_refused(runs, tmp_path):
    with pytest.raises(ConfigError, match="at least two runs, got 1"):
        write_comparison(runs[:1], tmp_path / "page.html")
    with pytest.raises(RunError, match=r"no run: run\.json is missing"):
        write_comparison([runs[0], tmp_path], tmp_path / "page.html")
