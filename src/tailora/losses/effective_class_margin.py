"""Effective class margins for sigmoid classifiers, ECM (Hyun Cho and Krähenbühl 2022)."""

import math
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.losses.class_weights import weights_buffer
from tailora.losses.row_loss import IGNORE_INDEX, RowLoss

BACKGROUND: Final = "background"
_BACKGROUND_RATIO: Final = 6.3313


def ecm_log_odds(counts: ClassCounts) -> NDArray[np.float64]:
    """Return logit offsets log(n+ / n-) / 4, float64 (classes,); n- counts all others."""
    positive, negative = _positives_and_negatives(counts)
    return np.log(positive / negative) / 4


def ecm_weights(counts: ClassCounts) -> NDArray[np.float64]:
    """Return each class's weight r log(1 + 1/r) with r = n- / n+, float64 (classes,), in (0, 1)."""
    positive, negative = _positives_and_negatives(counts)
    ratio = negative / positive
    return ratio * np.log1p(1 / ratio)


def ecm_cross_entropy(logits: Tensor, targets: Tensor, log_odds: Tensor, weights: Tensor) -> Tensor:
    """Sum weight x binary cross-entropy of sigmoid(2z + offset) over classes, (rows,)."""
    own = functional.one_hot(targets, logits.shape[1]).bool()  # refuses what is no class
    margin = 2 * logits + log_odds
    return (weights * functional.softplus(torch.where(own, -margin, margin))).sum(dim=1)


@final
class EffectiveClassMarginLoss(RowLoss):
    """One sigmoid per class, with a margin that depends on class size (ECM).

    A margin-based bound on the error of each one-vs-rest classifier is tightest if positives and
    negatives have margins in the ratio n+^(1/4) : n-^(1/4). Predict with the raw logits; as classes
    are independent, a softmax over them ranks classes but is not calibrated.

    Args:
        counts: Training samples per class, all at least 1, two classes or more. For detection, with
            `with_background(counts)`.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Raises:
        ConfigError: There is only one class, so there are no negatives.
        DataError: A class has no sample.

    Reference:
        Hyun Cho and Krähenbühl, Long-tail Detection with Effective Class-Margins, ECCV 2022.
    """

    log_odds: Tensor
    class_weight: Tensor

    def __init__(
        self,
        counts: ClassCounts,
        *,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(ignore_index=ignore_index)
        self.register_buffer("log_odds", weights_buffer(ecm_log_odds(counts)))
        self.register_buffer("class_weight", weights_buffer(ecm_weights(counts)))

    def terms(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted loss of each row (rows,) and its weight (rows,)."""
        losses = ecm_cross_entropy(logits, targets, self.log_odds, self.class_weight)
        return losses, torch.ones_like(losses)


def with_background(counts: ClassCounts, *, ratio: float = _BACKGROUND_RATIO) -> ClassCounts:
    """Add a last class `"background"` with `ratio` times the samples of all others.

    Args:
        counts: Boxes per class.
        ratio: Background boxes per foreground box; 6.3313 was measured on LVIS.

    Raises:
        ConfigError: `ratio` is not positive.
    """
    if not 0 < ratio < math.inf:
        raise ConfigError(f"ratio must be finite and above 0, got {ratio!r}")
    return ClassCounts((*counts.names, BACKGROUND), (*counts.values, round(ratio * counts.total)))


def ecm_scores(logits: Tensor) -> Tensor:
    """Score boxes: sigmoid of the class times that of not being background.

    Args:
        logits: (boxes, classes + 1), background last.

    Returns:
        (boxes, classes) in [0, 1].
    """
    return logits[:, :-1].sigmoid() * (-logits[:, -1:]).sigmoid()


def _positives_and_negatives(
    counts: ClassCounts,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if len(counts.names) < 2:
        raise ConfigError(f"effective class margins need two classes, got {list(counts.names)}")
    counts.require_all_present("effective class margins")
    positive = counts.array()
    return positive, counts.total - positive
