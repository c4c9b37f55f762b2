"""Several cosine heads on the same features: the experts of SADE, RIDE and TLC."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from tailora.errors import ConfigError
from tailora.heads.cosine import CosineHead


@final
class ExpertHead(nn.Module):
    """Cosine heads with different initialisations; `branches` returns the logits of each.

    In the papers, experts have their own last blocks. On an adapted encoder they share everything
    but the class vectors (our interpretation), so that there is one encoder.

    Args:
        num_features: Width of a feature.
        num_classes: Number of classes.
        experts: Number of experts, at least 2.
        scale: Largest logit, above 0.
        seed: Seed of the initial class vectors.

    Raises:
        ConfigError: Fewer than two experts, or `scale` is not positive.

    Reference:
        Wang et al., Long-tailed Recognition by Routing Diverse Distribution-Aware Experts, ICLR
        2021, section 3.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        *,
        experts: int = 3,
        scale: float = 30.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if experts < 2:
            raise ConfigError(f"experts must be at least 2, got {experts!r}")
        # one draw for all, or they would start alike
        drawn = CosineHead(num_features, experts * num_classes, scale=scale, seed=seed).weight
        self.scale = scale
        self.weight = nn.Parameter(drawn.detach().unflatten(0, (experts, num_classes)))

    def branches(self, features: Tensor) -> Tensor:
        """Map `features` (rows, width) to logits of every expert (experts, rows, classes)."""
        directions = functional.normalize(self.weight, dim=-1)
        return self.scale * torch.matmul(
            functional.normalize(features), directions.transpose(-1, -2)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map `features` (rows, width) to mean logits (rows, classes)."""
        return self.branches(features).mean(dim=0)
