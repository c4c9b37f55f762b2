"""Time two ways of doing the same thing in one run, in turns, and keep the ratio.

Machines are shared and drift; only what is measured side by side can be compared.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_info

from tailora.runs.provenance import git_state, machine, versions

RESULTS = Path(__file__).parents[1] / "results"
# whose changes make a result that of another state than the commit's
CODE = ("src", "benchmarks/experiments", "benchmarks/speed")
# read before any benchmark adds its own load
LOAD_BEFORE, GIT_BEFORE = os.getloadavg()[0], git_state(*CODE)


def repeated(run: Callable[[], object], *, repeats: int) -> dict[str, Any]:
    """Run once to warm up, then `repeats` times; give seconds and their median."""
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "median_seconds": statistics.median(seconds)}


def take_turns(runs: dict[str, Callable[[], object]], *, repeats: int) -> dict[str, Any]:
    """Run all once to warm up, then each `repeats` times in turns, there and back.

    Returns:
        For each name its seconds, their median, and `over_first`: the median over turns of its
        seconds over those of the first; above 1 is slower.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for turn in range(repeats):
        for name in list(runs) if turn % 2 == 0 else reversed(runs):
            start = time.perf_counter()
            runs[name]()
            seconds[name].append(time.perf_counter() - start)
    first = next(iter(seconds.values()))
    return {
        name: {
            "seconds": times,
            "median_seconds": statistics.median(times),
            "over_first": statistics.median(b / a for a, b in zip(first, times, strict=True)),
        }
        for name, times in seconds.items()
    }


def alternate(
    bare: Callable[[], object], ours: Callable[[], object], *, repeats: int
) -> dict[str, Any]:
    """Run both once to warm up, then `repeats` times in turns.

    Returns:
        Seconds of each, medians, and `speed_ratio`: median over pairs of bare / ours; 1 is equally
        fast, 0.95 means ours does 95 % of the bare rate.
    """
    bare(), ours()
    seconds: dict[str, list[float]] = {"bare": [], "ours": []}
    for turn in range(repeats):
        pair = [("bare", bare), ("ours", ours)]
        for name, run in pair if turn % 2 == 0 else reversed(pair):
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    ratios = [b / o for b, o in zip(seconds["bare"], seconds["ours"], strict=True)]
    return {
        "seconds": seconds,
        "median_seconds": {name: statistics.median(times) for name, times in seconds.items()},
        "speed_ratio": statistics.median(ratios),
        "speed_ratio_range": [min(ratios), max(ratios)],
    }


def write_result(
    name: str,
    result: dict[str, Any],
    *,
    seed: int,
    arguments: Sequence[str] = (),
    out: Path = RESULTS,
) -> None:
    """Write `<name>.json` with seed, versions, git state, machine, and how it was asked for.

    Args:
        name: Of the benchmark.
        result: What it found.
        seed: Of everything that was drawn.
        arguments: Of the command line; empty says that all options were the defaults.
        out: Folder to write to.
    """
    out.mkdir(parents=True, exist_ok=True)
    state = {
        "threads": max(pool["num_threads"] for pool in threadpool_info()),
        "load_average_at_start": LOAD_BEFORE,
    }
    facts = {
        "seed": seed,
        "arguments": list(arguments),
        "versions": versions(),
        "git": GIT_BEFORE,
        "machine": {**machine("cpu"), **state},
    }
    path = out / f"{name}.json"
    path.write_text(json.dumps({"benchmark": name, **facts, **result}, indent=1) + "\n", "utf-8")
    print(f"{name}: {path}")
