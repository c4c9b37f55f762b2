"""SADE, RIDE and TLC on frozen features: cosine experts with each method's loss.

The features are fixed, so experts differ only by their loss and initialisation (our interpretation;
see `ExpertHead`). Losses with a re-weighted version are trained in two phases, as LDAM-DRW: the
last fifth is re-weighted.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailora import registry
from tailora.counts import ClassCounts
from tailora.experts.margin_experts import DEFERRED
from tailora.heads.descent import STEPS, descend
from tailora.heads.expert_head import ExpertHead
from tailora.train.phases import LossOfEpoch, second_phase


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
        name: A loss of `tailora methods experts`.
        features: Standardised features.
        labels: Class indices.
        counts: Training samples per class, all at least 1.
        seed: Seed of the initial class vectors.
    """
    head = ExpertHead(features.shape[1], len(counts.names), seed=seed)
    first = registry.build(registry.find("experts", name), {"counts": counts}, {})
    second = first.reweighted() if hasattr(first, "reweighted") else None
    # full-batch steps take the place of epochs
    loss = LossOfEpoch(first, second, start=second_phase(DEFERRED, STEPS), epochs=STEPS)
    x, y = torch.from_numpy(features), torch.from_numpy(labels)

    def objective(step: int) -> Tensor:
        loss.start_epoch(step)
        return loss(head.branches(x), y)

    descend(head, objective)
    return head
