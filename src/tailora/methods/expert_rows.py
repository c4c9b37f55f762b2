"""LoRA that learns under several heads: one line a method; the probe is the same as for all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor, nn

from tailora import registry
from tailora.counts import ClassCounts, Groups
from tailora.experts import RIDELoss, SADELoss, TLCLoss
from tailora.experts.margin_experts import DEFERRED
from tailora.heads.expert_head import ExpertHead
from tailora.heads.reslt import ResLTHead, ResLTLoss

Heads = ResLTHead | ExpertHead
MakeHeads = Callable[[int, int, Mapping[str, Any], int], Heads]


@dataclass(frozen=True)
class ExpertRow:
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


def _reslt(width: int, classes: int, _: Mapping[str, Any], seed: int) -> Heads:
    return ResLTHead(width, classes, seed=seed)


def _cosine(width: int, classes: int, options: Mapping[str, Any], seed: int) -> Heads:
    scale = {"scale": options["scale"]} if "scale" in options else {}  # the loss's is the heads'
    return ExpertHead(width, classes, seed=seed, **scale)


EXPERT_ROWS: Final[dict[str, ExpertRow]] = {
    "lora+reslt": ExpertRow(ResLTLoss, _reslt),
    "lora+sade": ExpertRow(SADELoss, _cosine),
    "lora+ride": ExpertRow(RIDELoss, _cosine, deferred=DEFERRED),
    "lora+tlc": ExpertRow(TLCLoss, _cosine, deferred=DEFERRED),
}


class Branches(nn.Module):
    """The logits of each head, which the losses take; predicting would add or average them."""

    def __init__(self, heads: Heads) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, features: Tensor) -> Tensor:
        """Turn `features` (rows, width) into logits (experts, rows, classes)."""
        return self.heads.branches(features)
