"""SADE, RIDE and TLC on frozen features: cosine experts under each method's loss.

The features are given, so experts differ by their loss and their start alone (our reading; see
`ExpertHead`). RIDE and TLC are trained in two phases, as LDAM-DRW: the last fifth is re-weighted.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailora.counts import ClassCounts
from tailora.experts import RIDELoss, SADELoss, TLCLoss
from tailora.experts.margin_experts import DEFERRED, PAPER_EPOCHS
from tailora.experts.tlc import tlc_predict
from tailora.heads.descent import STEPS, descend
from tailora.heads.expert_head import ExpertHead

Train = Callable[[ExpertHead, Tensor, Tensor, ClassCounts], None]


def fit_experts(
    name: str,
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    counts: ClassCounts,
    *,
    seed: int = 0,
) -> ExpertHead:
    """Train three experts on features (rows, width) and class indices (rows,).

    Args:
        name: One of `EXPERT_PROBES`.
        features: Of zero mean and unit spread.
        labels: Class indices.
        counts: Training samples per class, all at least 1.
        seed: Of the first class vectors.
    """
    head = ExpertHead(features.shape[1], len(counts.names), seed=seed)
    _TRAIN[name](head, torch.from_numpy(features), torch.from_numpy(labels), counts)
    return head


def combine_evenly(branches: Tensor) -> Tensor:
    """Mean logits (rows, classes) of branches (experts, rows, classes)."""
    return branches.mean(dim=0)


def combine_by_uncertainty(branches: Tensor) -> Tensor:
    """TLC's weighing of experts, branches (experts, rows, classes) to logits (rows, classes)."""
    return tlc_predict(branches)[0]


EXPERT_PROBES: Final[Mapping[str, Callable[[Tensor], Tensor]]] = {
    "sade": combine_evenly,
    "ride": combine_evenly,
    "tlc": combine_by_uncertainty,
}


def _train_sade(head: ExpertHead, x: Tensor, y: Tensor, counts: ClassCounts) -> None:
    loss = SADELoss(counts)
    descend(head, lambda _: loss(head.branches(x), y))


def _train_ride(head: ExpertHead, x: Tensor, y: Tensor, counts: ClassCounts) -> None:
    first = RIDELoss(counts)
    second = first.reweighted()
    descend(head, lambda step: (first if _is_first(step) else second)(head.branches(x), y))


def _train_tlc(head: ExpertHead, x: Tensor, y: Tensor, counts: ClassCounts) -> None:
    first = TLCLoss(counts)
    second = first.reweighted()

    def objective(step: int) -> Tensor:
        loss = first if _is_first(step) else second
        return loss(head.branches(x), y, epoch=PAPER_EPOCHS * step / STEPS)

    descend(head, objective)


def _is_first(step: int) -> bool:
    return step < DEFERRED * STEPS


_TRAIN: Final[dict[str, Train]] = {"sade": _train_sade, "ride": _train_ride, "tlc": _train_tlc}
