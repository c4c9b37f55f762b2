"""Balanced Softmax (Ren et al. 2020, theorem 1)."""

from typing import final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.losses.class_weights import weights_buffer
from tailora.losses.row_loss import IGNORE_INDEX, RowLoss


def balanced_softmax_cross_entropy(logits: Tensor, targets: Tensor, log_counts: Tensor) -> Tensor:
    """Cross-entropy of logits + log n, per row (rows,)."""
    return functional.cross_entropy(logits + log_counts, targets, reduction="none")


@final
class BalancedSoftmaxLoss(RowLoss):
    """Cross-entropy with a softmax weighted by class frequency.

    The training softmax absorbs the label distribution, so the raw logits estimate the likelihood
    and their argmax is correct for balanced classes.

    Args:
        counts: Training samples per class, all at least 1.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Raises:
        DataError: A class has no sample.

    Reference:
        Ren et al., Balanced Meta-Softmax for Long-Tailed Visual Recognition, NeurIPS 2020,
        theorem 1.
    """

    log_counts: Tensor

    def __init__(
        self,
        counts: ClassCounts,
        *,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(ignore_index=ignore_index)
        counts.require_all_present("the balanced softmax")
        self.register_buffer("log_counts", weights_buffer(np.log(counts.array())))

    def terms(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted loss of each row (rows,) and its weight (rows,)."""
        losses = balanced_softmax_cross_entropy(logits, targets, self.log_counts)
        return losses, torch.ones_like(losses)
