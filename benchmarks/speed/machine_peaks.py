"""What a machine can do at most: a matrix product and a copy, the best of several."""

import time
from collections.abc import Callable

import torch

from benchmarks.cost_model import Machine


def measure_peaks(*, side: int = 2048, megabytes: int = 256, repeats: int = 5) -> Machine:
    """Measure 10^9 operations a second in both precisions, and 10^9 bytes a second.

    Args:
        side: Of the two square matrices.
        megabytes: Copied at once, more than any cache holds; a copy reads and writes.
        repeats: Tries after one to warm up; the best counts, since others only take time away.
    """
    source = torch.ones(megabytes * 2**18)
    target = torch.empty_like(source)
    seconds = _least(lambda: target.copy_(source), repeats)
    return Machine(
        gflops=_gflops(torch.float32, side, repeats),
        gflops_double=_gflops(torch.float64, side, repeats),
        gbytes=2 * source.nbytes / seconds / 1e9,
    )


def _gflops(dtype: torch.dtype, side: int, repeats: int) -> float:
    factor = torch.full((side, side), 0.5, dtype=dtype)
    product = torch.empty_like(factor)
    seconds = _least(lambda: torch.mm(factor, factor, out=product), repeats)
    return 2 * side**3 / seconds / 1e9


def _least(run: Callable[[], object], repeats: int) -> float:
    run()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best
