"""Time two ways of doing the same thing in one run, in turns, and keep the ratio.

Machines are shared and drift; only what is measured side by side can be compared.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tailora.runs.provenance import git_state, machine, versions

RESULTS = Path(__file__).parents[1] / "results"


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


def write_result(name: str, result: dict[str, Any], *, seed: int) -> None:
    """Write `benchmarks/results/<name>.json` with seed, versions, git state and machine."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    facts = {"seed": seed, "versions": versions(), "git": git_state(), "machine": machine("cpu")}
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"benchmark": name, **facts, **result}, indent=1) + "\n", "utf-8")
    print(f"{name}: {path}")
