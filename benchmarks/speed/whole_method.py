"""Whole debLoRA against LoRA alone: seconds of the stages of runs, as runs record them.

    python -m benchmarks.speed.whole_method

A debLoRA run holds the LoRA it stands on, so every run is a pair: all its stages over those that
LoRA alone would have had, of the same minutes. Runs whose stage 5 learns from the tail and runs in
which it learns from all samples take turns.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.speed.ratios import RESULTS, write_result
from tailora import fit, open_dataset
from tailora.config.recipe import Recipe, parse_assignment
from tailora.data import Dataset
from tailora.storage import read_json

VARIANTS: dict[str, dict[str, Any]] = {
    "tail": {"deblora.fit_on": "tail", "deblora.epochs": 6},
    "all": {"deblora.fit_on": "all", "deblora.epochs": 2},
}
DATA = "bluemarble:train=480:val_per_class=10:test_per_class=20"
SEED = 0
GOAL = 1.35


def main(arguments: Sequence[str]) -> None:
    """Measure and write `benchmarks/results/whole-method.json`."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--data", default=DATA)
    options.add_argument("--set", action="append", default=[], help="of the recipe: KEY=VALUE")
    options.add_argument("--repeats", type=int, default=2)
    options.add_argument("--out", type=Path, default=RESULTS)
    given = options.parse_args(arguments)
    data = open_dataset(given.data, seed=SEED)
    plain = Recipe("deblora", SEED).override({"probe.views": 1})  # views cost both alike
    recipe = plain.override(dict(parse_assignment(pair) for pair in given.set))
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in VARIANTS}
    _stages(data, recipe.override({"train.epochs": 1, "deblora.epochs": 1}))  # to warm up
    for turn in range(given.repeats):
        for name in list(VARIANTS) if turn % 2 == 0 else reversed(VARIANTS):
            runs[name].append(split(_stages(data, recipe.override(VARIANTS[name]))))
            print(f"stage 5 on {name}: {runs[name][-1]['ratio']:.2f}", flush=True)
    result = {
        "data": given.data,
        "images": {part: len(data.indices(part)) for part in ("train", "val", "test")},
        "goal": GOAL,
        "variants": {
            name: {"changes": VARIANTS[name], **summary(found)} for name, found in runs.items()
        },
    }
    write_result("whole-method", result, seed=SEED, arguments=arguments, out=given.out)


def split(stages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Divide the stages of a debLoRA run into LoRA alone and what comes on top.

    Args:
        stages: Entries of run.json, each with `name`, `method` and `seconds`.
    """
    own = {
        stage["name"].partition(": ")[2]: stage["seconds"]
        for stage in stages
        if stage["method"] == "deblora"
    }
    alone = sum(stage["seconds"] for stage in stages if stage["method"] != "deblora")
    return {"lora_alone": alone, "own": own, "ratio": (alone + sum(own.values())) / alone}


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the runs of one variant, and the runs."""
    ratios = [run["ratio"] for run in runs]
    return {
        "lora_alone_seconds": median(run["lora_alone"] for run in runs),
        "own_seconds": {name: median(run["own"][name] for run in runs) for name in runs[0]["own"]},
        "ratio": median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "runs": list(runs),
    }


def _stages(data: Dataset, recipe: Recipe) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        fit(data, recipe=recipe, out=run)
        return read_json(run / "run.json")["stages"]


if __name__ == "__main__":
    main(sys.argv[1:])
