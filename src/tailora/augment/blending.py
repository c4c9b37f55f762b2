"""Common parts of mixing augmentations: partners, ratios, and the two ways to combine images."""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tailora.errors import ConfigError, DataError

Shares = NDArray[np.float64]


class Batch(NamedTuple):
    """Images and their labels.

    Attributes:
        images: (rows, bands, height, width).
        labels: Class of each row (rows,).
    """

    images: Tensor
    labels: Tensor


class Pair(NamedTuple):
    """Two labels per row, and their shares.

    Attributes:
        first: Class of each row (rows,).
        second: The other class of each row (rows,).
        shares: Share of the first (rows,), in [0, 1]; the second has the rest.
    """

    first: Tensor
    second: Tensor
    shares: Tensor


class Mixed(NamedTuple):
    """Mixed images and soft labels; `functional.cross_entropy` takes such targets.

    Attributes:
        images: (rows, bands, height, width).
        targets: Share of each class (rows, classes), each row summing to 1.
        pair: The same as two labels per row.
    """

    images: Tensor
    targets: Tensor
    pair: Pair


def require_classes(labels: Tensor, num_classes: int) -> None:
    """Reject labels (rows,) that are not a class: ignored rows cannot be mixed.

    Raises:
        DataError: One is not in [0, num_classes).
    """
    if (
        len(labels)
        and not labels.is_meta
        and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes
    ):
        wrong = labels[(labels < 0) | (labels >= num_classes)][0]
        raise DataError(
            f"label {int(wrong)} is not one of {num_classes} classes, so it cannot be mixed; "
            "leave such rows out of the batch"
        )


def draw_shares(generator: np.random.Generator, rows: int, *, alpha: float) -> Shares:
    """Draw Beta(alpha, alpha) for each row (rows,)."""
    return generator.beta(alpha, alpha, size=rows)


def shuffled_partners(batch: Batch, generator: np.random.Generator) -> Batch:
    """Return a random permutation of the batch as partners; some rows may get themselves."""
    order = torch.from_numpy(generator.permutation(len(batch.labels))).to(batch.labels.device)
    return Batch(batch.images[order], batch.labels[order])


def blend(first: Tensor, second: Tensor, shares: Shares) -> Tensor:
    """Weighted sum of images: `shares` (rows,) of the first, the rest of the second.

    Raises:
        DataError: Integer images, which a weighted sum would truncate.
    """
    if not first.is_floating_point():
        raise DataError(
            f"mixing needs floating-point images, got {first.dtype}; convert them first"
        )
    weights = torch.from_numpy(shares).to(first)[:, None, None, None]
    return weights * first + (1 - weights) * second


def share_labels(
    images: Tensor, first: Tensor, second: Tensor, shares: Shares, num_classes: int
) -> Mixed:
    """Attach soft labels to mixed images: `shares` (rows,) of the first, the rest of the second.

    Args:
        images: Already mixed (rows, bands, height, width).
        first: Class of each row (rows,).
        second: The other class of each row (rows,).
        shares: Share of the first.
        num_classes: Width of the targets.
    """
    pair = Pair(first, second, torch.from_numpy(shares).to(first.device, torch.get_default_dtype()))
    weights = pair.shares[:, None]
    ones, others = (functional.one_hot(y, num_classes).to(weights) for y in (first, second))
    return Mixed(images, weights * ones + (1 - weights) * others, pair)


def boxes(
    generator: np.random.Generator, shares: Shares, height: int, width: int
) -> NDArray[np.int64]:
    """Draw a box per row that covers 1 - share of the image, clipped at its border.

    Args:
        generator: Draws the centres, uniform over the image.
        shares: Share of the image outside the box, before clipping (rows,).
        height: Image height.
        width: Image width.

    Returns:
        Top, bottom, left, right in pixels, half-open (rows, 4).
    """
    sides = np.sqrt(1 - shares)
    ends = []
    for length in (height, width):
        half = (sides * length).astype(np.int64) // 2
        center = generator.integers(length, size=len(shares))
        ends += [np.clip(center - half, 0, length), np.clip(center + half, 0, length)]
    return np.stack(ends, axis=1)


def paste(background: Tensor, patches: Tensor, where: NDArray[np.int64]) -> tuple[Tensor, Shares]:
    """Paste the box of each patch into its background, and return the background's share.

    Args:
        background: (rows, bands, height, width).
        patches: Of the same shape.
        where: From `boxes` (rows, 4).

    Returns:
        Images, and the background's share of each area (rows,).
    """
    height, width = background.shape[-2:]
    top, bottom, left, right = where.T[:, :, None]
    y, x = np.arange(height), np.arange(width)
    rows, columns = (top <= y) & (y < bottom), (left <= x) & (x < right)
    inside = rows[:, :, None] & columns[:, None, :]
    mask = torch.from_numpy(inside)[:, None].to(background.device)
    return torch.where(mask, patches, background), 1 - inside.mean(axis=(1, 2))


def check_alpha(alpha: float) -> None:
    """Reject a parameter of the Beta distribution that is not positive and finite."""
    if not 0 < alpha < math.inf:
        raise ConfigError(f"alpha must be finite and above 0, got {alpha!r}")
