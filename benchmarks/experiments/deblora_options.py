"""Which start and which rows stage 5 of debLoRA should have: its default is measured, not guessed.

    python -m benchmarks.experiments.deblora_options --seeds 3 --work /tmp/deblora-options

All variants of a seed share data, pretrained features and the base LoRA. Defaults are chosen on
the validation split; the test split is shown beside it. Seeds move weights, order and bootstrap,
not the split. benchmarks/results/deblora-options.json is written after each variant, so it can be
stopped; a finished variant is not done again.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from benchmarks.speed.ratios import RESULTS
from tailora.data import Dataset, open_dataset
from tailora.evaluate import class_scores, confusion_matrix, group_f1
from tailora.heads.linear_probe import predict_logits
from tailora.pipeline.fit import run_stages
from tailora.pipeline.job import Job
from tailora.pipeline.prepare import check_run, open_job
from tailora.pipeline.scoring import score
from tailora.pipeline.stages import StageResult, calibration, features
from tailora.progress import silent
from tailora.runs.folder import RunFolder
from tailora.runs.provenance import git_state, machine, versions
from tailora.runs.recipe import Recipe

# only what differs from the defaults
VARIANTS: dict[str, dict[str, Any]] = {
    "from-base, all": {"deblora.init": "from-base", "deblora.fit_on": "all"},
    "from-base, tail": {"deblora.init": "from-base", "deblora.fit_on": "tail", "deblora.epochs": 6},
    "fresh, all": {"deblora.init": "fresh", "deblora.fit_on": "all", "deblora.lr": 1e-3},
    "fresh, tail": {
        "deblora.init": "fresh", "deblora.fit_on": "tail", "deblora.epochs": 6, "deblora.lr": 1e-3,
    },
    "from-base, all, pull 0.5, tail+middle": {
        "deblora.pull": 0.5, "deblora.calibrate": "tail+middle",
    },
}  # fmt: skip
FILE = RESULTS / "deblora-options.json"


def main() -> None:
    """Run what is missing."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", default="bluemarble")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--work", type=Path, required=True)
    given = options.parse_args()
    data = open_dataset(given.data)
    rows = json.loads(FILE.read_text("utf-8"))["rows"] if FILE.is_file() else []
    for seed in range(given.seeds):
        for name, changes in VARIANTS.items():
            if any(row["seed"] == seed and row["variant"] == name for row in rows):
                continue
            rows += _run(data, name, changes, seed, given.work)
            _write(rows, given.data)


def _run(
    data: Dataset, name: str, changes: dict[str, Any], seed: int, work: Path
) -> list[dict[str, Any]]:
    shared = work / f"seed-{seed}"
    out = work / f"seed-{seed}-{name.replace(', ', '-').replace(' ', '-')}"
    folder = RunFolder(out)
    recipe, loaded = check_run(
        data, Recipe().override({"seed": seed, **changes}), folder, resume=False, force=True
    )
    job = open_job(
        data,
        recipe,
        loaded,
        folder,
        resume=False,
        force=True,
        progress=silent,
        accelerator=Accelerator(),
    )
    if shared.is_dir():
        shutil.copytree(shared, out / "stages", dirs_exist_ok=True)
    results = run_stages(job)
    if not shared.is_dir():
        for method in ("zero-shot", "lora"):
            shutil.copytree(out / "stages" / method, shared / method)
        kept = [c for c in job.folder.ledger.entries() if c["method"] != "deblora"]
        (shared / "costs.json").write_text(json.dumps(kept), "utf-8")
    metrics = score(job, results, calibration(job)).to_json()
    shutil.rmtree(job.folder.work)
    rows = []
    costs = job.folder.ledger.entries()
    for result, entry in zip(results, metrics["methods"], strict=True):
        is_new = result.method == "deblora"
        if is_new or name == next(iter(VARIANTS)):
            rows.append({
                "seed": seed,
                "variant": name if is_new else result.method,
                "recipe": changes if is_new else {},
                "val_macro_f1": _validation(job, result),
                "test_macro_f1": entry["macro_f1"],
                "test_macro_f1_interval": entry["macro_f1_interval"],
                "paired": [p for p in metrics["paired"] if is_new and p["method"] == "deblora"],
                "geometry": entry["geometry"],
                "purity": metrics["clusters"]["purity"] if is_new else None,
                "seconds": sum(c["seconds"] for c in costs if c["method"] == result.method),
            })  # fmt: skip
    print(seed, name, {row["variant"]: row["test_macro_f1"] for row in rows}, flush=True)
    return rows


def _validation(job: Job, result: StageResult) -> dict[str, float]:
    targets = job.labels[job.dataset.indices("val")]
    rows = np.asarray(features(job, result.method, "val"))
    predicted = predict_logits(result.head, rows).argmax(axis=1)
    f1 = class_scores(confusion_matrix(targets, predicted, len(job.counts.names))).f1
    return {name: float(value) for name, value in group_f1(f1, job.groups).items()}


def _write(rows: list[dict[str, Any]], data: str) -> None:
    facts = {"versions": versions(), "git": git_state(), "machine": machine("cpu")}
    content = {"experiment": "deblora-options", "data": data, **facts, "rows": rows}
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
