"""Images as people see them; apart from what needs PEFT, so that inspecting starts quickly."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailora.data.bands.names import find_band
from tailora.errors import ConfigError


def as_picture(image: NDArray[Any], names: Sequence[str] | None = None) -> NDArray[np.uint8]:
    """(bands, height, width) to an 8-bit RGB picture; other ranges are stretched to percentiles.

    Args:
        image: Stored values.
        names: Of its bands, where known: red, green and blue are then shown as such.
    """
    rgb = image[colour_bands(names, len(image))]
    if rgb.dtype != np.uint8:
        low, high = np.percentile(rgb, (2, 98))
        rgb = ((rgb - low) / max(float(high - low), 1e-9)).clip(0, 1) * 255
    return np.moveaxis(rgb, 0, -1).astype(np.uint8)


def colour_bands(names: Sequence[str] | None, count: int) -> list[int]:
    """Positions of red, green and blue; else of the first three bands, or of the first thrice."""
    if names is not None:
        with suppress(ConfigError):
            return [find_band(colour, names) for colour in ("red", "green", "blue")]
    return [0, 1, 2] if count >= 3 else [0, 0, 0]
