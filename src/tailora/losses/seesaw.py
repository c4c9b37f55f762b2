"""Seesaw loss (Wang et al. 2021, equations 4 to 7)."""

import math
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.losses.class_weights import weights_buffer
from tailora.losses.row_loss import IGNORE_INDEX, RowLoss


@final
class SeesawLoss(RowLoss):
    """Cross-entropy in which a row of a frequent class presses less on rarer ones.

    In the softmax of a row of class i, class j counts by S_ij = M_ij C_ij. Mitigation
    M_ij = min(1, (n_j / n_i)^p) spares classes rarer than i; compensation
    C_ij = max(1, (s_j / s_i)^q) takes that back where j is likelier than i, a mistake that should
    be corrected. Predict with the raw logits.

    Args:
        counts: Training samples per class, all at least 1. The paper counts them as they are seen;
            here they are known.
        mitigation: p, at least 0; 0 spares no class.
        compensation: q, at least 0; 0 takes nothing back.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Raises:
        ConfigError: An exponent is negative or not finite.
        DataError: A class has no sample.

    Reference:
        Wang et al., Seesaw Loss for Long-Tailed Instance Segmentation, CVPR 2021, equations 4 to 7.
    """

    log_counts: Tensor

    def __init__(
        self,
        counts: ClassCounts,
        *,
        mitigation: float = 0.8,
        compensation: float = 2.0,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(ignore_index=ignore_index)
        for name, value in (("mitigation", mitigation), ("compensation", compensation)):
            if not 0 <= value < math.inf:
                raise ConfigError(f"{name} must be finite and at least 0, got {value!r}")
        counts.require_all_present("the seesaw loss")
        self.mitigation, self.compensation = mitigation, compensation
        self.register_buffer("log_counts", weights_buffer(counts.array()).log())

    def terms(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of each row (rows,) and weights of 1."""
        own = self.log_counts[targets][:, None]
        mitigated = self.mitigation * (self.log_counts - own).clamp_max(0)
        # the factors are no target of their own: no gradient flows through them
        scores = logits.detach().log_softmax(dim=1)
        likelier = scores - scores.gather(1, targets[:, None])
        factors = mitigated + self.compensation * likelier.clamp_min(0)
        losses = functional.cross_entropy(logits + factors, targets, reduction="none")
        return losses, torch.ones_like(losses)
