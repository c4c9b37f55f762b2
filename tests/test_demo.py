"""`make demo` continues a demo that was interrupted, and nothing else."""

import runpy
from pathlib import Path

import pytest

from tailora import Recipe
from tailora.backbones.fast_precision import fastest_precision
from tailora.runs.folder import RunFolder
from tailora.storage import read_json, write_json

SCRIPT = Path(__file__).parents[1] / "scripts" / "demo.py"
# what a run decides where a recipe does not
RESOLVED = {
    "train.lr": 0.001, "data.image_size": 70, "compute.precision": fastest_precision(),
    "train.optimizer": "muon", "train.augment": "nadir", "adapter.rank": 32,
}  # fmt: skip


def begin(run):
    recipe = Recipe().override(RESOLVED)
    RunFolder(run).open_for_fit(recipe, "data", resume=False, force=False)


def change(run, **values):
    write_json(run / "run.json", read_json(run / "run.json") | values)


CASES = {
    "nothing there": (lambda _run: None, "--force"),
    "interrupted": (begin, "--resume"),
    "interrupted before it had a recipe": (
        lambda run: (begin(run), (run / "recipe.toml").unlink()), "--force",
    ),
    "finished": (
        lambda run: (begin(run), change(run, complete=True)), "--force",
    ),
    "of another version": (lambda run: (begin(run), change(run, tailora="0.0.1")), "--force"),
    "of another recipe": (
        lambda run: (
            begin(run),
            (run / "recipe.toml").write_text(Recipe().override({"train.epochs": 9}).to_toml()),
        ),
        "--force",
    ),
    "damaged": (lambda run: (begin(run), (run / "run.json").write_text("[")), "--force"),
    "no run": (lambda run: (begin(run), (run / "run.json").write_text("[]")), "--force"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_an_interrupted_demo_is_continued_and_anything_else_made_anew(case, tmp_path, monkeypatch):
    make, how = CASES[case]
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "runs" / "demo")
    said = []
    monkeypatch.setattr("tailora.cli.main.main", said.append)
    runpy.run_path(str(SCRIPT), run_name="__main__")
    auto = ["--set", "compute.precision=auto"]
    assert said == [["fit", "bluemarble", "--out", "runs/demo", *auto, how]]


def test_make_demo_is_that_script():
    assert "scripts/demo.py" in (SCRIPT.parents[1] / "Makefile").read_text("utf-8")
