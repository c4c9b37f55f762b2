"""Boundary loss (Kervadec et al. 2019): probability costs its distance to where its class is."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from tailora.losses.row_loss import weighted_mean


def signed_distances(mask: NDArray[np.integer], classes: int) -> NDArray[np.float32]:
    """Return the distance of each place to the boundary of each class, negative inside it.

    Outside a class it is the distance to its nearest place, inside it the distance to the nearest
    place of another class, less 1, so that it is 0 on the first places inside; in places. Places
    without a class are no boundary: nothing is known there.

    Args:
        mask: Class index of each place, negative without one (rows, columns).
        classes: Number of classes.

    Returns:
        (rows, columns, classes); 0 for a class that the mask does not have, for all if it has one,
        and in places without a class.

    Example:
        >>> signed_distances(np.array([[0, 0, 1]]), 3)[..., 0].tolist()
        [[-1.0, 0.0, 1.0]]
    """
    found = np.zeros((*mask.shape, classes), dtype=np.float32)
    known = mask >= 0
    present = np.unique(mask[known])
    if len(present) < 2:
        return found
    for c in present:
        own = mask == c
        outside: Any = ndimage.distance_transform_edt(~own)
        inside: Any = ndimage.distance_transform_edt(~(known & ~own))
        found[..., c] = np.where(own, 1 - inside, outside * known)
    return found


def boundary_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of probability times distance: a scalar, 0 where all is right.

    In its level-set form, the integral of the change between two boundaries is the sum of the
    probabilities of a class weighted by their signed distances to its true boundary: what is far
    from where it belongs costs more than what is beside it, and how many places a class has does
    not matter. A constant is taken away, so that the smallest value is 0; gradients stay.

    Args:
        logits: Of maps (..., rows, columns, classes).
        targets: Class of each place (..., rows, columns), negative for one that does not count.

    Returns:
        In shares of the diagonal of a map, mean over the places that count; 0 without any.

    Reference:
        Kervadec et al., Boundary Loss for Highly Unbalanced Segmentation, MIDL 2019, equation 5.
    """
    masks = targets.detach().cpu().flatten(0, -3).numpy()
    if not masks.size:
        return logits.sum() * 0
    apart = np.stack([signed_distances(mask, logits.shape[-1]) for mask in masks])
    distances = torch.from_numpy(apart / math.hypot(*masks.shape[1:])).to(logits)
    kept = targets >= 0
    distances = distances.reshape(logits.shape)
    least = distances.gather(-1, targets.clamp_min(0)[..., None])
    shares = logits.masked_fill(~kept[..., None], 0.0).softmax(dim=-1)
    terms = (shares * (distances - least)).sum(dim=-1)
    return weighted_mean(terms.flatten(), kept.flatten().to(terms.dtype))
