"""What is minimised: labels for the base adaptation, moved features for debLoRA."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora.errors import unknown_name
from tailora.train.loop import Objective

Images = Callable[[NDArray[np.int64]], Tensor]
AUGMENTATIONS = ("dihedral", "none")


def label_objective(
    encoder: nn.Module,
    head: nn.Module,
    images: Images,
    targets: Tensor,
    *,
    loss: nn.Module,
    augment: str,
    device: torch.device,
) -> Objective:
    """Classification: loss of the head's logits on the encoder's features.

    Args:
        encoder: (batch, bands, height, width) to (batch, features).
        head: (batch, features) to (batch, classes).
        images: Gives images by sample number.
        targets: Class index of every sample (samples,), on `device`.
        loss: Takes logits and targets.
        augment: `"dihedral"` (the eight flips and quarter turns, all equally likely: imagery seen
            from above has no up) or `"none"`.
        device: Where encoder and head lie.

    Raises:
        ConfigError: Unknown augmentation.
    """
    if augment not in AUGMENTATIONS:
        raise unknown_name("augmentation", augment, AUGMENTATIONS)

    def objective(batch: NDArray[np.int64], generator: np.random.Generator) -> Tensor:
        pixels = images(batch).to(device, non_blocking=True)
        if augment == "dihedral":
            pixels = dihedral(pixels, generator.integers(8, size=len(batch)))
        return loss(head(encoder(pixels)), targets[torch.from_numpy(batch).to(device)])

    return objective


def dihedral(images: Tensor, turns: NDArray[np.integer]) -> Tensor:
    """Turn square images by one of the eight symmetries of the square each.

    Args:
        images: (batch, bands, size, size).
        turns: (batch,) in 0..7: quarter turns counter-clockwise modulo 4, mirrored first from 4 on.

    Returns:
        New images of the same shape.
    """
    turned = torch.empty_like(images)
    for turn in np.unique(turns):
        rows = torch.from_numpy(np.flatnonzero(turns == turn))
        some = images[rows].flip(-1) if turn >= 4 else images[rows]
        turned[rows] = torch.rot90(some, int(turn) % 4, (-2, -1))
    return turned


def target_objective(
    encoder: nn.Module,
    images: Images,
    targets: Tensor,
    scale: Tensor,
    *,
    device: torch.device,
) -> Objective:
    """Stage 5 of debLoRA: mean squared distance to the calibrated features.

    The distance is taken per dimension in units of `scale`, the spread of the features that were
    clustered, so that no dimension rules by its unit alone. Images are not augmented: a target
    belongs to the image as it is.

    Args:
        encoder: (batch, bands, height, width) to (batch, features).
        images: Gives images by sample number.
        targets: Calibrated feature of every sample (samples, features), on `device`.
        scale: Positive spread of each dimension (features,), on `device`.
        device: Where the encoder lies.
    """

    def objective(batch: NDArray[np.int64], _: np.random.Generator) -> Tensor:
        features = encoder(images(batch).to(device, non_blocking=True))
        rows = torch.from_numpy(batch).to(device)
        return ((features - targets[rows]) / scale).square().mean()

    return objective
