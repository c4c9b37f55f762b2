"""Verbs that only look start without the libraries that take seconds to import."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tailora
from tests.data.scenes import box, write_labels, write_scene

SLOW = ("torch", "transformers", "peft", "sklearn", "accelerate")
# one process does all commands, since one that imports something shows it in all after it
CODE = """
import json, sys
from tailora.cli.main import main

for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as left:
        assert left.code == int(sys.argv[3]), words
    found = [name for name in json.loads(sys.argv[2]) if name in sys.modules]
    assert not found, (words, found)
"""
VERBS = [
    "inspect", "fit", "compare", "evaluate", "predict", "map", "assess", "search", "report",
    "methods",
]  # fmt: skip


def start(commands, without, *, ends=0):
    code = [sys.executable, "-c", CODE, json.dumps(commands), json.dumps(without), str(ends)]
    env = {**os.environ, "PYTHONPATH": str(Path(tailora.__file__).parents[1])}
    result = subprocess.run(code, capture_output=True, text=True, env=env, check=False)
    assert result.returncode == 0, result.stderr


@pytest.fixture
def page(tmp_path):
    return str(tmp_path / "page.html")


def test_help_and_methods_import_nothing_slow():
    helps = [[verb, "--help"] for verb in VERBS]
    names = ["deblora", "focal", "cutmix", "crt", "dora", "judge", "recipe"]
    start([["--version"], *helps, ["methods"], *(["methods", name] for name in names)], SLOW)


@pytest.mark.parametrize("verb", ["fit", "compare"])
def test_a_recipe_that_cannot_work_is_refused_before(verb):
    wrong = ("train.lr=-1", "train.loss=focl", "probe.loss=crd", "foo.bar=1", "train.patience=-1")
    start([[verb, "bluemarble", "--set", one] for one in wrong], SLOW, ends=2)


def test_a_report_is_written_without_torch(finished, page):
    start([["report", str(finished), "--out", page, "-q"]], SLOW)


def test_two_runs_are_set_side_by_side_without_torch(finished, page):
    start([["report", str(finished), str(finished), "--out", page, "-q"]], SLOW)


def test_a_map_is_assessed_without_torch(tmp_path):
    values = np.tile(np.repeat([1, 2], 30), (60, 1)).astype(np.uint8)
    scene = str(write_scene(tmp_path / "map.tif", values[None]))
    points, labels = str(tmp_path / "points.gpkg"), str(tmp_path / "labels.gpkg")
    places = [box(row, row, 1, 1).centroid for row in range(60)]
    write_labels(tmp_path / "labels.gpkg", places, ["1", "2"] * 30, field="reference")
    page = ["--html", str(tmp_path / "page.html"), "-q"]
    start(
        [
            ["assess", scene, "--sample", "100", "--out", points],
            ["assess", scene, "--labels", labels, *page],
        ],
        SLOW,
    )


def test_inspect_needs_no_encoder(data, page):
    start([["inspect", str(data), "--out", page, "-q"]], [name for name in SLOW if name != "torch"])
