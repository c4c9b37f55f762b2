"""The eight symmetries of a square image, and features that are the mean over them.

Imagery seen from above has no up: each of an image's eight views is as likely as the image itself.
A linear head's logits of the mean feature are the mean of its logits of the views.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

VIEWS: Final = 8


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
        turned[rows] = turn_all(images[rows], int(turn))
    return turned


def turn_all(images: Tensor, turn: int) -> Tensor:
    """Turn all images (batch, bands, size, size) by the same symmetry, 0 to 7."""
    mirrored = images.flip(-1) if turn >= 4 else images
    return torch.rot90(mirrored, turn % 4, (-2, -1))


def turn_back(maps: Tensor, turn: int) -> Tensor:
    """Undo `turn_all` on maps (batch, channels, size, size)."""
    straight = torch.rot90(maps, -(turn % 4), (-2, -1))
    return straight.flip(-1) if turn >= 4 else straight


def over_views(model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Mean feature over the eight views of each image.

    Args:
        model: Images (batch, bands, size, size) to features (batch, features).
        images: Square.
    """
    return torch.stack([model(turn_all(images, turn)) for turn in range(VIEWS)]).mean(dim=0)


def maps_over_views(model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Mean feature over the eight views at each place, which every view is turned back to.

    Args:
        model: Images (batch, bands, size, size) to features (batch, rows, columns, features).
        images: Square.
    """
    views = [turn_back(model(turn_all(images, turn)).movedim(-1, 1), turn) for turn in range(VIEWS)]
    return torch.stack(views).mean(dim=0).movedim(1, -1)
