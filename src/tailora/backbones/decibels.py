"""Radar images as encoder input: decibels, clipped, scaled to 0..1.

Radar backscatter spans many orders of magnitude with multiplicative noise; the logarithm makes the
noise additive and uniform.
"""

from collections.abc import Sequence
from typing import Final, final

import torch
from torch import Tensor, nn

from tailora.errors import BackboneError, unknown_name

_FACTORS: Final = {"amplitude": 20.0, "power": 10.0, "decibel": 0.0}
RADAR: Final = tuple(_FACTORS)

_LEAST: Final = 1e-6  # of amplitude or power, added: avoids the logarithm of zero


def to_decibels(images: Tensor, radar: str) -> Tensor:
    """Convert radar images to decibels.

    Args:
        images: Amplitude, power or decibels, any shape.
        radar: How they are stored: one of `RADAR`.

    Returns:
        20 log10 of amplitude, 10 log10 of power, decibels unchanged.

    Raises:
        ConfigError: Unknown `radar`.

    Example:
        >>> to_decibels(torch.tensor([1.0, 10.0]), "amplitude").round(decimals=3).tolist()
        [0.0, 20.0]
    """
    if radar not in _FACTORS:
        raise unknown_name("kind of radar image", radar, RADAR)
    if radar == "decibel":
        return images.float()
    return _FACTORS[radar] * torch.log10(images.float() + _LEAST)


@final
class Decibels(nn.Module):
    """Scale radar images to 0..1 between two limits per band.

    Args:
        radar: How they are stored: one of `RADAR`.
        low: Decibels that become 0, one per band.
        high: Decibels that become 1, one per band.
        looks: Number of looks of the speckle added in training; None draws it for every image.

    Raises:
        BackboneError: A limit is missing, or not above the other one.
        ConfigError: Unknown `radar`.
    """

    low: Tensor
    high: Tensor

    def __init__(
        self,
        radar: str,
        low: Sequence[float],
        high: Sequence[float],
        *,
        looks: float | None = None,
    ) -> None:
        super().__init__()
        if radar not in _FACTORS:
            raise unknown_name("kind of radar image", radar, RADAR)
        if len(low) != len(high) or any(b <= a for a, b in zip(low, high, strict=True)):
            raise BackboneError(
                f"limits of decibels must be increasing in every band, got {list(low)} and "
                f"{list(high)}"
            )
        self.radar, self.looks = radar, looks
        # constructor arguments, not weights: not in the state dict
        self.register_buffer("low", _per_band(low), persistent=False)
        self.register_buffer("high", _per_band(high), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map (batch, bands, height, width) as stored to the same shape in 0..1."""
        found = to_decibels(images, self.radar)
        return ((found - self.low) / (self.high - self.low)).clamp(0, 1)

    def multiply_power(self, images: Tensor, factors: Tensor) -> Tensor:
        """Multiply the power of stored images, however they are stored.

        Args:
            images: (batch, bands, height, width).
            factors: Positive, the same shape.
        """
        images = images.float()
        if self.radar == "decibel":
            return images + 10 * torch.log10(factors)
        return images * (factors.sqrt() if self.radar == "amplitude" else factors)


def _per_band(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
