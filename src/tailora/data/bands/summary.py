"""Values of each band: range, spread and histogram of a sample of pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

_BINS: Final = 64


@final
@dataclass(frozen=True)
class BandSummary:
    """Values of one band in a sample of pixels.

    Attributes:
        name: Name of the band, or its number.
        wavelength: Centre in micrometres, or None.
        low: Minimum.
        percentiles: 2nd, 50th and 98th.
        high: Maximum.
        mean: Arithmetic mean.
        std: Standard deviation.
        counts: Pixels in equal bins (bins,), from the 2nd to the 98th percentile extended by a
            tenth on either side; pixels beyond are counted in the outer bins.
        edges: Bin edges (bins + 1,).
    """

    name: str
    wavelength: float | None
    low: float
    percentiles: tuple[float, float, float]
    high: float
    mean: float
    std: float
    counts: NDArray[np.int64]
    edges: NDArray[np.float64]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object, without the histogram."""
        return {
            "name": self.name, "wavelength": self.wavelength, "min": self.low, "max": self.high,
            "p2": self.percentiles[0], "median": self.percentiles[1], "p98": self.percentiles[2],
            "mean": self.mean, "std": self.std,
        }  # fmt: skip


def summarise_bands(
    values: NDArray[Any],
    names: Sequence[str] | None = None,
    wavelengths: Sequence[float] | None = None,
) -> tuple[BandSummary, ...]:
    """Summarise bands.

    Args:
        values: (bands, pixels), at least one pixel; valid pixels only.
        names: Band names; None numbers them.
        wavelengths: Centres in micrometres, if known.
    """
    shown = names or [f"band {i + 1}" for i in range(len(values))]
    waves = wavelengths or [None] * len(values)
    return tuple(
        _summarise(name, wave, band.astype(np.float64))
        for name, wave, band in zip(shown, waves, values, strict=True)
    )


def _summarise(name: str, wavelength: float | None, band: NDArray[np.float64]) -> BandSummary:
    low, median, high = (float(value) for value in np.percentile(band, (2, 50, 98)))
    margin = (high - low) / 10 or max(abs(low), 1.0) / 10
    edges = np.linspace(low - margin, high + margin, _BINS + 1)
    counts, _ = np.histogram(band.clip(edges[0], edges[-1]), edges)
    return BandSummary(
        name, wavelength, float(band.min()), (low, median, high), float(band.max()),
        float(band.mean()), float(band.std()), counts, edges,
    )  # fmt: skip
