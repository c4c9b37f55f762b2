"""ResLT: heads for all, fewer and few classes, and their loss (Cui et al. 2022)."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from tailora.counts import Groups
from tailora.errors import ConfigError
from tailora.heads.classifier_retraining import fresh_linear
from tailora.heads.descent import descend
from tailora.heads.probe import Options, ProbeData, StandardisedProbe
from tailora.losses.parts import note_part
from tailora.losses.row_loss import IGNORE_INDEX, weighted_mean, without_ignored

BRANCHES = 3


@final
class ResLTHead(nn.Module):
    """Three linear heads on the same features whose logits are summed.

    The first is trained on all classes, the second on middle and tail, the third on the tail: the
    latter two are residuals that give rare classes their own parameters. Train `branches` with
    `ResLTLoss`; `forward` predicts.

    Args:
        num_features: Width of a feature.
        num_classes: Number of classes.
        seed: Seed of the initial weights.

    Reference:
        Cui et al., ResLT: Residual Learning for Long-Tailed Recognition, TPAMI 2022, section 3.
    """

    def __init__(self, num_features: int, num_classes: int, *, seed: int = 0) -> None:
        super().__init__()
        # one draw for all three, or they would start alike
        drawn = fresh_linear(num_features, BRANCHES * num_classes, seed=seed)
        self.weight = nn.Parameter(drawn.weight.detach().unflatten(0, (BRANCHES, num_classes)))
        self.bias = nn.Parameter(drawn.bias.detach().unflatten(0, (BRANCHES, num_classes)))

    def branches(self, features: Tensor) -> Tensor:
        """Map `features` (rows, width) to logits of every head (3, rows, classes)."""
        return features @ self.weight.transpose(-1, -2) + self.bias[:, None]

    def forward(self, features: Tensor) -> Tensor:
        """Map `features` (rows, width) to summed logits (rows, classes)."""
        return self.branches(features).sum(dim=0)


def reslt_cross_entropy(
    branches: Tensor,
    targets: Tensor,
    learns: Tensor,
    *,
    beta: float = 0.995,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """Return (1 - beta) x the sum's cross-entropy + beta x that of each head on its classes.

    Args:
        branches: Logits (heads, rows, classes).
        targets: Class of each row (rows,).
        learns: 1 for the classes of a head, else 0 (heads, classes).
        beta: Weight of the heads' own losses, in [0, 1].
        ignore_index: Target value of rows that do not count, besides negative ones.
    """
    branches, targets, kept = without_ignored(branches, targets, ignore_index)
    fused = functional.cross_entropy(branches.sum(dim=0), targets, reduction="none")
    every = targets.expand(len(branches), -1).flatten()
    own = functional.cross_entropy(branches.flatten(0, 1), every, reduction="none")
    masks = (learns[:, targets] * kept).flatten()
    together = (1 - beta) * weighted_mean(fused, kept.to(fused))
    alone = beta * weighted_mean(own, masks)
    note_part("together", together)
    note_part("alone", alone)
    return together + alone


@final
class ResLTLoss(nn.Module):
    """The loss of a `ResLTHead`: each head is also trained alone on its own classes.

    Args:
        groups: Head, middle and tail classes; together all of them.
        beta: Weight of the heads' own losses in [0, 1]; 0 is cross-entropy of the sum, 0.995 is the
            paper's value for CIFAR-100.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Raises:
        ConfigError: `beta` lies outside [0, 1].

    Reference:
        Cui et al., ResLT: Residual Learning for Long-Tailed Recognition, TPAMI 2022, section 3.
    """

    learns: Tensor

    def __init__(
        self, groups: Groups, *, beta: float = 0.995, ignore_index: int = IGNORE_INDEX
    ) -> None:
        super().__init__()
        if not 0 <= beta <= 1:
            raise ConfigError(f"beta must lie in [0, 1], got {beta!r}")
        self.beta, self.ignore_index = beta, ignore_index
        classes = len(groups.head) + len(groups.middle) + len(groups.tail)
        learns = torch.zeros(BRANCHES, classes)
        learns[0] = 1
        learns[1, [*groups.middle, *groups.tail]] = 1
        learns[2, list(groups.tail)] = 1
        self.register_buffer("learns", learns)

    def forward(self, branches: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of `branches` (3, rows, classes) and `targets` (rows,); a scalar."""
        return reslt_cross_entropy(
            branches, targets, self.learns, beta=self.beta, ignore_index=self.ignore_index
        )


@final
class ResLTProbe(StandardisedProbe):
    """Three residual heads with the loss of ResLT."""

    name = "reslt"
    summary = "three residual heads with their loss (Cui et al., TPAMI 2022)"

    def learn(self, data: ProbeData, options: Options) -> nn.Module:
        """Train it on standardised features."""
        head = ResLTHead(data.features.shape[1], len(data.counts.names), seed=data.seed)
        loss = ResLTLoss(data.groups)
        x, y = torch.from_numpy(data.features), torch.from_numpy(data.labels)
        descend(head, lambda _: loss(head.branches(x), y))
        return head

    def shape(self, width: int, classes: int, options: Options) -> nn.Module:
        """Build what `learn` returns, without its state."""
        return ResLTHead(width, classes)
