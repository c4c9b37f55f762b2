"""Samples less their mean, block by block: no copy of all of them is ever made.

Distances between samples far from 0 lose digits; taking the mean off first saves them. Done on the
way, it also works for arrays that lie on disk and are larger than the memory.
"""

import math
from collections.abc import Iterator
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.debias.block_threads import for_each
from tailora.errors import DataError

Floats = NDArray[np.float64]
Rows = NDArray[np.integer] | slice

ROWS_AT_ONCE: Final = 2**14


@final
class CenteredRows:
    """Some samples as seen from their mean.

    Args:
        samples: float32 or float64 (samples, features), in memory or mapped from a file.
        mean: What is taken off (features,); None leaves them as they are.
    """

    def __init__(self, samples: NDArray[np.floating], mean: Floats | None = None) -> None:
        self._samples = samples
        self._mean = None if mean is None else mean.astype(samples.dtype)
        self.dtype: Final = samples.dtype

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def width(self) -> int:
        """Number of features."""
        return self._samples.shape[1]

    def take(self, rows: Rows) -> NDArray[np.floating]:
        """Some rows (rows, features), centred; what is given may be a view and is not for writing.

        Args:
            rows: Row numbers, or a slice of them.
        """
        found = np.asarray(self._samples[rows])
        return found if self._mean is None else found - self._mean

    def every(self, step: int) -> "CenteredRows":
        """Every `step`-th sample, as seen from the same mean."""
        few = CenteredRows(self._samples[::step])
        few._mean = self._mean
        return few

    def norms(self) -> NDArray[np.floating]:
        """Length of every row (samples,), in the dtype of the samples."""
        found = np.empty(len(self), dtype=self.dtype)

        def measure(rows: slice) -> None:
            some = self.take(rows)
            np.sqrt(np.einsum("nd,nd->n", some, some), out=found[rows])

        for_each(measure, row_slices(len(self)))
        return found


def row_slices(count: int) -> Iterator[slice]:
    """Cut `count` rows into slices of at most `ROWS_AT_ONCE`."""
    return (slice(start, start + ROWS_AT_ONCE) for start in range(0, count, ROWS_AT_ONCE))


def require_finite(samples: NDArray[np.floating]) -> None:
    """Refuse samples whose distances cannot be computed.

    Raises:
        DataError: A feature is NaN or infinite, or so large that its square is.
    """
    broken, first, largest = 0, 0, 0.0
    for rows in row_slices(len(samples)):
        good = np.isfinite(samples[rows]).all(axis=1)
        if not good.all() and not broken:
            first = rows.start + int(np.argmin(good))
        broken += int((~good).sum())
        if not broken:
            largest = max(largest, float(np.abs(samples[rows]).max()))
    if broken:
        raise DataError(
            f"{broken} samples have NaN or infinite features, the first is row {first}; remove or "
            "fill them"
        )
    if largest > 1e-3 * math.sqrt(np.finfo(samples.dtype).max / samples.shape[1]):
        raise DataError(
            f"features reach {largest:.3g}, whose squares overflow {samples.dtype}; scale them down"
        )


def mean_and_variance(samples: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Mean and variance of every feature, both (features,), in two passes of float64."""
    mean, variance = np.zeros((2, samples.shape[1]))
    for rows in row_slices(len(samples)):
        mean += samples[rows].sum(axis=0, dtype=np.float64)
    mean /= len(samples)
    for rows in row_slices(len(samples)):
        variance += ((samples[rows] - mean) ** 2).sum(axis=0)
    return mean, variance / len(samples)
