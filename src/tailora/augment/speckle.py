"""Speckle noise of coherent radar, as an augmentation in linear power."""

from typing import Final

import numpy as np
import torch
from torch import Tensor

from tailora.errors import ConfigError

LOOKS: Final = (1, 10)


def speckle_factors(
    shape: tuple[int, ...], generator: np.random.Generator, *, looks: float | None = None
) -> Tensor:
    """Draw multiplicative speckle factors of mean 1 for each pixel.

    Speckle of L averaged looks is Gamma distributed with shape L and mean 1, so its standard
    deviation is 1 / sqrt(L): as large as the signal in single-look images. The class does not
    depend on the speckle.

    Args:
        shape: (batch, bands, height, width).
        generator: Random generator.
        looks: L, positive; fewer means stronger speckle. None draws 1 to 10 for every image.

    Raises:
        ConfigError: `looks` is not positive.

    Reference: Goodman, "Some fundamental properties of speckle", JOSA 66 (1976), eq. 11, for single
        looks; their mean over L is Gamma(L, 1/L).
    """
    if looks is not None and not looks > 0:
        raise ConfigError(f"data.looks must be positive, got {looks}")
    drawn = generator.integers(LOOKS[0], LOOKS[1] + 1, (shape[0], *(1,) * (len(shape) - 1)))
    chosen = drawn if looks is None else np.full_like(drawn, looks, dtype=np.float64)
    factors = generator.gamma(chosen, 1 / chosen, shape)
    tiny = float(np.finfo(np.float32).tiny)  # the logarithm of zero is not a number
    return torch.from_numpy(factors.astype(np.float32)).clamp(min=tiny)
