"""Smoothing of predictions over the images that are predicted together (transductive)."""

from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor
from torch.nn import functional

from tailora.errors import DataError

_AT_ONCE: Final = 1024  # rows compared at a time, so that memory grows with their number only


def require_several(images: int) -> None:
    """Reject a single image, which has no neighbour.

    Raises:
        DataError: There is one.
    """
    if images == 1:
        raise DataError(
            "probe.smoothing needs several images that are predicted together, got one; predict "
            "more at a time, or fit without probe.smoothing"
        )


def smooth_logits(logits: Tensor, features: Tensor, *, share: float, neighbours: int) -> Tensor:
    """Mix the logits of each image with the mean of those of the images most like it.

    Similar images are likely of one class, so the mean over them has less noise; a rare class
    surrounded by others loses.

    Args:
        logits: (rows, classes).
        features: (rows, width), compared by their cosine.
        share: Of the mean in the result, in [0, 1].
        neighbours: How many images it is taken over, at least 1; all others if there are fewer.

    Returns:
        (rows, classes): (1 - share) x own logits + share x mean of the neighbours' logits.

    Raises:
        DataError: A single image, which has no neighbour.

    Reference:
        One step of label propagation on the nearest-neighbour graph: Zhou et al., Learning with
        Local and Global Consistency, NeurIPS 2003.
    """
    require_several(len(logits))
    around = Neighbourhood(logits, functional.normalize(features))
    means = [torch.zeros_like(logits[:0])]
    for start in range(0, len(logits), _AT_ONCE):
        some = features[start : start + _AT_ONCE]
        means.append(around.means(some, neighbours, first=start))
    return torch.lerp(logits, torch.cat(means), share)


@final
@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """Images whose logits those of others are mixed with.

    Args:
        logits: (images, classes).
        directions: Features of unit length (images, width).
    """

    logits: Tensor
    directions: Tensor

    def means(self, features: Tensor, neighbours: int, *, first: int | None = None) -> Tensor:
        """Return the mean logits of the most similar images (rows, classes).

        Args:
            features: (rows, width).
            neighbours: How many images the mean is over, at least 1; all if there are fewer.
            first: Number of the first row, if the rows are images of this neighbourhood, in
                their order: none of them is then a neighbour of itself.
        """
        similar = functional.normalize(features) @ self.directions.T
        others = len(self.logits)
        if first is not None:
            own = torch.arange(len(similar), device=similar.device)
            similar[own, first + own] = -torch.inf
            others -= 1
        nearest = similar.topk(min(neighbours, others), dim=1).indices
        return self.logits[nearest].mean(dim=1)
