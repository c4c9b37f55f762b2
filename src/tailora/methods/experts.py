"""Several heads and the loss that an adapter learns under."""

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
    """Heads and loss that an adapter learns under.

    Args:
        loss: Takes logits (experts, rows, classes).
        heads: Makes heads with `branches` from width, classes, options of the loss and seed.
        deferred: Share of the epochs before the loss is re-weighted, as its paper has it; None
            where it never is.
    """

    loss: Callable[..., nn.Module]
    heads: MakeHeads
    deferred: float | None = None

    def make_loss(
        self, counts: ClassCounts, groups: Groups | None, options: Mapping[str, Any]
    ) -> nn.Module:
        """Make the loss from what it needs and the options chosen.

        Raises:
            ConfigError: An option it does not have or cannot use.
        """
        return registry.build(self.loss, {"counts": counts, "groups": groups}, options)


def reslt_head(width: int, classes: int, _: Mapping[str, Any], seed: int) -> Heads:
    """Make the three-branch head of ResLT."""
    return ResLTHead(width, classes, seed=seed)


def cosine_heads(width: int, classes: int, options: Mapping[str, Any], seed: int) -> Heads:
    """Make three cosine heads, of the scale that the loss is given."""
    scale = {"scale": options["scale"]} if "scale" in options else {}  # the loss's is the heads'
    return ExpertHead(width, classes, seed=seed, **scale)


class Branches(nn.Module):
    """The logits of each head, which the losses take; predicting would add or average them."""

    def __init__(self, heads: Heads) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, features: Tensor) -> Tensor:
        """Turn `features` (rows, width) into logits (experts, rows, classes)."""
        return self.heads.branches(features)
