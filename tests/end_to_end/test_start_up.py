"""Verbs that only look start without the libraries that take seconds to import."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

import tailora
from tests.data.scenes import box, write_labels, write_scene

SLOW = ("torch", "transformers", "peft", "sklearn", "accelerate")
# one process does all commands, since what one of them imports is found right after it
CODE = """
import json, sys
from tailora.cli.main import main

for words, ends, without in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as left:
        assert left.code == ends, (words, left.code)
    found = [name for name in without if name in sys.modules]
    assert not found, (words, found)
"""
VERBS = [
    "inspect", "fit", "compare", "evaluate", "predict", "map", "assess", "search", "report",
    "methods",
]  # fmt: skip


def help_and_methods():
    names = ["deblora", "focal", "cutmix", "crt", "dora", "judge", "recipe"]
    helps = [[verb, "--help"] for verb in VERBS]
    return [["--version"], *helps, ["methods"], *(["methods", name] for name in names)]


def recipes_that_cannot_work():
    wrong = ("train.lr=-1", "train.loss=focl", "probe.loss=crd", "foo.bar=1", "train.patience=-1")
    return [[verb, "bluemarble", "--set", one] for verb in ("fit", "compare") for one in wrong]


def looks_at_runs_and_a_map(finished, tmp_path):
    values = np.tile(np.repeat([1, 2], 30), (60, 1)).astype(np.uint8)
    scene = str(write_scene(tmp_path / "map.tif", values[None]))
    points, labels = str(tmp_path / "points.gpkg"), str(tmp_path / "labels.gpkg")
    places = [box(row, row, 1, 1).centroid for row in range(60)]
    write_labels(tmp_path / "labels.gpkg", places, ["1", "2"] * 30, field="reference")
    page = str(tmp_path / "page.html")
    return [
        ["report", str(finished), "--out", page, "-q"],
        ["report", str(finished), str(finished), "--out", page, "-q"],
        ["assess", scene, "--sample", "100", "--out", points],
        ["assess", scene, "--labels", labels, "--html", str(tmp_path / "assessed.html"), "-q"],
    ]


def test_what_only_looks_imports_nothing_slow(finished, data, tmp_path):
    inspect = ["inspect", str(data), "--out", str(tmp_path / "data.html"), "-q"]
    commands = [
        *((words, 0, SLOW) for words in help_and_methods()),
        *((words, 2, SLOW) for words in recipes_that_cannot_work()),
        *((words, 0, SLOW) for words in looks_at_runs_and_a_map(finished, tmp_path)),
        (inspect, 0, [name for name in SLOW if name != "torch"]),
    ]
    code = [sys.executable, "-c", CODE, json.dumps(commands)]
    env = {**os.environ, "PYTHONPATH": str(Path(tailora.__file__).parents[1])}
    result = subprocess.run(code, capture_output=True, text=True, env=env, check=False)
    assert result.returncode == 0, result.stderr
