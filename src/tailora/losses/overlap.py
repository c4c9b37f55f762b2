"""Losses on how much predicted and true rows of each class overlap: Dice, Tversky, Lovász."""

import math
from abc import ABC, abstractmethod
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.losses.class_weights import weights_buffer
from tailora.losses.logit_adjusted import logit_adjusted_cross_entropy
from tailora.losses.parts import note_part
from tailora.losses.row_loss import IGNORE_INDEX, weighted_mean, without_ignored


class OverlapLoss(nn.Module, ABC):
    """Cross-entropy plus a loss of overlap, which looks at all rows of a class together.

    Overlap is taken over the classes that are true in the batch: any other has no overlap, whatever
    is predicted, and so no useful gradient.

    Args:
        counts: Training samples per class, all at least 1.
        weight: Of the overlap; that of cross-entropy is 1.
        cross_entropy: Weight of cross-entropy, 0 for overlap alone.
        tau: Logit adjustment of the cross-entropy; 0 is plain. Overlap is of plain logits.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Raises:
        ConfigError: A negative weight or tau, or both weights 0.
    """

    log_prior: Tensor

    def __init__(
        self,
        counts: ClassCounts,
        *,
        weight: float = 0.5,
        cross_entropy: float = 1.0,
        tau: float = 0.0,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__()
        _check_at_least_0(weight=weight, cross_entropy=cross_entropy, tau=tau)
        if not weight and not cross_entropy:
            raise ConfigError("weight and cross_entropy are both 0; give one a weight above 0")
        self.weight, self.cross_entropy, self.tau = weight, cross_entropy, tau
        self.ignore_index = ignore_index
        self.register_buffer("log_prior", weights_buffer(np.log(counts.prior())))

    @abstractmethod
    def overlap(self, shares: Tensor, truth: Tensor) -> Tensor:
        """Return the loss of overlap of each class, (classes,); finite for one without a row.

        Args:
            shares: Probability of each class, 0 in rows that do not count (rows, classes).
            truth: 1 where a row has the class, else 0 (rows, classes).
        """

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss: a scalar, 0 if no row counts.

        Args:
            logits: (rows, classes).
            targets: Class of each row (rows,); see `is_counted` for rows that do not count.
        """
        logits, targets, kept = without_ignored(logits, targets, self.ignore_index)
        counted = kept.to(logits.dtype)
        losses = logit_adjusted_cross_entropy(logits, targets, self.log_prior, tau=self.tau)
        rows = self.cross_entropy * weighted_mean(losses, counted)
        truth = nn.functional.one_hot(targets, logits.shape[1]) * counted[:, None]
        shares = logits.softmax(dim=1) * counted[:, None]
        present = (truth.sum(dim=0) > 0).to(logits.dtype)
        overlap = self.weight * weighted_mean(self.overlap(shares, truth), present)
        note_part("cross-entropy", rows)
        note_part("overlap", overlap)
        return rows + overlap


@final
class TverskyLoss(OverlapLoss):
    """Cross-entropy plus 1 - Tversky index, which weighs misses and false alarms apart.

    With more weight on misses, rare classes are found at the price of false alarms.

    Args:
        counts: Training samples per class, all at least 1.
        misses: Weight of false negatives, at least 0.
        false_alarms: Weight of false positives, at least 0; both .5 is Dice, both 1 is IoU.
        focus: Exponent of 1 - index, above 0; below 1 classes with little overlap count more (focal
            Tversky has .75).
        smooth: Added to both sides of the fraction.
        weight: See `OverlapLoss`.
        cross_entropy: See `OverlapLoss`.
        tau: See `OverlapLoss`.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Raises:
        ConfigError: A value out of range.

    Reference:
        Salehi et al., Tversky Loss Function for Image Segmentation, MLMI 2017; Abraham and Khan, A
        Novel Focal Tversky Loss Function, ISBI 2019.
    """

    def __init__(
        self,
        counts: ClassCounts,
        *,
        misses: float = 0.7,
        false_alarms: float = 0.3,
        focus: float = 1.0,
        smooth: float = 0.0,
        weight: float = 0.5,
        cross_entropy: float = 1.0,
        tau: float = 0.0,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(
            counts, weight=weight, cross_entropy=cross_entropy, tau=tau, ignore_index=ignore_index
        )
        _check_at_least_0(misses=misses, false_alarms=false_alarms, smooth=smooth)
        if not 0 < focus < math.inf:
            raise ConfigError(f"focus must be finite and above 0, got {focus!r}")
        self.misses, self.false_alarms = misses, false_alarms
        self.focus, self.smooth = focus, smooth

    def overlap(self, shares: Tensor, truth: Tensor) -> Tensor:
        """Return (1 - Tversky index) ** focus of each class."""
        return tversky(
            shares, truth, misses=self.misses, false_alarms=self.false_alarms,
            focus=self.focus, smooth=self.smooth,
        )  # fmt: skip


@final
class DiceLoss(OverlapLoss):
    """Cross-entropy plus 1 - Dice coefficient, the F1 of probabilities.

    Args:
        counts: Training samples per class, all at least 1.
        weight: See `OverlapLoss`.
        cross_entropy: See `OverlapLoss`.
        tau: See `OverlapLoss`.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Raises:
        ConfigError: A value out of range.

    Reference:
        Milletari et al., V-Net, 3DV 2016.
    """

    def overlap(self, shares: Tensor, truth: Tensor) -> Tensor:
        """Return 1 - Dice coefficient of each class."""
        return tversky(shares, truth, misses=0.5, false_alarms=0.5)


@final
class LovaszLoss(OverlapLoss):
    """Cross-entropy plus the Lovász extension of 1 - IoU, convex in the errors of rows.

    At probabilities of 0 and 1 it is 1 - IoU, and in between its tightest convex bound.

    Args:
        counts: Training samples per class, all at least 1.
        weight: See `OverlapLoss`.
        cross_entropy: See `OverlapLoss`.
        tau: See `OverlapLoss`.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Raises:
        ConfigError: A value out of range.

    Reference:
        Berman et al., The Lovász-Softmax Loss, CVPR 2018.
    """

    def overlap(self, shares: Tensor, truth: Tensor) -> Tensor:
        """Return the Lovász-softmax loss of each class."""
        return lovasz(shares, truth)


def _check_at_least_0(**options: float) -> None:
    for name, value in options.items():
        if not 0 <= value < math.inf:
            raise ConfigError(f"{name} must be finite and at least 0, got {value!r}")


def tversky(
    shares: Tensor,
    truth: Tensor,
    *,
    misses: float,
    false_alarms: float,
    focus: float = 1.0,
    smooth: float = 0.0,
) -> Tensor:
    """Return (1 - T) ** focus of each class, T = hits / (hits + misses + false alarms), weighted.

    Args:
        shares: Probability of each class (rows, classes).
        truth: 1 where a row has the class, else 0 (rows, classes).
        misses: Weight of the probability missing from true rows.
        false_alarms: Weight of the probability on other rows.
        focus: See `TverskyLoss`.
        smooth: See `TverskyLoss`.

    Returns:
        (classes,), in [0, 1].
    """
    hits = (shares * truth).sum(dim=0)
    missed, extra = truth.sum(dim=0) - hits, ((1 - truth) * shares).sum(dim=0)
    whole = hits + misses * missed + false_alarms * extra + smooth
    away = 1 - (hits + smooth) / torch.where(whole > 0, whole, torch.ones_like(whole))
    # the clamp stops the infinite slope of x ** focus at x = 0 for focus < 1
    return away.clamp_min(torch.finfo(away.dtype).tiny) ** focus


def lovasz(shares: Tensor, truth: Tensor) -> Tensor:
    """Return the Lovász extension of 1 - IoU at the errors of each class, (classes,).

    Args:
        shares: Probability of each class (rows, classes).
        truth: 1 where a row has the class, else 0 (rows, classes).
    """
    errors, order = (truth - shares).abs().sort(dim=0, descending=True)
    own = truth.gather(0, order)
    total = own.sum(dim=0)
    missed, extra = own.cumsum(dim=0), (1 - own).cumsum(dim=0)
    distance = 1 - (total - missed) / (total + extra)  # 1 - IoU if the first rows are wrong
    steps = torch.cat([distance[:1], distance[1:] - distance[:-1]])
    return (errors * steps).sum(dim=0)
