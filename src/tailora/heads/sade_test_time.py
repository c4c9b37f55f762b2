"""SADE's experts, weighted for agreement on two views (Zhang et al. 2022)."""

from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from tailora.errors import ConfigError
from tailora.experts.aggregation import combine_experts, weigh_experts
from tailora.heads.expert_head import ExpertHead
from tailora.heads.expert_probes import SADEProbe, fit_experts
from tailora.heads.probe import Options, ProbeData, StandardisedProbe


@final
class SADETestTimeProbe(StandardisedProbe):
    """Experts of another head, weighted for agreement on two views of the images to predict."""

    name = "sade-test-time"
    summary = (
        "the experts of SADE, weighted for agreement on two views of the unlabelled test images; "
        "`tailora compare` only (Zhang et al., NeurIPS 2022)"
    )
    views = True

    def learn(self, data: ProbeData, options: Options) -> nn.Module:
        """Train it on standardised features."""
        if data.views is None:
            raise ConfigError(
                f"probe {self.name!r} needs two views of the images to predict, which `tailora "
                "compare` provides for some adapters only"
            )
        head = fit_experts(SADEProbe.name, data.features, data.labels, data.counts, seed=data.seed)
        with torch.inference_mode():
            first, second = (head.branches(torch.from_numpy(view)) for view in data.views)
        # rows may be sorted by class, and the search goes through them in order
        order = torch.from_numpy(np.random.default_rng(data.seed).permutation(first.shape[1]))
        return WeighedExperts(head, weigh_experts(first[:, order], second[:, order]))

    def shape(self, width: int, classes: int, options: Options) -> nn.Module:
        """Build what `learn` returns, without its state."""
        head = ExpertHead(width, classes)
        return WeighedExperts(head, torch.zeros(len(head.weight)))


@final
class WeighedExperts(nn.Module):
    """Experts and the weight of each (experts,)."""

    weights: Tensor

    def __init__(self, experts: ExpertHead, weights: Tensor) -> None:
        super().__init__()
        self.experts = experts
        self.register_buffer("weights", weights)

    def forward(self, features: Tensor) -> Tensor:
        """Map `features` (rows, width) to logits (rows, classes)."""
        return combine_experts(self.experts.branches(features), self.weights)
