"""Features of decisions, taken from maps of their images."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailora.decisions import Decisions
from tailora.detection import roi_pool_rotated


def row_features(
    maps: Tensor, image: NDArray[np.int64], decisions: Decisions, rows: NDArray[np.int64]
) -> Tensor:
    """Read what maps say of some decisions: under their boxes if they have any, or at their places.

    Args:
        maps: Of images (images, *grid, features), or features of images with one decision each
            (images, features).
        image: Position of each decision's image in them, ascending (some rows,).
        decisions: Of a split.
        rows: Which of them (some rows,).

    Returns:
        (some rows, features).
    """
    which = torch.from_numpy(image).to(maps.device)
    if decisions.boxes is not None:
        return roi_pool_rotated(maps, which, torch.from_numpy(decisions.boxes[rows]))
    place = torch.from_numpy(decisions.place[rows]).to(maps.device)
    return maps.reshape(len(maps), -1, maps.shape[-1])[which, place]
