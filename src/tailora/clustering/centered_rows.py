"""Centred samples, block by block: no full copy is ever made.

Distances between samples far from 0 lose digits; subtracting the mean avoids that. Done on the fly,
it also works for arrays on disk that are larger than memory.
"""

import math
from collections.abc import Iterator
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.clustering.block_threads import for_each
from tailora.clustering.processes import ALONE, Processes
from tailora.errors import DataError
from tailora.numbers import counted

Floats = NDArray[np.float64]
Rows = NDArray[np.integer] | slice

NUMBERS_AT_ONCE: Final = 2**17  # a block in float64 is 1 MB and stays in the processor's cache


@final
class CenteredRows:
    """Samples relative to their mean.

    Args:
        samples: float32 or float64 (samples, features), in memory or memory-mapped.
        mean: Subtracted (features,); None or zeros leave them unchanged.
    """

    def __init__(self, samples: NDArray[np.floating], mean: Floats | None = None) -> None:
        self._samples = samples
        self._mean = mean.astype(samples.dtype) if mean is not None and mean.any() else None
        self.dtype: Final = samples.dtype

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def width(self) -> int:
        """Number of features."""
        return self._samples.shape[1]

    def take(self, rows: Rows) -> NDArray[np.floating]:
        """Return some rows (rows, features), centred; may be a view and must not be written to.

        Args:
            rows: Row indices, or a slice.
        """
        if isinstance(rows, slice) or not self._samples.flags.c_contiguous:
            found = self._samples[rows]
        else:
            found = self._samples.take(rows, axis=0)  # faster, but would copy all of other arrays
        if self._mean is None:
            return found
        return np.subtract(found, self._mean, out=None if isinstance(rows, slice) else found)

    def every(self, step: int, *, first: int = 0) -> "CenteredRows":
        """Return every `step`-th sample from number `first`, relative to the same mean."""
        few = CenteredRows(self._samples[first::step])
        few._mean = self._mean
        return few

    def norms(self) -> NDArray[np.floating]:
        """Return the norm of every row (samples,), in the dtype of the samples."""
        found = np.empty(len(self), dtype=self.dtype)

        def measure(rows: slice) -> None:
            some = self.take(rows)
            np.sqrt(np.einsum("nd,nd->n", some, some), out=found[rows])

        for_each(measure, row_slices(len(self), self.width))
        return found


def row_slices(count: int, width: int) -> Iterator[slice]:
    """Cut `count` rows of `width` numbers into slices of about `NUMBERS_AT_ONCE` numbers."""
    size = max(16, NUMBERS_AT_ONCE // width)
    return (slice(start, start + size) for start in range(0, count, size))


def require_finite(samples: NDArray[np.floating]) -> None:
    """Reject samples whose distances would overflow or be NaN.

    Raises:
        DataError: A feature is NaN or infinite, or its square overflows.
    """
    blocks = list(row_slices(*samples.shape))
    largest = np.zeros(len(blocks))

    def look(number: int) -> None:
        block = samples[blocks[number]]
        largest[number] = max(float(block.max()), -float(block.min()))  # NaN if there is one

    for_each(look, range(len(blocks)))
    if not np.isfinite(largest).all():
        raise _not_finite(
            samples, [blocks[number] for number in np.flatnonzero(~np.isfinite(largest))]
        )
    if largest.max() > 1e-3 * math.sqrt(np.finfo(samples.dtype).max / samples.shape[1]):
        raise DataError(
            f"features reach {largest.max():.3g}, whose squares overflow {samples.dtype}; scale "
            "them down"
        )


def _not_finite(samples: NDArray[np.floating], blocks: list[slice]) -> DataError:
    bad = [rows.start + np.flatnonzero(~np.isfinite(samples[rows]).all(axis=1)) for rows in blocks]
    return DataError(
        f"NaN or infinite features in {counted(sum(map(len, bad)), 'sample')}, the first is row "
        f"{bad[0][0]}; remove or fill them"
    )


def mean_and_variance(
    samples: NDArray[np.floating], processes: Processes = ALONE
) -> tuple[Floats, Floats]:
    """Return mean and variance of every feature, both (features,), in one pass in float64.

    Sums are of differences from the first block, near which the mean is, so that squares lose few
    digits.

    Args:
        samples: Of this process, (samples, features).
        processes: Processes that share the samples.
    """
    blocks = list(row_slices(*samples.shape))
    near = processes.once(_mean_of, samples[blocks[0]])
    sums, squares = np.empty((2, len(blocks), samples.shape[1]))

    def add(number: int) -> None:
        apart = samples[blocks[number]].astype(np.float64)  # first: mixed types are slow
        apart -= near
        sums[number] = np.ones(len(apart)) @ apart
        squares[number] = np.einsum("nd,nd->d", apart, apart)

    for_each(add, range(len(blocks)))
    total = processes.sum(np.array(len(samples)))
    mean = processes.sum(sums.sum(axis=0)) / total
    return near + mean, np.maximum(processes.sum(squares.sum(axis=0)) / total - mean**2, 0.0)


def _mean_of(samples: NDArray[np.floating]) -> Floats:
    return samples.mean(axis=0, dtype=np.float64)


def origin(mean: Floats, variance: Floats) -> Floats:
    """Return the origin to use, (features,): 0 unless the mean exceeds the standard deviation.

    Close enough to 0, subtracting the mean saves no digit and costs a copy of every block. Norms
    grow by less than half, in the root mean square.

    Args:
        mean: Mean of each feature, (features,).
        variance: Variance of each feature, (features,).
    """
    return mean if float(mean @ mean) > float(variance.sum()) else np.zeros_like(mean)
