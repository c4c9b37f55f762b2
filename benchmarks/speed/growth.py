"""Time and peak memory of stages that grow: samples N, features d, clusters K, classes C.

    python -m benchmarks.speed.growth

From one base size one quantity grows at a time. Every size is a process of its own on two cores, so
that its peak memory is its own. A size that would take longer than the limit, judged by the one
before it, is not run, and the result says so.
"""

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.growing_stages import ITERATIONS, REPLICATES, SEED, STAGES, Point
from benchmarks.speed.process_memory import memory_mb
from benchmarks.speed.ratios import RESULTS, write_result
from tailora.runs.folder import CostLedger

AXES = {
    "samples": [1_000, 10_000, 100_000, 1_000_000],
    "features": [16, 64, 256, 1024],
    "clusters": [8, 32, 128, 512],
    "classes": [4, 16, 64, 256],
}
BASE = {"samples": 10_000, "features": 64, "clusters": 32, "classes": 16}
ONCE_ABOVE = 0.2  # of the limit: what takes longer is not repeated


def main(arguments: Sequence[str]) -> None:
    """Measure and write `benchmarks/results/growth.json`."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for axis, values in AXES.items():
        options.add_argument(f"--{axis}", type=int, nargs="+", default=values)
    options.add_argument("--base", type=json.loads, default=BASE, help="sizes that stay, as JSON")
    options.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    options.add_argument("--limit", type=float, default=30.0, help="seconds a run may take")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--cores", type=int, default=2)
    options.add_argument("--out", type=Path, default=RESULTS)
    options.add_argument("--one", type=json.loads, help="measure one size in this process")
    given = options.parse_args(arguments)
    if given.one:
        stay_on(given.cores)
        stage, point = given.one["stage"], given.one["point"]
        print(json.dumps(measure(stage, point, limit=given.limit, repeats=given.repeats)))
        return
    rows = [row for stage in given.stages for row in _grow(stage, given)]
    result = {
        "base": given.base,
        "limit_seconds": given.limit,
        "cores": given.cores,
        "iterations_of_clustering": ITERATIONS,
        "replicates_of_evaluation": REPLICATES,
        "rows": rows,
    }
    write_result("growth", result, seed=SEED, arguments=arguments, out=given.out)


def measure(stage: str, point: Point, *, limit: float, repeats: int) -> dict[str, Any]:
    """Run one stage at one size in this process.

    Returns:
        Seconds of the runs after the first, or of the first alone where that took long; memory in
        MB before the stage (imports and input) and at its peak, that of the first run.
    """
    run = STAGES[stage][0](point)
    with tempfile.TemporaryDirectory() as folder:
        ledger = CostLedger(Path(folder) / "costs.json", stage)
        before = memory_mb("VmRSS")
        with ledger.measure("first"):
            run()
        (first,) = ledger.entries()
    seconds = [first.seconds]
    if first.seconds < ONCE_ABOVE * limit:
        seconds = [_timed(run) for _ in range(repeats)]
    return {
        "warmed_up": first.seconds < ONCE_ABOVE * limit,
        "seconds": seconds,
        "median_seconds": statistics.median(seconds),
        "memory_before_mb": round(before, 1),
        "peak_memory_mb": first.peak_memory_mb,
    }


def expected_seconds(done: list[tuple[int, float]], value: int) -> float:
    """Say what the next size would take.

    Args:
        done: Size and seconds of those before it, rising.
        value: The next size.

    Returns:
        The last one's seconds, growing at least in proportion and by the power of the step before;
        0 before two are known, since a single small one says nothing about growth.
    """
    if len(done) < 2:
        return 0.0
    (smaller, before), (larger, after) = done[-2:]
    power = math.log(after / before) / math.log(larger / smaller)
    return after * (value / larger) ** max(1.0, power)


def _grow(stage: str, given: argparse.Namespace) -> list[dict[str, Any]]:
    base = {name: given.base[name] for name in STAGES[stage][1]}
    rows, known = [], {tuple(base.values()): _in_own_process(stage, base, 0.0, given)}
    for axis in base:
        done: list[tuple[int, float]] = []
        for value in sorted(getattr(given, axis)):
            point = base | {axis: value}
            key = tuple(point.values())
            if key not in known:  # the base size lies on every axis
                known[key] = _in_own_process(stage, point, expected_seconds(done, value), given)
            found = known[key]
            if "median_seconds" in found:
                done.append((value, found["median_seconds"]))
            rows.append({"stage": stage, "axis": axis, **point, **found})
            print(stage, axis, value, found.get("median_seconds", found.get("skipped")), flush=True)
    return rows


def _in_own_process(
    stage: str, point: Point, expected: float, given: argparse.Namespace
) -> dict[str, Any]:
    if expected > given.limit:
        return {"skipped": f"would take about {expected:.0f} s, the limit is {given.limit:g} s"}
    one = json.dumps({"stage": stage, "point": point})
    words = ["--one", one, "--limit", given.limit, "--repeats", given.repeats]
    words += ["--cores", given.cores]
    command = [sys.executable, "-m", "benchmarks.speed.growth", *map(str, words)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(given.cores))
    environment = {**os.environ, **threads}
    longest = 60 + (1 + ONCE_ABOVE * given.repeats) * given.limit  # imports and input come first
    try:
        done = subprocess.run(
            command, check=False, stdout=subprocess.PIPE, text=True, env=environment,
            timeout=longest,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"skipped": f"was stopped after {longest:.0f} s, the limit is {given.limit:g} s"}
    if done.returncode == -signal.SIGKILL:
        return {"skipped": "was killed, as processes are that need more memory than there is"}
    done.check_returncode()
    return json.loads(done.stdout)


def stay_on(cores: int) -> None:
    """Tie this process to as many of its cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def _timed(run: Any) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(sys.argv[1:])
