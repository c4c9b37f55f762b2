"""SADE, RIDE and TLC on frozen features: cosine experts with each method's loss.

The features are fixed, so experts differ only by their loss and initialisation (our interpretation;
see `ExpertHead`). Losses with a re-weighted version are trained in two phases, as LDAM-DRW: the
last fifth is re-weighted.
"""

from collections.abc import Callable
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora import registry
from tailora.counts import ClassCounts
from tailora.experts.aggregation import combination
from tailora.experts.margin_experts import DEFERRED
from tailora.heads.descent import STEPS, descend
from tailora.heads.expert_head import ExpertHead
from tailora.heads.probe import Options, ProbeData, StandardisedProbe
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


class _ExpertsProbe(StandardisedProbe):
    def learn(self, data: ProbeData, options: Options) -> nn.Module:
        head = fit_experts(self.name, data.features, data.labels, data.counts, seed=data.seed)
        return self._combined(head)

    def shape(self, width: int, classes: int, options: Options) -> nn.Module:
        return self._combined(ExpertHead(width, classes))

    def _combined(self, head: ExpertHead) -> nn.Module:
        return CombinedExperts(head, combination(registry.find("experts", self.name)))


@final
class SADEProbe(_ExpertsProbe):
    """The experts of SADE."""

    name = "sade"
    summary = (
        "three cosine experts for the training, uniform and reversed distribution, averaged "
        "(Zhang et al., NeurIPS 2022)"
    )


@final
class RIDEProbe(_ExpertsProbe):
    """The experts of RIDE."""

    name = "ride"
    summary = "three diverse cosine experts with LDAM margins (Wang et al., ICLR 2021)"


@final
class TLCProbe(_ExpertsProbe):
    """The experts of TLC."""

    name = "tlc"
    summary = (
        "three evidential cosine experts, weighted by the uncertainty of previous ones (Li et "
        "al., CVPR 2022)"
    )


@final
class CombinedExperts(nn.Module):
    """Experts and the rule that combines their predictions."""

    def __init__(self, experts: ExpertHead, rule: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.experts, self.rule = experts, rule

    def forward(self, features: Tensor) -> Tensor:
        """Map `features` (rows, width) to logits (rows, classes)."""
        return self.rule(self.experts.branches(features))
