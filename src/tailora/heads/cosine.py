"""Cosine head: logits from directions only (Gidaris and Komodakis 2018)."""

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from tailora import registry
from tailora.errors import ConfigError
from tailora.heads.descent import descend
from tailora.heads.probe import Options, ProbeData, StandardisedProbe
from tailora.losses import LogitAdjustedLoss


def cosine_logits(features: Tensor, weight: Tensor, *, scale: float = 30.0) -> Tensor:
    """Scale the cosine of `features` (rows, width) to each row of `weight` (classes, width).

    A zero feature has the logit 0 for every class.
    """
    return scale * functional.linear(functional.normalize(features), functional.normalize(weight))


@final
class CosineHead(nn.Module):
    """A linear head without bias on normalised features and class vectors.

    A plain linear head learns longer class vectors for larger classes; here length has no effect.

    Args:
        num_features: Width of a feature.
        num_classes: Number of classes.
        scale: Largest logit, above 0; 30 as in LDAM, 25 as in LIFT. Small scales cannot reach
            confident probabilities, large ones have steep gradients.
        seed: Seed of the initial class vectors.

    Raises:
        ConfigError: `scale` is not positive.

    Reference:
        Gidaris and Komodakis, Dynamic Few-Shot Visual Learning without Forgetting, CVPR 2018,
        equation 4.
    """

    def __init__(
        self, num_features: int, num_classes: int, *, scale: float = 30.0, seed: int = 0
    ) -> None:
        super().__init__()
        if not 0 < scale < math.inf:
            raise ConfigError(f"scale must be finite and above 0, got {scale!r}")
        self.scale = scale
        drawn = torch.rand(num_classes, num_features, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(functional.normalize(2 * drawn - 1))

    def forward(self, features: Tensor) -> Tensor:
        """Map `features` (rows, width) to logits (rows, classes) in [-scale, scale]."""
        return cosine_logits(features, self.weight, scale=self.scale)


class CosineProbe(StandardisedProbe):
    """A cosine head, trained with a loss."""

    name = "cosine"
    summary = "cosine head with logit adjustment (Gidaris and Komodakis, CVPR 2018)"
    loss: registry.Method = LogitAdjustedLoss

    def learn(self, data: ProbeData, options: Options) -> nn.Module:
        """Train it on standardised features."""
        head = self.shape(data.features.shape[1], len(data.counts.names), options, seed=data.seed)
        loss = registry.build(self.loss, {"counts": data.counts}, options)
        x, y = torch.from_numpy(data.features), torch.from_numpy(data.labels)
        descend(head, lambda _: loss(head(x), y))
        return head

    def shape(self, width: int, classes: int, options: Options, *, seed: int = 0) -> nn.Module:
        """Build what `learn` returns, without its state."""
        return CosineHead(width, classes, seed=seed)
