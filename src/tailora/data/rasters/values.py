"""Values of a raster: physical ones, with no-data pixels set to the mean of the others."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import MaskFlags


def read_values(raster: Any, bands: Sequence[int], window: Any = None) -> NDArray[Any]:
    """Read bands of an open raster.

    Args:
        raster: From `open_raster`.
        bands: Numbers from 1.
        window: Part to read; None reads all.

    Returns:
        (bands, height, width) in the dtype of the file, or float32 if scale and offset tags convert
        the stored values. Pixels without data are filled; see `fill_gaps`.

    Raises:
        ValueError: A band has no valid pixel, or its scale is 0 or not finite.
    """
    stored = raster.read(list(bands), window=window)
    gaps = find_gaps(raster, bands, stored, window)
    return fill_gaps(_physical(raster, bands, stored), gaps)


def find_gaps(
    raster: Any, bands: Sequence[int], stored: NDArray[Any], window: Any = None
) -> NDArray[np.bool_] | None:
    """Return which pixels a file declares as no data, by a value per band, mask or alpha.

    Args:
        raster: Open.
        bands: Numbers from 1.
        stored: Values read from them (bands, height, width).
        window: Where.

    Returns:
        (bands, height, width), or None if the file declares nothing.
    """
    flags = {flag for band in bands for flag in raster.mask_flag_enums[band - 1]}
    if flags == {MaskFlags.all_valid}:
        return None
    gaps = np.empty(stored.shape, dtype=bool)
    for k, band in enumerate(bands):
        gaps[k] = raster.read_masks(band, window=window) == 0
        value = raster.nodatavals[band - 1]  # which GDAL ignores if there is also a mask
        if value is not None:
            gaps[k] |= np.isnan(stored[k]) if np.isnan(value) else stored[k] == value
    return gaps


def fill_gaps(values: NDArray[Any], gaps: NDArray[np.bool_] | None) -> NDArray[Any]:
    """Fill pixels without data with the mean of the others of their band, rounded for integers.

    Then resizing does not mix in no-data values, and the mean of the image is that of its valid
    pixels.

    Args:
        values: (bands, height, width), changed in place.
        gaps: Pixels without data, of the same shape; None if there are none.

    Raises:
        ValueError: A band has no valid pixel.
    """
    if gaps is None:
        return values
    for number, (layer, gap) in enumerate(zip(values, gaps, strict=True), start=1):
        if gap.all():
            raise ValueError(f"band {number} has no pixel with data")
        if gap.any():
            mean = layer[~gap].mean(dtype=np.float64)
            layer[gap] = mean.round() if np.issubdtype(layer.dtype, np.integer) else mean
    return values


def _physical(raster: Any, bands: Sequence[int], stored: NDArray[Any]) -> NDArray[Any]:
    tags = [(raster.scales[band - 1], raster.offsets[band - 1]) for band in bands]
    if all(tag == (1.0, 0.0) for tag in tags):
        return stored
    if not np.isfinite(tags).all() or any(scale == 0 for scale, _ in tags):
        raise ValueError(f"its bands have (scale, offset) {tags}, which is invalid")
    values = np.empty(stored.shape, dtype=np.float32)
    for layer, one, (scale, offset) in zip(values, stored, tags, strict=True):
        layer[:] = to_physical(one, scale, offset)
    return values


def to_physical(stored: NDArray[Any], scale: float, offset: float) -> NDArray[np.float32]:
    """Apply a band's scale and offset tags, so that equal values are equal however stored.

    Example:
        >>> to_physical(np.array([1234]), 1e-4, 0.0) == to_physical(np.array([2234]), 1e-4, -0.1)
        array([ True])
    """
    return (stored.astype(np.float64) * scale + offset).astype(np.float32)
