"""Random augmentation of images seen from above: a few plausible operations, of random strength."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tailora.augment.options import check_augment_options
from tailora.backbones.symmetries import VIEWS, dihedral
from tailora.errors import ConfigError

NADIR: Final = "nadir"
OPERATIONS: Final = ("crop", "brightness", "contrast", "saturation", "blur", "noise")
# at full strength
_AREA: Final = 0.5  # of the image that a crop leaves out
_FACTOR: Final = 0.5  # by which brightness, contrast and saturation change, up or down
_BLUR: Final = 1.0  # standard deviation in pixels
_NOISE: Final = 0.1  # standard deviation, in those of the image's band
_RADIUS: Final = 3  # of the blur, in pixels
_MIRRORED: Final = 4  # number of the symmetry that swaps left and right; see `dihedral`


@final
@dataclass(frozen=True)
class Nadir:
    """Turn every image, and change each by a few operations drawn at random.

    The operations suit imagery seen from above, of any bands and units. RandAugment's others do
    not: shear and rotation by free angles leave empty corners, and solarising, posterising,
    inverting and equalising make radiances that no sensor measures.

    Args:
        operations: Number of different operations for each image, 0 to 6.
        strength: Upper end of their strength, in [0, 1]. At 1, a square crop of at least half the
            area is resized to the whole; brightness, contrast, and the differences between bands
            are multiplied by 0.5 to 1.5; the blur has a standard deviation of up to 1 pixel, the
            noise of up to 0.1 of that of its band in the image.
        has_up: Whether images have an up: they are mirrored left to right only, and never turned.

    Raises:
        ConfigError: An option is out of range.

    Reference:
        After Cubuk et al., RandAugment: Practical Automated Data Augmentation with a Reduced Search
        Space, NeurIPS 2020; the choice of operations and their ranges are ours.
    """

    operations: int = 2
    strength: float = 0.5
    has_up: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.operations <= len(OPERATIONS):
            raise ConfigError(
                f"train.augment_options.operations must lie in 0..{len(OPERATIONS)}, got "
                f"{self.operations}"
            )
        if not 0 <= self.strength <= 1:
            raise ConfigError(
                f"train.augment_options.strength must lie in [0, 1], got {self.strength}"
            )

    def __call__(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        """Augment a batch.

        Args:
            images: Stored values of any real type (batch, bands, size, size).
            generator: Source of all randomness; the batch may be drawn in parts.

        Returns:
            Float images; those of integer images stay within the range of their type.
        """
        count = len(OPERATIONS)
        draws = generator.random((len(images), 2 * count + 4))
        ranks = draws[:, :count].argsort(axis=1).argsort(axis=1)
        shares = draws[:, count : 2 * count]
        turn, down, right, seed = draws[:, 2 * count :].T
        turns = (turn < 0.5) * _MIRRORED if self.has_up else (turn * VIEWS).astype(np.int64)
        changed = dihedral(images.float(), turns)
        for place, name in enumerate(OPERATIONS):
            rows = np.flatnonzero(ranks[:, place] < self.operations)
            if not len(rows):
                continue
            where = torch.from_numpy(rows).to(images.device)
            amount = self.strength * shares[rows, place]
            some = changed[where]
            if name == "crop":
                some = crop(some, 1 - _AREA * amount, down[rows], right[rows])
            elif name == "blur":
                some = blur(some, _BLUR * amount)
            elif name == "noise":
                some = add_noise(some, _NOISE * amount, seed[rows])
            else:
                some = _CHANGES[name](some, 1 + _FACTOR * (2 * amount - self.strength))
            changed[where] = some
        if not images.is_floating_point():
            limits = torch.iinfo(images.dtype)
            changed = changed.clamp(limits.min, limits.max)
        return changed


def read_nadir(options: Mapping[str, Any], *, has_up: bool) -> Nadir:
    """Make the augmentation of `train.augment_options`.

    Raises:
        ConfigError: An option is unknown (the nearest is named), of another type or out of range.
    """
    known: dict[str, tuple[type, ...]] = {"operations": (int,), "strength": (int, float)}
    check_augment_options(NADIR, options, known)
    return Nadir(**options, has_up=has_up)


def crop(
    images: Tensor, area: NDArray[np.float64], down: NDArray[np.float64], right: NDArray[np.float64]
) -> Tensor:
    """Cut a square out of each image and resize it to the whole, bilinearly.

    Args:
        images: Square, floats (batch, bands, size, size).
        area: Share of the image that is kept (batch,), in (0, 1].
        down: Where it lies, from the top, 0, to the bottom, 1 (batch,).
        right: From the left, 0, to the right, 1 (batch,).
    """
    side = np.sqrt(area)
    center = (1 - side) * (2 * np.stack([right, down]) - 1)  # the image reaches from -1 to 1
    zero = np.zeros_like(side)
    rows = np.stack([side, zero, center[0], zero, side, center[1]], axis=1).reshape(-1, 2, 3)
    grid = functional.affine_grid(
        torch.from_numpy(rows).to(images), list(images.shape), align_corners=False
    )
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def change_brightness(images: Tensor, factors: NDArray[np.float64]) -> Tensor:
    """Multiply each image by its factor, as another illumination does."""
    return images * _each(factors, images)


def change_contrast(images: Tensor, factors: NDArray[np.float64]) -> Tensor:
    """Multiply the deviations from each band's mean over the image."""
    mean = images.mean(dim=(-2, -1), keepdim=True)
    return mean + (images - mean) * _each(factors, images)


