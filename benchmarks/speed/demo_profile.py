"""Where the time of `make demo` goes: inside a training step, and by stage in every demo published.

    python -m benchmarks.speed.demo_profile

Steps of LoRA and of extraction, as the demo does them, run under torch's profiler; each operator's
own time is put to a group. Stages are those that committed demos recorded (benchmarks/results/
demo.json and its history in git), so that what was faster before or after can be seen.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.speed.demo_encoder import load_subject
from benchmarks.speed.ratios import RESULTS, write_result

READING: Final = "tailora: read a batch"
OPTIMIZER: Final = "Optimizer."
GROUPS: Final = (
    "matrix products", "attention", "element-wise", "optimiser", "data", "outside operators",
)  # fmt: skip
PRODUCTS: Final = ("mm", "addmm", "bmm", "baddbmm", "linear", "matmul", "convolution")
RANK, SEED = 32, 0  # as the demo has them


def main(arguments: Sequence[str]) -> None:
    """Measure and write `benchmarks/results/demo-profile.json`."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--backbone", default="dinov2-small")
    options.add_argument("--image-size", type=int)
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--steps", type=int, default=12)
    options.add_argument("--out", type=Path, default=RESULTS)
    given = options.parse_args(arguments)
    subject = load_subject(
        given.backbone, images=given.batch * given.steps, size=given.image_size, seed=SEED
    )

    def read(rows: np.ndarray) -> Tensor:
        with record_function(READING):
            return subject.read(rows)

    step = subject.epoch(rank=RANK, batch_size=given.batch, images=read)
    result = {
        "encoder": subject.name,
        "image_size": subject.pixels.shape[-1],
        "batch_size": given.batch,
        "steps": given.steps,
        "rank": RANK,
        "groups": {
            "LoRA step": profiled(step, times=given.steps),
            "extraction of a batch": profiled(
                subject.extraction(batch_size=given.batch, images=read), times=given.steps
            ),
        },
        "demos": committed_demos(),
    }
    write_result("demo-profile", result, seed=SEED, arguments=arguments, out=given.out)


def profiled(run: Callable[[], object], *, times: int) -> dict[str, Any]:
    """Profile a second run, the first warms up.

    Args:
        run: Does something `times` times.
        times: What seconds are divided by.

    Returns:
        Seconds by group, which add up to `seconds`, and seconds without the profiler.
    """
    run()
    start = time.perf_counter()
    run()
    plain = time.perf_counter() - start
    with profile(activities=[ProfilerActivity.CPU]) as found:
        start = time.perf_counter()
        run()
        whole = time.perf_counter() - start
    spent = dict.fromkeys(GROUPS, 0.0)
    for event in found.events() or []:
        spent[group_of(event)] += event.self_cpu_time_total / 1e6
    spent["outside operators"] += max(whole - sum(spent.values()), 0.0)
    return {
        "seconds": whole / times,
        "seconds_without_profiler": plain / times,
        "by_group": {name: value / times for name, value in spent.items()},
    }


def group_of(event: Any) -> str:
    """Put a profiler's event to a group, by what it lies in and else by its own name."""
    around, inner = [], event
    while inner is not None:
        around.append(inner.name)
        inner = inner.cpu_parent
    if READING in around:
        return "data"
    if any(name.startswith(OPTIMIZER) for name in around):
        return "optimiser"
    return _group_of_operator(event.name)


def _group_of_operator(name: str) -> str:
    if not name.startswith("aten::"):
        return "outside operators"  # autograd's own work and Python's
    operator = name.removeprefix("aten::")
    if "scaled_dot_product" in operator or "flash_attention" in operator:
        return "attention"
    bare = operator.strip("_").removeprefix("mkldnn_")
    return "matrix products" if bare.startswith(PRODUCTS) else "element-wise"


def committed_demos() -> list[dict[str, Any]]:
    """Read the stages of every demo that git keeps, oldest first; the file's own at least."""
    path = RESULTS / "demo.json"
    commits = _git("log", "--reverse", "--format=%h", "--", str(path)).split()
    texts = [(commit, _git("show", f"{commit}:./{path.name}")) for commit in commits]
    if not texts and path.is_file():
        texts = [("", path.read_text("utf-8"))]
    return [{"commit": commit, **stages_of(json.loads(text)["run"])} for commit, text in texts]


def stages_of(record: dict[str, Any]) -> dict[str, Any]:
    """Sum a run's stages by kind, whatever method they belong to."""
    seconds: dict[str, float] = defaultdict(float)
    for stage in record["stages"]:
        method, _, what = stage["name"].partition(": ")
        kind = "features" if what.endswith("features") else what
        seconds[f"{method}: {kind}"] += stage["seconds"]
    return {
        "started": record["started"],
        "cores": record["machine"]["cores"],
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
    }


def _git(*words: str) -> str:
    """What git says in the folder of results; nothing outside of a repository."""
    done = subprocess.run(["git", *words], cwd=RESULTS, capture_output=True, text=True, check=False)
    return done.stdout


if __name__ == "__main__":
    main(sys.argv[1:])
