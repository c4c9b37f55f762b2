"""TLC: evidential experts with uncertainty, engaged when needed (Li et al. 2022)."""

import math
from typing import Final, final

import torch
from torch import Tensor

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.experts.dempster_shafer import log_accord, opinion
from tailora.experts.diversity import expert_diversity
from tailora.experts.margin_experts import MarginExperts
from tailora.losses.ldam import ldam_cross_entropy
from tailora.losses.parts import note_part
from tailora.losses.row_loss import IGNORE_INDEX, weighted_mean, without_ignored

_LARGEST_LOG_EVIDENCE: Final = 30.0  # the largest logit of a cosine head of scale 30


def log_running_uncertainty(experts: Tensor) -> Tensor:
    """Return log w: w_0 = 1, w_m = w_(m-1) u_m / (1 - C_m), C_m between experts m - 1 and m.

    Args:
        experts: Logits (experts, rows, classes).

    Returns:
        (experts + 1, rows), at most 0.
    """
    opinions = [opinion(logits) for logits in experts]
    running = [torch.zeros_like(opinions[0].log_uncertainty)]
    for m, current in enumerate(opinions):
        share = current.log_uncertainty
        if m:
            share = share - log_accord(opinions[m - 1], current)
        running.append(running[-1] + share)
    return torch.stack(running)


def engaged(experts: Tensor, *, threshold: float = 0.54, kept: Tensor | None = None) -> Tensor:
    """Return which rows each expert trains on: those that previous experts left uncertain.

    Args:
        experts: Logits (experts, rows, classes).
        threshold: Uncertainty threshold relative to the batch's most uncertain row, in [0, 1).
        kept: Booleans (rows,); other rows engage no expert and do not count for the maximum. None
            keeps all.

    Returns:
        Booleans (experts, rows); the first expert has all kept rows.
    """
    before = log_running_uncertainty(experts.detach())[:-1]
    if not before.shape[1]:
        return torch.ones_like(before, dtype=torch.bool)
    if kept is not None:
        before = before.masked_fill(~kept, -math.inf)
    return (before - before.amax(dim=1, keepdim=True)).exp() > threshold


def tlc_predict(experts: Tensor, *, eta: float = 0.2) -> tuple[Tensor, Tensor]:
    """Weight experts by the uncertainty of the previous ones, and return the combined uncertainty.

    Weights are normalised over the experts of a row, not over a batch as in the released code, so a
    prediction does not depend on the batch.

    Args:
        experts: Logits (experts, rows, classes).
        eta: Temperature of the weights, above 0; towards 0 only the first expert counts, large
            values weight all equally. 0.2 for CIFAR, 0.5 for ImageNet.

    Returns:
        Logits (rows, classes) and uncertainty (rows,) in [0, 1].

    Raises:
        ConfigError: `eta` is not positive.

    Reference:
        Li et al., Trustworthy Long-Tailed Classification, CVPR 2022, section 3.4.
    """
    if not eta > 0:
        raise ConfigError(f"eta must be above 0, got {eta!r}")
    uncertainty = log_running_uncertainty(experts).exp()
    weights = (uncertainty[:-1] / eta).softmax(dim=0)
    return (weights[:, :, None] * experts).sum(dim=0), uncertainty[-1]


def evidence_against(logits: Tensor, targets: Tensor) -> Tensor:
    """Return KL(Dir(a) || Dir(1)) (rows,), a = 1 + evidence, but 1 for the true class.

    Args:
        logits: Log-evidence (rows, classes), clipped at 30.
        targets: Class of each row (rows,).
    """
    own = targets[:, None] == torch.arange(logits.shape[1], device=logits.device)
    # differences of lgammas of 1e13: float32 would leave nothing of them
    evidence = logits.double().clamp(max=_LARGEST_LOG_EVIDENCE).exp()
    evidence = torch.where(own, torch.zeros_like(evidence), evidence)
    alpha = evidence + 1
    total = alpha.sum(dim=1)
    norms = torch.lgamma(total) - math.lgamma(logits.shape[1]) - torch.lgamma(alpha).sum(dim=1)
    slopes = torch.digamma(alpha) - torch.digamma(total)[:, None]
    return (norms + (evidence * slopes).sum(dim=1)).to(logits.dtype)


def _weighed(experts: Tensor) -> Tensor:
    return tlc_predict(experts)[0]