def change_saturation(images: Tensor, factors: NDArray[np.float64]) -> Tensor:
    """Multiply what distinguishes the bands at each pixel.

    Each band is taken in its own standard deviations from its mean over the image, so that bands
    of unlike units count equally; one band alone does not change.
    """
    mean = images.mean(dim=(-2, -1), keepdim=True)
    spread = _spread(images)
    values = (images - mean) / spread.clamp(min=torch.finfo(images.dtype).tiny)
    common = values.mean(dim=1, keepdim=True)
    return mean + spread * (common + (values - common) * _each(factors, images))


def blur(images: Tensor, deviations: NDArray[np.float64]) -> Tensor:
    """Blur each image by a Gaussian of its standard deviation in pixels, cut off at 3 pixels."""
    steps = np.arange(-_RADIUS, _RADIUS + 1)
    scale = np.maximum(deviations, 1e-3)[:, None]  # so narrow that the neighbours weigh nothing
    weights = np.exp(-0.5 * (steps / scale) ** 2)
    weights = torch.from_numpy(weights / weights.sum(axis=1, keepdims=True)).to(images)
    for dim in (-2, -1):
        around = [_RADIUS, _RADIUS, 0, 0] if dim == -1 else [0, 0, _RADIUS, _RADIUS]
        padded = functional.pad(images, around, mode="replicate")
        images = sum(
            (
                weights[:, step, None, None, None] * padded.narrow(dim, step, images.shape[dim])
                for step in range(len(steps))
            ),
            torch.zeros_like(images),
        )
    return images


def add_noise(
    images: Tensor, deviations: NDArray[np.float64], seeds: NDArray[np.float64]
) -> Tensor:
    """Add Gaussian noise to each image.

    Args:
        images: Floats (batch, bands, size, size).
        deviations: Standard deviation, in those of the image's band (batch,).
        seeds: Of each image's noise, in [0, 1) (batch,): images do not depend on their batch.
    """
    shape = tuple(images.shape[1:])
    noise = np.stack(
        [
            np.random.default_rng(int(seed * 2**32)).standard_normal(shape, np.float32)
            for seed in seeds
        ]
    )
    scaled = torch.from_numpy(noise).to(images) * _each(deviations, images)
    return images + scaled * _spread(images)


_CHANGES: Final = {
    "brightness": change_brightness,
    "contrast": change_contrast,
    "saturation": change_saturation,
}


def _each(values: NDArray[np.float64], images: Tensor) -> Tensor:
    return torch.from_numpy(values).to(images)[:, None, None, None]


def _spread(images: Tensor) -> Tensor:
    return images.std(dim=(-2, -1), keepdim=True, correction=0)
