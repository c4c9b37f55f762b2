"""A search among kept features: as many windows as a scene of 10,000 x 10,000 pixels has.

    python -m benchmarks.speed.search

Without reading images or loading an encoder: both are the same for every search of a process.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tailora.features.similar import similarities
from tailora.inference.maps.chip_grid import ChipGrid
from tailora.storage import create_array

_FILLED_AT_ONCE = 4096


def main(arguments: Sequence[str] | None = None) -> None:
    """Print how long a search takes."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--side", type=int, default=10_000, help="pixels of the scene")
    options.add_argument("--chip", type=int, default=64)
    options.add_argument("--features", type=int, default=768, help="DINOv2-S has 768")
    options.add_argument("--repeats", type=int, default=5)
    given = options.parse_args(arguments)
    windows = len(ChipGrid((given.side, given.side), given.chip, given.chip // 2))
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        bank = create_array(Path(folder) / "features.npy", (windows, given.features), np.float32)
        for start in range(0, windows, _FILLED_AT_ONCE):
            part = bank[start : start + _FILLED_AT_ONCE]
            part[:] = rng.standard_normal(part.shape, dtype=np.float32)
        seconds = []
        for _ in range(given.repeats):
            begin = time.perf_counter()
            found = similarities(bank, bank[:3], bank[3:5])
            np.argsort(-found.scores, kind="stable")
            seconds.append(time.perf_counter() - begin)
        del bank
    print(f"{windows:,} windows of {given.features} features: {statistics.median(seconds):.2f} s")


if __name__ == "__main__":
    main()
