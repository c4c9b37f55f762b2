"""Online hard example mining: cross-entropy of the rows that are still wrong or doubtful."""

import math
from typing import final

import numpy as np
import torch
from torch import Tensor

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.losses.class_weights import weights_buffer
from tailora.losses.logit_adjusted import logit_adjusted_cross_entropy
from tailora.losses.row_loss import IGNORE_INDEX, RowLoss, is_counted


@final
class HardRowsLoss(RowLoss):
    """Cross-entropy over hard rows only (OHEM): those that are easy no longer outnumber the others.

    A row is hard if the probability of its class is below `threshold`; if fewer than `share` of the
    rows of a batch are, the hardest of that share count instead.

    Args:
        counts: Training samples per class, all at least 1.
        threshold: Probability, in (0, 1].
        share: Least share of rows that count, in (0, 1]; 1 is plain cross-entropy.
        tau: Logit adjustment, of the probabilities too; 0 is none.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Raises:
        ConfigError: An option out of range.
        DataError: A class has no sample.

    Reference:
        Shrivastava et al., Training Region-based Object Detectors with Online Hard Example Mining,
        CVPR 2016; with a threshold Wu et al., High-performance Semantic Segmentation Using Very
        Deep Fully Convolutional Networks, 2016.
    """

    log_prior: Tensor

    def __init__(
        self,
        counts: ClassCounts,
        *,
        threshold: float = 0.7,
        share: float = 0.0625,
        tau: float = 0.0,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(ignore_index=ignore_index)
        for name, value in (("threshold", threshold), ("share", share)):
            if not 0 < value <= 1:
                raise ConfigError(f"{name} must lie in (0, 1], got {value!r}")
        if not 0 <= tau < math.inf:
            raise ConfigError(f"tau must be finite and at least 0, got {tau!r}")
        self.threshold, self.share, self.tau = threshold, share, tau
        self.register_buffer("log_prior", weights_buffer(np.log(counts.prior())))

    def terms(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted loss of each row (rows,) and its weight, 0 or 1 (rows,)."""
        losses = logit_adjusted_cross_entropy(logits, targets, self.log_prior, tau=self.tau)
        return losses, torch.ones_like(losses)

    def per_row(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted loss of each row and its weight; both 0 unless a row is hard."""
        terms, weights = super().per_row(logits, targets)
        if not terms.numel():
            return terms, weights
        kept = is_counted(targets, self.ignore_index)
        ranked = terms.detach().masked_fill(~kept, -math.inf).sort(descending=True).values
        least = (self.share * kept.sum()).ceil().long().clamp_min(1)
        limit = ranked.gather(0, (least - 1)[None]).clamp_max(-math.log(self.threshold))
        hard = (terms.detach() >= limit) & kept
        return terms * hard, weights * hard