@final
class TLCLoss(MarginExperts):
    """Evidential experts, each trained on rows that previous ones left uncertain.

    A logit is log-evidence, so one forward pass gives class and uncertainty; later experts are
    engaged for uncertain rows only. Train in two phases as LDAM-DRW: this loss, then
    `loss.reweighted()`.

    Args:
        counts: Training samples per class, all at least 1.
        max_margin: Margin of the rarest class, in cosine units.
        scale: Scale of the cosine heads, above 0.
        diversity: Strength of the diversity term, at least 0.
        spread: Share of the temperature that depends on a class's count in the second phase.
        engagement: An expert trains on rows whose uncertainty exceeds this fraction of the batch's
            largest, in [0, 1); 0 is all rows.
        annealing: Epochs until evidence for wrong classes has its full KL penalty, above 0, on a
            scale of 200 training epochs, which shorter training passes through faster: 13200 gives
            the last epochs a weight of about 0.015.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Attributes:
        follows_epoch: It is told the epoch, since it changes over training.
        combine: Combines the experts' predictions: the logits of `tlc_predict`.

    Raises:
        ConfigError: An option is out of range.
        DataError: A class has no sample.

    Reference:
        Li et al., Trustworthy Long-Tailed Classification, CVPR 2022, section 3.
    """

    follows_epoch = True
    combine = staticmethod(_weighed)

    def __init__(
        self,
        counts: ClassCounts,
        *,
        max_margin: float = 0.5,
        scale: float = 30.0,
        diversity: float = 0.01,
        spread: float = 0.05,
        engagement: float = 0.54,
        annealing: float = 13200.0,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        _check(max_margin=max_margin, scale=scale, diversity=diversity, annealing=annealing)
        if not 0 <= engagement < 1:
            raise ConfigError(f"engagement must lie in [0, 1), got {engagement!r}")
        options = {
            "max_margin": max_margin,
            "scale": scale,
            "diversity": diversity,
            "spread": spread,
            "engagement": engagement,
            "annealing": annealing,
        }
        super().__init__(counts, options, ignore_index=ignore_index)

    def rows(self, experts: Tensor, targets: Tensor, epoch: float = 0) -> Tensor:
        """Return the loss of each expert and row, (experts, rows), before engagement."""
        own, against, away = self._terms(experts, targets, epoch)
        return own + against + away

    def _terms(
        self, experts: Tensor, targets: Tensor, epoch: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return cross-entropy with margins, KL and diversity: (experts, rows) each."""
        scale, diversity = self.options["scale"], self.options["diversity"]
        apart = expert_diversity(experts, experts.mean(dim=0).detach(), self.temperature)
        weights, share = self.class_weight[targets], epoch / self.options["annealing"]
        terms = [
            (
                weights * ldam_cross_entropy(logits, targets, self.margins, scale=scale),
                share * evidence_against(logits, targets),
            )
            for logits in experts
        ]
        own, against = (torch.stack(of) for of in zip(*terms, strict=True))
        return own, against, -diversity * apart

    def forward(self, experts: Tensor, targets: Tensor, epoch: float = 0) -> Tensor:
        """Return the sum of each expert's mean over the rows it is engaged for; a scalar.

        Args:
            experts: Logits (experts, rows, classes).
            targets: Class of each row (rows,).
            epoch: From 0, of 200; the penalty on evidence for wrong classes grows with it.
        """
        experts, targets, kept = without_ignored(experts, targets, self.ignore_index)
        own, against, away = self._terms(experts, targets, epoch)
        asked = engaged(experts, threshold=self.options["engagement"], kept=kept).to(own)
        for name, part in (("classification", own), ("evidence", against), ("diversity", away)):
            note_part(name, _engaged_mean(part, asked))
        return _engaged_mean(own + against + away, asked)


def _engaged_mean(losses: Tensor, asked: Tensor) -> Tensor:
    """Return the sum over experts of the mean over engaged rows, both (experts, rows)."""
    return torch.stack(
        [weighted_mean(row, mask) for row, mask in zip(losses, asked, strict=True)]
    ).sum()


def _check(*, max_margin: float, scale: float, diversity: float, annealing: float) -> None:
    for name, value in (("max_margin", max_margin), ("diversity", diversity)):
        if not 0 <= value < math.inf:
            raise ConfigError(f"{name} must be finite and at least 0, got {value!r}")
    for name, value in (("scale", scale), ("annealing", annealing)):
        if not 0 < value < math.inf:
            raise ConfigError(f"{name} must be finite and above 0, got {value!r}")
