"""Run every speed benchmark, or those that are named: `python -m benchmarks.speed [NAME ...]`.

All together take about half an hour on two quiet cores: benchmarks/results/bench.json keeps what
each took, and docs/benchmarks.md says it.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.speed import (
    boxes,
    clustering,
    clustering_growth,
    clustering_memory,
    demo_profile,
    detection,
    duplicates,
    growth,
    large_inputs,
    map_doubt,
    memory,
    nearest,
    precision,
    predictions,
    pretraining,
    scenes,
    search,
    segmentation,
    training,
    whole_method,
)
from benchmarks.speed.ratios import RESULTS, write_result

BENCHMARKS = {
    "clustering": clustering,
    "clustering-growth": clustering_growth,
    "clustering-memory": clustering_memory,
    "nearest": nearest,
    "training": training,
    "scenes": scenes,
    "growth": growth,
    "large-inputs": large_inputs,
    "cost-model": predictions,
    "precision": precision,
    "memory": memory,
    "whole-method": whole_method,
    "pretraining": pretraining,
    "demo-profile": demo_profile,
    "map-doubt": map_doubt,
    "segmentation": segmentation,
    "boxes": boxes,
    "detection": detection,
    "duplicates": duplicates,
    "search": search,
}
_BY_FILE = ("clustering", "clustering-growth", "nearest")  # `--out` names their file


def main(arguments: Sequence[str]) -> None:
    """Run them one after the other, each with its defaults."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    options.add_argument("--out", type=Path, default=RESULTS)
    given = options.parse_args(arguments)
    unknown = [name for name in given.names if name not in BENCHMARKS]
    if unknown:
        options.error(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    took = {}
    for name in given.names or BENCHMARKS:
        start = time.perf_counter()
        BENCHMARKS[name].main(_elsewhere(name, given.out))
        took[name] = round(time.perf_counter() - start, 1)
        print(f"{name}: {took[name]:.0f} s", flush=True)
    if not given.names:
        whole = {"seconds": took, "minutes": sum(took.values()) / 60}
        write_result("bench", whole, seed=0, arguments=arguments, out=given.out)


def _elsewhere(name: str, out: Path) -> list[str]:
    """Arguments that send a result to another folder than the committed ones."""
    if out == RESULTS:
        return []
    return ["--out", str(out / f"{name}.json" if name in _BY_FILE else out)]


if __name__ == "__main__":
    main(sys.argv[1:])
