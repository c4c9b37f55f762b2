"""Classes of boxes: a head on features that are pooled under them."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora.detection import roi_pool_rotated
from tailora.heads.map_probe import finest
from tailora.heads.probe import sees_maps


def logits_in_boxes(
    head: nn.Module, maps: Tensor, boxes: Sequence[NDArray[np.floating]]
) -> list[NDArray[np.float32]]:
    """Logits (boxes, classes) of the boxes in each image.

    A head that sees maps answers at every place, and its logits are pooled instead.

    Args:
        head: Trained, where `maps` lie.
        maps: Features of images (images, rows, columns, features).
        boxes: Of each image (boxes, 5), as shares of its side.
    """
    counts = [len(own) for own in boxes]
    image = torch.repeat_interleave(torch.tensor(counts)).to(maps.device)
    every = torch.from_numpy(np.concatenate([*boxes, np.zeros((0, 5))]))
    with torch.inference_mode():
        if sees_maps(head):
            said = roi_pool_rotated(finest(head)(maps), image, every)
        else:
            said = head(roi_pool_rotated(maps, image, every))
    return np.split(said.float().cpu().numpy(), np.cumsum(counts)[:-1])
