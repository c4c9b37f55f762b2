"""RIDE: diverse experts, and a router that stops early (Wang et al. 2021)."""

import math
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.experts.diversity import expert_diversity
from tailora.experts.margin_experts import MarginExperts
from tailora.losses.ldam import ldam_cross_entropy
from tailora.losses.parts import note_part
from tailora.losses.row_loss import IGNORE_INDEX, weighted_mean, without_ignored


@final
class RIDELoss(MarginExperts):
    """Diverse experts with LDAM margins, pushed away from their mean.

    Diverse experts make independent errors, so their mean has less variance, most of all on rare
    classes. Train in two phases as LDAM-DRW: this loss first, then `loss.reweighted()`.

    Args:
        counts: Training samples per class, all at least 1.
        max_margin: Margin of the rarest class, in cosine units.
        scale: Scale of the cosine heads, above 0.
        diversity: Strength of the diversity term, at least 0; large values make the loss unbounded
            below.
        spread: Share of the temperature that depends on a class's count in the second phase, in [0,
            1); 0 gives all classes temperature 1.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Attributes:
        cosine_head_scale: `scale`; marks that the loss takes the logits of cosine heads.

    Raises:
        ConfigError: An option is out of range.
        DataError: A class has no sample.

    Reference:
        Wang et al., Long-tailed Recognition by Routing Diverse Distribution-Aware Experts, ICLR
        2021, equation 4.
    """

    def __init__(
        self,
        counts: ClassCounts,
        *,
        max_margin: float = 0.5,
        scale: float = 30.0,
        diversity: float = 0.2,
        spread: float = 0.05,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        if not 0 <= max_margin < math.inf or not 0 < scale < math.inf:
            raise ConfigError(
                "max_margin must be finite and at least 0, scale finite and above 0, got "
                f"{max_margin!r} and {scale!r}"
            )
        if not 0 <= diversity < math.inf:
            raise ConfigError(f"diversity must be finite and at least 0, got {diversity!r}")
        options = {
            "max_margin": max_margin,
            "scale": scale,
            "diversity": diversity,
            "spread": spread,
        }
        super().__init__(counts, options, ignore_index=ignore_index)
        self.scale = self.cosine_head_scale = scale
        self.diversity = diversity

    def forward(self, experts: Tensor, targets: Tensor) -> Tensor:
        """Return the sum of the experts' means over rows: (experts, rows, classes), (rows,)."""
        experts, targets, kept = without_ignored(experts, targets, self.ignore_index)
        apart = expert_diversity(experts, experts.mean(dim=0).detach(), self.temperature)
        weights, ones = self.class_weight[targets] * kept, kept.to(apart)
        total = experts.new_zeros(())
        for logits, push in zip(experts, apart, strict=True):
            losses = ldam_cross_entropy(logits, targets, self.margins, scale=self.scale)
            own, away = weighted_mean(losses, weights), self.diversity * weighted_mean(push, ones)
            total = total + own
            total = total - away
            note_part("classification", own)
            note_part("diversity", -away)
        return total


def routing_targets(experts: Tensor, targets: Tensor) -> Tensor:
    """Return after which experts a row should continue: the mean is wrong, a later one right.

    Args:
        experts: Logits (experts, rows, classes), in the order of evaluation.
        targets: Class of each row (rows,).

    Returns:
        1 or 0, (experts - 1, rows), in the dtype of the logits.
    """
    right = _means_so_far(experts).argmax(dim=2) == targets
    later = right.flip(0).cumsum(dim=0).flip(0)[1:] > 0
    return (~right[:-1] & later).to(experts.dtype)


def routing_loss(router: Tensor, targets: Tensor, *, positive_weight: float = 100.0) -> Tensor:
    """Return the router's binary cross-entropy, weighted towards rows that should continue.

    Args:
        router: Logits for continuing (experts - 1, rows).
        targets: From `routing_targets`.
        positive_weight: Weight of rows that should continue, above 0: they are few, and stopping
            too early loses them. 100 is the paper's value from memory, not confirmed.
    """
    weight = router.new_tensor(positive_weight)
    losses = functional.binary_cross_entropy_with_logits(
        router, targets, pos_weight=weight, reduction="none"
    ).flatten()
    return weighted_mean(losses, torch.ones_like(losses))


def route(experts: Tensor, router: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate experts in turn until the router stops, and average them.

    Args:
        experts: Logits (experts, rows, classes); an efficient implementation computes only those
            needed.
        router: Logits for continuing after each expert but the last (experts - 1, rows); a row
            continues if they are above 0.

    Returns:
        Mean logits (rows, classes) of the evaluated experts, and their number (rows,).
    """
    asked = 1 + (router > 0).long().cumprod(dim=0).sum(dim=0)
    rows = torch.arange(experts.shape[1], device=experts.device)
    return _means_so_far(experts)[asked - 1, rows], asked


def _means_so_far(experts: Tensor) -> Tensor:
    numbers = torch.arange(1, len(experts) + 1, device=experts.device)
    return experts.cumsum(dim=0) / numbers[:, None, None]
