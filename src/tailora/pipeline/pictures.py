"""Images as people see them; apart from what needs PEFT, so that inspecting starts quickly."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def as_picture(image: NDArray[Any]) -> NDArray[np.uint8]:
    """(bands, height, width) to an 8-bit RGB picture; other ranges are stretched to percentiles."""
    rgb = image[:3] if len(image) >= 3 else np.repeat(image[:1], 3, axis=0)
    if rgb.dtype != np.uint8:
        low, high = np.percentile(rgb, (2, 98))
        rgb = ((rgb - low) / max(float(high - low), 1e-9)).clip(0, 1) * 255
    return np.moveaxis(rgb, 0, -1).astype(np.uint8)
