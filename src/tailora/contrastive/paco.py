"""Parametric contrastive loss, PaCo (Cui et al. 2021, equation 4)."""

import math
from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tailora.contrastive.similarity import (
    apart_from_itself,
    check_temperature,
    hidden,
    masked_logsumexp,
)
from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.losses.class_weights import weights_buffer
from tailora.losses.parts import note_part
from tailora.losses.row_loss import IGNORE_INDEX, is_counted, weighted_mean, without_ignored


@final
class PaCoLoss(nn.Module):
    """Balanced softmax over class centres and other rows.

    In a contrastive loss a large class has many positives, each with little weight; a class centre
    of constant weight compensates for that. On their own (alpha and gamma 0) the centres are
    balanced softmax.

    Args:
        counts: Training samples per class, all at least 1.
        alpha: Weight of each other row of the same class, at least 0.
        beta: Weight of the row's own class centre, above 0.
        gamma: Weight of other rows in the denominator, at least 0.
        temperature: Temperature of cosines between rows, above 0.
        center_temperature: Temperature of the centres' logits, above 0.
        ignore_index: Target value of ignored rows, also in the queue.

    Raises:
        ConfigError: An option is out of range.
        DataError: A class has no sample.

    Reference:
        Cui et al., Parametric Contrastive Learning, ICCV 2021, equation 4.
    """

    log_prior: Tensor

    def __init__(
        self,
        counts: ClassCounts,
        *,
        alpha: float = 0.05,
        beta: float = 1.0,
        gamma: float = 1.0,
        temperature: float = 0.07,
        center_temperature: float = 1.0,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__()
        check_temperature("beta", beta)  # a weight, of the same range
        check_temperature("temperature", temperature)
        check_temperature("center_temperature", center_temperature)
        for name, value in (("alpha", alpha), ("gamma", gamma)):
            if not 0 <= value < math.inf:
                raise ConfigError(f"{name} must be finite and at least 0, got {value!r}")
        self.ignore_index = ignore_index
        self.alpha, self.beta, self.gamma = alpha, beta, gamma
        self.temperature, self.center_temperature = temperature, center_temperature
        self.register_buffer("log_prior", weights_buffer(np.log(counts.prior())))

    def forward(
        self,
        logits: Tensor,
        features: Tensor,
        targets: Tensor,
        memory: Tensor | None = None,
        memory_targets: Tensor | None = None,
    ) -> Tensor:
        """Return the mean over rows; a scalar.

        Args:
            logits: Logits of the class centres (rows, classes), used for prediction.
            features: Features of the same rows (rows, width); every view is a row.
            targets: Class of each row (rows,).
            memory: Features of earlier rows (stored, width), from a `FeatureQueue`.
            memory_targets: Their classes (stored,).
        """
        labelled = targets if memory_targets is None else torch.cat([targets, memory_targets])
        logits, _, kept = without_ignored(logits, targets, self.ignore_index)
        features = hidden(features, kept)
        centers = (logits + self.log_prior) / self.center_temperature
        keys, labels, others = _keys(features, targets, memory, memory_targets)
        others = others & is_counted(labelled, self.ignore_index)
        targets = targets.masked_fill(~kept, 0)
        similarity = functional.normalize(features, dim=1) @ keys.T / self.temperature
        total = centers.logsumexp(dim=1)
        if self.gamma > 0:
            rows = masked_logsumexp(similarity, others) + math.log(self.gamma)
            total = torch.logaddexp(total, rows)
        weights = self.alpha * ((targets[:, None] == labels) & others)
        own = total - centers.gather(1, targets[:, None])[:, 0]
        pairs = (weights * (total[:, None] - similarity)).sum(dim=1)
        share = self.beta + weights.sum(dim=1)
        for name, part in (("centres", self.beta * own), ("rows", pairs)):
            note_part(name, weighted_mean(part / share, kept.to(part)))
        losses = (self.beta * own + pairs) / share
        return weighted_mean(losses, kept.to(losses))


def _keys(
    features: Tensor, targets: Tensor, memory: Tensor | None, memory_targets: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return keys (keys, width), their classes, and which are not the row itself."""
    others = apart_from_itself(len(features), features.device)
    if (memory is None) != (memory_targets is None):
        raise ConfigError("memory and memory_targets must be given together, or not at all")
    if memory is None or memory_targets is None:
        return functional.normalize(features, dim=1), targets, others
    keys = functional.normalize(torch.cat([features, memory]), dim=1)
    remembered = others.new_ones(len(features), len(memory))
    return keys, torch.cat([targets, memory_targets]), torch.cat([others, remembered], dim=1)
