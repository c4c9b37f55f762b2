"""One feature bank computed by several processes, each its share of the rows."""

from collections.abc import Callable

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from tailora import processes
from tailora.features.bank import FeatureBank, Width

Fill = Callable[[NDArray[np.int64], NDArray[np.float32]], None]


def make_together(
    bank: FeatureBank, rows: NDArray[np.int64], width: Width, fill: Fill, accelerator: Accelerator
) -> NDArray[np.float32]:
    """Return a bank's features; missing ones are computed in shares by all processes.

    Shares go through files next to the bank, so that no process holds more than a batch; the first
    process merges them in row order.

    Args:
        bank: The feature bank.
        rows: Samples in the desired order.
        width: Number of features, or the shape (..., features) of a map of them.
        fill: Writes the features of some sample numbers (n,) into an array (n, ..., features).
        accelerator: Provides the process group.

    Returns:
        Read-only memory map (rows, ..., features).

    Raises:
        ProcessError: Another process has ended.
    """

    def fill_alone(out: NDArray[np.float32]) -> None:
        fill(rows, out)

    if accelerator.num_processes == 1 or bank.kept(len(rows), width) is not None:
        return bank.load_or_make(len(rows), width, fill_alone)
    count = accelerator.num_processes
    shares = [bank.share(index, count) for index in range(count)]
    own, mine = shares[accelerator.process_index], processes.share(rows, accelerator)
    own.load_or_make(len(mine), width, lambda out: fill(mine, out))
    processes.wait(accelerator)

    def put_together(out: NDArray[np.float32]) -> None:
        parts = [np.load(share.array_path, mmap_mode="r") for share in shares]
        for part, place in zip(parts, np.array_split(np.arange(len(rows)), count), strict=True):
            out[place] = part

    processes.only_first(accelerator, lambda: bank.load_or_make(len(rows), width, put_together))
    own.remove()
    return bank.load_or_make(len(rows), width, fill_alone)
