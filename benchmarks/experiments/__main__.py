"""Run an experiment: a recipe of this folder, on every dataset and seed it names.

    python -m benchmarks.experiments heads --work /tmp/experiments

Experiments with the same [recipe] share adapters and features through the work folder, and one
that was stopped goes on where it was. benchmarks/results/NAME.json is written after each dataset;
`python scripts/results_page.py` makes its page in docs/results.
"""

import argparse
import hashlib
import itertools
import json
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.experiments.pasted_pairs import NAME as PASTED_PAIRS
from benchmarks.experiments.pasted_pairs import open_pasted_pairs
from benchmarks.speed.ratios import CODE, RESULTS
from tailora.config.recipe import Recipe
from tailora.data import Dataset, make_imbalanced, open_dataset, parse_imbalance
from tailora.experiments.compare import compare
from tailora.progress import rich_progress, silent
from tailora.runs.provenance import git_state, machine, versions

HERE = Path(__file__).parent
KEPT = (
    "adapter", "method", "probe", "changes", "against", "validation", "scores", "difference",
    "over_ordinary",
    "geometry", "ece",
    "purity", "seconds", "peak_memory_mb", "trained_parameters",
)  # fmt: skip


def main() -> None:
    """Run what is missing."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("name", choices=sorted(path.stem for path in HERE.glob("*.toml")))
    options.add_argument("--work", type=Path, required=True)
    options.add_argument("--data", help="one dataset only")
    options.add_argument("--jobs", type=int, help="seeds side by side")
    options.add_argument("--quiet", action="store_true")
    given = options.parse_args()
    experiment = tomllib.loads((HERE / f"{given.name}.toml").read_text("utf-8"))
    file = RESULTS / f"{given.name}.json"
    every = list(_sets_of(experiment))
    for data, profile in every:
        if given.data not in (None, data):
            continue
        found = _run(experiment, data, profile, given)
        found["git"] = git_state(*CODE)
        # read again only now: another dataset may have been done meanwhile
        former = json.loads(file.read_text("utf-8")) if file.is_file() else {"sets": {}}
        sets = {name: {"git": former["git"]} | one for name, one in former["sets"].items()}
        sets |= {_named(data, profile): found}
        sets = {name: sets[name] for one in every if (name := _named(*one)) in sets}
        facts = {"versions": versions(), "git": found["git"], "machine": machine("cpu")}
        content = {"experiment": given.name, "recipe": experiment, **facts, "sets": sets}
        file.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def _sets_of(experiment: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Every dataset as it is, or thinned to every profile that the experiment names."""
    return itertools.product(experiment["data"], experiment.get("imbalance", [None]))


def _named(data: str, profile: str | None) -> str:
    return data if profile is None else f"{data}, {profile}"


def _opened(data: str, profile: str | None, seed: int) -> Dataset:
    own = open_pasted_pairs if data == PASTED_PAIRS else partial(open_dataset, data)
    dataset = own(seed=seed)
    if profile is None:
        return dataset
    return make_imbalanced(dataset, parse_imbalance(profile), seed=seed)


def _run(
    experiment: dict[str, Any], data: str, profile: str | None, given: argparse.Namespace
) -> dict[str, Any]:
    recipe = Recipe().override(experiment.get("recipe", {}))
    every = experiment.get("every", {})  # of all variants, said once
    seeds, resplit = experiment["seeds"], experiment.get("resplit", True)
    drawn = range(recipe.seed, recipe.seed + (seeds if resplit else 1))
    sets = [_opened(data, profile, seed) for seed in drawn]
    own = json.dumps(experiment.get("recipe", {}), sort_keys=True)
    name = f"{_named(data, profile)}-{'resplit' if resplit else 'one-split'}"
    name = name.replace(":", "-").replace(", ", "-")
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
    ).to_json()
    facts = ("fingerprints", "dataset", "seeds", "resplit", "groups", "unit", "replicates")
    return {
        **{key: found[key] for key in facts},
        **({"measure": task["measure"]} if (task := found["rows"][0]["task"]) else {}),
        "rows": [
            {key: row[key] for key in KEPT}
            | {"retrieval": (row["measures"] or {}).get("retrieval")}
            | {key: value for key, value in (row["task"] or {}).items() if key in (*KEPT, "also")}
            for row in found["rows"]
        ],
    }


if __name__ == "__main__":
    main()
