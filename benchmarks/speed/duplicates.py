"""Near duplicates among the features of 100,000 images, some of which are planted.

    python -m benchmarks.speed.duplicates

Features are normal, with variances that fall as k^-1.4 along directions of their own, so that the
first six have two thirds of the variance, as those of DINOv2 have on satellite images; or with the
same variance along all, where hardly a pair can be left out. Images of planted copies are the same,
others are noise.
Beside seconds stand those of all processors, which other jobs on a machine hardly change.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.process_memory import memory_mb
from benchmarks.speed.ratios import RESULTS, write_result
from tailora.curation.near_duplicates import near_duplicates

FALLS: Final = {"falling": 1.4, "equal": 0.0}
_NOISE: Final = 0.01  # of a copy, over the spread of all


def main(arguments: Sequence[str]) -> None:
    """Measure and write `benchmarks/results/duplicates.json`."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--samples", type=int, default=100_000)
    options.add_argument("--features", type=int, default=384)
    options.add_argument("--copies", type=int, default=500)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--out", type=Path, default=RESULTS)
    given = options.parse_args(arguments)
    rows = [_measured(name, given) for name in FALLS]
    sizes = {"samples": given.samples, "features": given.features, "copies": given.copies}
    write_result("duplicates", {**sizes, "rows": rows}, seed=0, arguments=arguments, out=given.out)


def _measured(name: str, given: argparse.Namespace) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    features = _features(given.samples, given.features, FALLS[name], rng)
    first = given.samples - given.copies
    spread = features.std(axis=0)
    noise = rng.standard_normal((given.copies, given.features), dtype=np.float32)
    features[first:] = features[: given.copies] + _NOISE * spread * noise
    expected = [[row, first + row] for row in range(given.copies)]

    def read(row: int) -> NDArray[np.float64]:
        return np.random.default_rng(row - first if row >= first else row).random((1, 32, 32))

    before, seconds, processor, found = memory_mb("VmRSS"), [], [], []
    for _ in range(given.repeats):
        start, used = time.perf_counter(), time.process_time()
        found = near_duplicates(features, read)
        seconds.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
    return {
        "variances": name,
        "seconds": seconds,
        "median_seconds": statistics.median(seconds),
        "median_processor_seconds": statistics.median(processor),
        "features_mb": features.nbytes / 2**20,
        "memory_before_mb": before,
        "peak_memory_mb": memory_mb("VmHWM"),
        "found": sum(group.tolist() in expected for group in found),
        "wrong": sum(group.tolist() not in expected for group in found),
    }


def _features(
    samples: int, features: int, falls: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw features (samples, features) whose directions are not those of the dimensions."""
    spread = np.arange(1, features + 1) ** (-falls / 2)
    turned = np.linalg.qr(rng.standard_normal((features, features)))[0]
    return rng.standard_normal((samples, features), dtype=np.float32) @ (
        spread[:, None] * turned
    ).astype(np.float32)


if __name__ == "__main__":
    main(sys.argv[1:])
