"""Expert heads, and the loss that trains an adapter with them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tailora import registry
from tailora.counts import ClassCounts, Groups
from tailora.heads.expert_head import ExpertHead
from tailora.heads.reslt import ResLTHead

Heads = ResLTHead | ExpertHead
MakeHeads = Callable[[int, int, Mapping[str, Any], int], Heads]


@dataclass(frozen=True)
class Experts:
    """Heads and loss that an adapter is trained with.

    Args:
        loss: Takes logits (experts, rows, classes).
        heads: Builds a head with `branches` from the feature width, the number of classes, the
            options of the loss and a seed.
        deferred: Share of the epochs before the loss is re-weighted, as in its paper; None if it
            never is.
    """

    loss: Callable[..., nn.Module]
    heads: MakeHeads
    deferred: float | None = None

    def make_loss(
        self, counts: ClassCounts, groups: Groups | None, options: Mapping[str, Any]
    ) -> nn.Module:
        """Build the loss.

        Raises:
            ConfigError: An option is unknown or out of range.
        """
        return registry.build(self.loss, {"counts": counts, "groups": groups}, options)


def reslt_head(width: int, classes: int, _: Mapping[str, Any], seed: int) -> Heads:
    """Build the three-branch head of ResLT."""
    return ResLTHead(width, classes, seed=seed)


def cosine_heads(width: int, classes: int, options: Mapping[str, Any], seed: int) -> Heads:
    """Build three cosine heads, with the scale of the loss."""
    scale = {"scale": options["scale"]} if "scale" in options else {}  # that of the loss
    return ExpertHead(width, classes, seed=seed, **scale)


class Branches(nn.Module):
    """The logits of each head, as the losses need them; a prediction would combine them."""

    def __init__(self, heads: Heads) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, features: Tensor) -> Tensor:
        """Map `features` (rows, width) to logits (experts, rows, classes)."""
        return self.heads.branches(features)
