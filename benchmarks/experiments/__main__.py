"""Run an experiment: a recipe of this folder, on every data set and seed it names.

    python -m benchmarks.experiments heads --work /tmp/experiments

Experiments with the same [recipe] share adapters and features through the work folder, and one
that was stopped goes on where it was. benchmarks/results/NAME.json is written after each data set;
`python scripts/results_page.py` makes the page of it.
"""

import argparse
import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any

from benchmarks.speed.ratios import RESULTS
from tailora.data import open_dataset
from tailora.pipeline.compare import compare
from tailora.progress import rich_progress, silent
from tailora.runs.provenance import git_state, machine, versions
from tailora.runs.recipe import Recipe

HERE = Path(__file__).parent
KEPT = (
    "adapter", "method", "probe", "changes", "against", "validation", "scores", "difference",
    "geometry", "ece",
    "purity", "seconds", "peak_memory_mb", "trained_parameters",
)  # fmt: skip


def main() -> None:
    """Run what is missing."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("name", choices=sorted(path.stem for path in HERE.glob("*.toml")))
    options.add_argument("--work", type=Path, required=True)
    options.add_argument("--data", help="one data set only")
    options.add_argument("--jobs", type=int, help="seeds side by side")
    options.add_argument("--quiet", action="store_true")
    given = options.parse_args()
    experiment = tomllib.loads((HERE / f"{given.name}.toml").read_text("utf-8"))
    file = RESULTS / f"{given.name}.json"
    for data in [given.data] if given.data else experiment["data"]:
        found = _run(experiment, data, given)
        # read again only now: another data set may have been done meanwhile
        sets = json.loads(file.read_text("utf-8"))["sets"] if file.is_file() else {}
        sets = {name: sets.get(name) for name in experiment["data"] if name in sets} | {data: found}
        facts = {"versions": versions(), "git": git_state(), "machine": machine("cpu")}
        content = {"experiment": given.name, "recipe": experiment, **facts, "sets": sets}
        file.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def _run(experiment: dict[str, Any], data: str, given: argparse.Namespace) -> dict[str, Any]:
    recipe = Recipe().override(experiment.get("recipe", {}))
    every = experiment.get("every", {})  # of all variants, said once
    seeds, resplit = experiment["seeds"], experiment.get("resplit", True)
    drawn = range(recipe.seed, recipe.seed + (seeds if resplit else 1))
    sets = [open_dataset(data, seed=seed) for seed in drawn]
    own = json.dumps(experiment.get("recipe", {}), sort_keys=True)
    name = f"{data.replace(':', '-')}-{'resplit' if resplit else 'one-split'}"
    out = given.work / f"{name}-{hashlib.sha256(own.encode()).hexdigest()[:8]}"
    found = compare(
        sets if resplit else sets[0],
        methods=experiment["methods"],
        probes=experiment.get("probes", []),
        variants=[every | one for one in experiment.get("variants", [{}])],
        seeds=seeds,
        recipe=recipe,
        out=out,
        resume=True,
        jobs=given.jobs,
        progress=silent if given.quiet else rich_progress(),
    ).content
    facts = ("fingerprints", "dataset", "seeds", "resplit", "groups", "unit", "replicates")
    return {
        **{key: found[key] for key in facts},
        "rows": [{key: row[key] for key in KEPT} for row in found["rows"]],
    }


if __name__ == "__main__":
    main()
