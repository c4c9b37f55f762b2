"""A search among kept features: as many windows as a scene of 10,000 x 10,000 pixels has.

    python -m benchmarks.speed.search

Without reading images or loading an encoder: both are the same for every search of a process.
Beside seconds stand those of all processors, which other jobs on a machine hardly change.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.speed.ratios import RESULTS, write_result
from tailora.features.similar import similarities
from tailora.inference.maps.chip_grid import ChipGrid
from tailora.storage import create_array

_FILLED_AT_ONCE = 4096


def main(arguments: Sequence[str]) -> None:
    """Measure and write `benchmarks/results/search.json`."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--side", type=int, default=10_000, help="pixels of the scene")
    options.add_argument("--chip", type=int, default=64)
    options.add_argument("--features", type=int, default=768, help="DINOv2-S has 768")
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--out", type=Path, default=RESULTS)
    given = options.parse_args(arguments)
    windows = len(ChipGrid((given.side, given.side), given.chip, given.chip // 2))
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        bank = create_array(Path(folder) / "features.npy", (windows, given.features), np.float32)
        for start in range(0, windows, _FILLED_AT_ONCE):
            part = bank[start : start + _FILLED_AT_ONCE]
            part[:] = rng.standard_normal(part.shape, dtype=np.float32)
        seconds, processor = [], []
        for _ in range(given.repeats):
            begin, used = time.perf_counter(), time.process_time()
            found = similarities(bank, bank[:3], bank[3:5])
            np.argsort(-found.scores, kind="stable")
            seconds.append(time.perf_counter() - begin)
            processor.append(time.process_time() - used)
        del bank
    result = {
        "side": given.side,
        "chip": given.chip,
        "windows": windows,
        "features": given.features,
        "seconds": seconds,
        "median_seconds": statistics.median(seconds),
        "median_processor_seconds": statistics.median(processor),
    }
    write_result("search", result, seed=0, arguments=arguments, out=given.out)


if __name__ == "__main__":
    main(sys.argv[1:])
