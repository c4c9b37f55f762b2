"""Which units pixel values seem to be in, and common mistakes with them.

Reference: Sentinel-2 Level-1C and 2A products store reflectance times 10,000; dividing that by 255,
    as if it were 8-bit, is a mistake found even in libraries (torchgeo issue 4061).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tailora.data.bands.names import RADAR

_WRONG_SCALE: Final = 10.0  # a given mean off by this factor is in other units
_MOST_NAMED: Final = 5


def guess_units(values: NDArray[np.generic], names: Sequence[str] | None = None) -> str:
    """Guess the units of stored pixel values.

    Args:
        values: Any shape, with at least one finite value.
        names: Bands, if known.

    Returns:
        A description such as `"reflectance times 10,000"`.
    """
    if values.dtype == np.uint8:
        return "8-bit values (0 to 255)"
    found = values[np.isfinite(values)].astype(np.float64)
    low, high = float(found.min()), float(np.percentile(found, 99.9))
    is_radar = bool(names) and all(name in RADAR for name in names or ())
    if low < 0 and low >= -100 and high <= 60:
        return "decibels" if is_radar or low < -2 else "values around zero, already normalised"
    if is_radar:
        return "radar amplitude or power, linear"
    if low < 0:
        return "positive and negative values"
    limits = (
        (0.004, "values below 1/255"), (2.0, "reflectance (0 to 1)"), (100.0, "unknown units"),
        (255.0, "0 to 255, stored as " + str(values.dtype)), (20000.0, "reflectance times 10,000"),
    )  # fmt: skip
    return next((units for limit, units in limits if high <= limit), "digital numbers (16 bits)")


def check_values(
    values: NDArray[np.generic],
    names: Sequence[str],
    *,
    mean: Sequence[float] = (),
    radar: str = "none",
) -> tuple[str, ...]:
    """Check a first batch for common mistakes.

    Args:
        values: Stored values (images, bands, height, width).
        names: Band names to show, one per band.
        mean: Means set by the user, one per band; empty if none.
        radar: How radar images are stored according to the user.

    Returns:
        One sentence per finding; none if nothing looks wrong.
    """
    bands = np.moveaxis(values.astype(np.float64), 1, 0).reshape(values.shape[1], -1)
    low, high = bands.min(axis=1), bands.max(axis=1)
    if (low == high).all() and len(set(low.tolist())) == 1:
        return (f"every pixel is {low[0]:g}: do these images contain only no-data?",)
    found = _constant(names, low, high)
    if radar == "none":
        found += _wrong_scale(values.dtype, float(low.min()), float(high.max()), names)
    if len(mean) == len(bands):
        found += _wrong_mean(names, bands.mean(axis=1), mean)
    return tuple(found)


def _constant(
    names: Sequence[str], low: NDArray[np.float64], high: NDArray[np.float64]
) -> list[str]:
    flat = [f"{name} ({a:g})" for name, a, b in zip(names, low, high, strict=True) if a == b]
    if not flat:
        return []
    return [f"constant bands carry no information: {', '.join(flat[:_MOST_NAMED])}; leave them out"]


def _wrong_scale(
    dtype: np.dtype[np.generic], low: float, high: float, names: Sequence[str]
) -> list[str]:
    is_whole = np.issubdtype(dtype, np.integer)
    if is_whole and low >= 0 and high <= 1:
        return ["only the integers 0 and 1: were values divided by 255 or 10,000 and then rounded?"]
    if is_whole or low < 0:
        return []
    if high < 1 / 255:
        return [f"no value exceeds {high:.2g}: divided by 255 or 10,000 more than once?"]
    is_spectral = not set(names) <= {*RADAR}
    if is_spectral and 2 < high <= 80:
        return [
            f"fractions up to {high:.3g}: reflectance times 10,000 divided by 255? Use "
            "reflectance itself, or the stored values"
        ]
    return []


def _wrong_mean(
    names: Sequence[str], found: NDArray[np.float64], given: Sequence[float]
) -> list[str]:
    off = [
        f"{name} (given {said:g}, found {is_:.4g})"
        for name, is_, said in zip(names, found, given, strict=True)
        if min(abs(is_), abs(said)) * _WRONG_SCALE < max(abs(is_), abs(said)) > 0.01
    ]
    if not off:
        return []
    return [f"data.mean is in other units than the images: {', '.join(off[:_MOST_NAMED])}"]
