"""Transitions as the land cover of both dates and whether it changed, learnt together.

A plain linear head has to learn each transition, and each order of the dates, from its own rows.

Reference: Ding et al., Bi-Temporal Semantic Reasoning for the Semantic Change Detection in HR
Remote Sensing Images, TGRS 2022 (a semantic branch shared by both dates, and one of change).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.heads.linear_probe import (
    LinearProbe,
    Loss,
    PrincipalAxes,
    Score,
    Validation,
    best_penalty,
    check_rows,
    minimise,
    penalties,
)
from tailora.heads.loss_probe import fit_selected
from tailora.heads.probe import NO_OPTIONS, Options, ProbeData, best_of, choices_of
from tailora.heads.transition_probe import PARTS, TiedTransitions, TransitionProbe, as_linear
from tailora.losses import LogitAdjustedLoss
from tailora.losses.separated_kappa import Mode, SekLoss
from tailora.transitions import Transitions


@final
class FactoredProbe(TransitionProbe):
    """Land cover of each date, shared by both, plus a logit of change."""

    name = "factored"
    summary = (
        "linear land cover of each date, shared by both, plus a linear logit of change, with logit "
        "adjustment of the transitions, for task change (Ding et al., TGRS 2022)"
    )

    @property
    def options(self) -> dict[str, Any]:
        """Its options with their defaults."""
        return {"tau": 0.5, "sek": 0.0, "mode": "fixed"}

    def check(self, options: Options, counts: ClassCounts) -> None:
        """Reject options that it does not have, and classes that are no transitions."""
        super().check(options, counts)
        for chosen in choices_of(self.options | dict(options)):
            _loss(counts, **chosen)

    def fit(self, data: ProbeData, options: Options = NO_OPTIONS) -> nn.Module:
        """Train it, see `Probe.fit`."""
        meaning = self.meaning(data.counts)

        def fitted(chosen: dict[str, Any]) -> nn.Module:
            loss = _loss(data.counts, **(self.options | chosen))
            return fit_selected(data, partial(fit_factored_probe, transitions=meaning, loss=loss))

        return best_of(self.name, data, options, fitted)


def _loss(counts: ClassCounts, *, tau: float, sek: float, mode: Mode) -> nn.Module:
    if sek:
        return SekLoss(counts, weight=sek, tau=tau, mode=mode)
    if mode != "fixed":
        raise ConfigError(f"mode={mode!r} is of the loss of SeK; add its weight, e.g. sek=0.5")
    return LogitAdjustedLoss(counts, tau=tau)


def fit_factored_probe(
    features: NDArray[np.floating],
    labels: NDArray[np.int64],
    *,
    transitions: Transitions,
    loss: Loss,
    l2: float | Sequence[float],
    validation: Validation | None = None,
    score: Score | None = None,
    max_iter: int = 1000,
) -> LinearProbe:
    """Fit land cover, and whether it changed, to the classes of transitions.

    The logit of a transition from i into j is s_i(f1) + s_j(f2) + b_ij, b_ij = b_ji, and of those
    that are a change also c(|f1 - f2|); s and c are linear. The sum is linear in the features too,
    so that the minimum of mean loss + l2 / 2 * (|S|^2 + |c|^2) is the only one if the loss is
    convex, and the result an ordinary linear layer.

    Args:
        features: (rows, 3 * width), in the order f1, f2, |f1 - f2|.
        labels: Transition of each row (rows,).
        transitions: What the classes mean.
        loss: Takes logits (rows, classes) and targets (rows,); its mean over rows.
        l2: See `fit_linear_probe`; of features standardised by this training set.
        validation: See `fit_linear_probe`.
        score: See `fit_linear_probe`.
        max_iter: See `fit_linear_probe`.

    Raises:
        ConfigError: See `fit_linear_probe`.
        DataError: See `fit_linear_probe`.
    """
    grid = penalties(l2, validation, score)
    check_rows(features, labels, len(transitions.table))
    width = features.shape[1] // PARTS
    dates = features[:, : 2 * width].reshape(-1, width)  # of each row the first, then the second
    cover_axes, apart_axes = PrincipalAxes(dates), PrincipalAxes(features[:, 2 * width :])
    covers = torch.from_numpy(cover_axes.project(dates))
    apart = torch.from_numpy(apart_axes.project(features[:, 2 * width :]))
    targets = torch.from_numpy(labels.astype(np.int64))
    head = TiedTransitions(width, transitions)

    def solve(penalty: float) -> nn.Linear:
        scales = cover_axes.scale(penalty), apart_axes.scale(penalty)

        def objective() -> Tensor:
            said = head.logits(
                nn.functional.linear(covers, head.cover.weight * scales[0], head.cover.bias),
                nn.functional.linear(apart, head.apart.weight * scales[1]),
            )
            weights = zip((head.cover.weight, head.apart.weight), scales, strict=True)
            return loss(said, targets) + sum(
                penalty / 2 * (weight * scale).square().sum() for weight, scale in weights
            )

        minimise(head.parameters(), objective, max_iter)
        folded = cover_axes.fold(head.cover, scales[0]), apart_axes.fold(head.apart, scales[1])
        return as_linear(*folded, head.offsets(), transitions)

    return best_penalty(grid, solve, validation, score)
