"""A linear head trained to convergence with any loss of the shelf."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, final

import numpy as np
from torch import Tensor, nn

from tailora import registry
from tailora.counts import ClassCounts
from tailora.heads.linear_probe import LinearProbe, Loss, fit_linear_probe, zero_linear
from tailora.heads.probe import NO_OPTIONS, Options, Probe, ProbeData, best_of, choices_of
from tailora.randomness import seeded

MOST_TO_SELECT: Final = 10_000
"""Training rows, drawn by the seed, on which the penalty of a linear head is selected."""


@final
class LossProbe(Probe):
    """A linear head, trained to convergence with a loss."""

    is_linear = True

    def __init__(self, name: str, loss: registry.Method) -> None:
        self.name, self.summary = name, f"linear head trained to convergence with the {name} loss"
        self.loss = loss

    @property
    def options(self) -> dict[str, Any]:
        """Its options with their defaults."""
        return registry.options(self.loss)

    def check(self, options: Options, counts: ClassCounts) -> None:
        """Reject options that it does not have."""
        for chosen in choices_of(options):
            registry.build(self.loss, {"counts": counts}, chosen)

    def fit(self, data: ProbeData, options: Options = NO_OPTIONS) -> nn.Module:
        """Train it, see `Probe.fit`."""

        def fitted(chosen: dict[str, Any]) -> nn.Module:
            loss = registry.build(self.loss, {"counts": data.counts}, chosen)
            return fit_linear(data, repeatable(loss, data.seed))

        return best_of(self.name, data, options, fitted)

    def empty(self, width: int, classes: int, options: Options = NO_OPTIONS) -> nn.Module:
        """Build it without its state, see `Probe.empty`."""
        return zero_linear(width, classes)


def repeatable(loss: nn.Module, seed: int) -> Loss:
    """Let a loss that draws draw the same each time: a line search compares one function's values.

    Args:
        loss: Says by an attribute `draws` that it takes random numbers from torch's generator.
        seed: Of that generator, which is lent.
    """
    if not getattr(loss, "draws", False):
        return loss

    def drawn(logits: Tensor, targets: Tensor) -> Tensor:
        with seeded(seed):
            return loss(logits, targets)

    return drawn


def fit_linear(data: ProbeData, loss: Loss) -> nn.Linear:
    """Train a linear head to convergence; its penalty is selected on validation, if there is any.

    Args:
        data: Of at most `MOST_TO_SELECT` rows the penalty is selected, the head has all.
        loss: Takes logits (rows, classes) and targets (rows,).
    """
    return fit_selected(
        data, partial(fit_linear_probe, loss=loss, num_classes=len(data.counts.names))
    )


def fit_selected(data: ProbeData, fit: Callable[..., LinearProbe]) -> nn.Linear:
    """Fit with the penalty that is best on validation, chosen with some rows if there are many.

    Args:
        data: See `fit_linear`.
        fit: Takes features, labels, `l2`, `validation` and `score` as `fit_linear_probe` does.
    """
    if not len(data.val_labels):
        return fit(data.features, data.labels, l2=data.l2[len(data.l2) // 2]).linear
    rows = np.arange(data.as_they_are or len(data.labels))
    if len(rows) > MOST_TO_SELECT:
        drawn = np.random.default_rng(data.seed).choice(rows, MOST_TO_SELECT, replace=False)
        rows = np.sort(drawn)
    chosen = fit(
        data.features[rows],
        data.labels[rows],
        l2=data.l2,
        validation=(data.val_features, data.val_labels),
        score=data.score,
    )
    if len(rows) == len(data.labels):
        return chosen.linear
    return fit(data.features, data.labels, l2=chosen.l2).linear
