"""Balancing logit variation, BLV (Wang et al. 2023)."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.losses.class_weights import weights_buffer
from tailora.losses.row_loss import IGNORE_INDEX, RowLoss


def variation_widths(counts: ClassCounts) -> NDArray[np.float64]:
    """Return -log of the share of each class over that of the rarest, float64 (classes,).

    1 for the rarest class, near 0 for one that is nearly everything.

    Example:
        >>> variation_widths(ClassCounts(("a", "b", "c"), (900, 90, 10))).round(4).tolist()
        [0.0229, 0.5229, 1.0]
    """
    rarity = -np.log(counts.prior())
    return rarity / max(rarity.max(), np.finfo(np.float64).tiny)  # all 0 for a single class


def vary_logits(logits: Tensor, widths: Tensor, noise: Tensor) -> Tensor:
    """Return logits + width x |noise clipped to [-1, 1]|.

    Args:
        logits: (rows, classes).
        widths: Of each class (classes,), from `variation_widths`.
        noise: Of the shape of `logits`.
    """
    return logits + widths * noise.clamp(-1, 1).abs()


@final
class BLVLoss(RowLoss):
    """Cross-entropy of logits with noise in training, which is wider the rarer a class (BLV).

    A rare class is seen as if it were spread more widely than its few samples show, so that it
    keeps a larger region among the features. Noise only raises logits, those of rare classes most:
    the opposite of logit adjustment, which lowers them in training, so the two are never combined.

    In training, noise comes from torch's generator, as that of dropout does. In evaluation there is
    none, and this is cross-entropy; predict with the plain logits. A head that is fitted to
    convergence has noise that is drawn once for each row.

    Args:
        counts: Training samples per class, all at least 1.
        sigma: Standard deviation of the noise before it is clipped to [-1, 1], at least 0; 0 is
            cross-entropy, and a large one nearly a constant shift.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Attributes:
        draws: It draws random numbers in training.
        refuses: Why it has no `tau`.

    Raises:
        ConfigError: `sigma` is negative or not finite.
        DataError: A class has no sample.

    Reference:
        Wang et al., Balancing Logit Variation for Long-tailed Semantic Segmentation, CVPR 2023,
        arXiv 2306.02061.
    """

    draws: ClassVar[bool] = True
    refuses: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"tau": "its noise raises the logits that a logit adjustment lowers; choose one of the two"}
    )
    widths: Tensor

    def __init__(
        self,
        counts: ClassCounts,
        *,
        sigma: float = 4.0,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(ignore_index=ignore_index)
        if not 0 <= sigma < math.inf:
            raise ConfigError(f"sigma must be finite and at least 0, got {sigma!r}")
        self.sigma = sigma
        self.register_buffer("widths", weights_buffer(variation_widths(counts)))

    def terms(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of each row (rows,) and weights of 1."""
        if self.training:
            logits = vary_logits(logits, self.widths, self.sigma * torch.randn_like(logits))
        losses = functional.cross_entropy(logits, targets, reduction="none")
        return losses, torch.ones_like(losses)
