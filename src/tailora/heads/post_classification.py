"""Post-classification: the land cover of each date by itself, compared."""

from dataclasses import replace
from functools import partial
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.heads.linear_probe import predict_logits
from tailora.heads.loss_probe import fit_linear
from tailora.heads.probe import NO_OPTIONS, Options, ProbeData, best_of, choices_of
from tailora.heads.transition_probe import PARTS, TransitionProbe, as_linear
from tailora.losses import CrossEntropyLoss
from tailora.metrics.confusion import present_macro_f1
from tailora.transitions import Transitions

_FEWEST_COVERS: Final = 2  # that can be told apart
_PREVALENCE: Final = "prevalence"


@final
class PostClassificationProbe(TransitionProbe):
    """Sums of the logits of both dates, less a margin where land cover changed."""

    name = "post-classification"
    summary = (
        "linear head for the land cover of each date by itself; a change where it leads by a "
        "margin, for task change"
    )

    @property
    def options(self) -> dict[str, Any]:
        """Its options with their defaults."""
        return {"margin": _PREVALENCE}

    def check(self, options: Options, counts: ClassCounts) -> None:
        """Reject options that it does not have, and classes without land cover."""
        super().check(options, counts)
        if len(self.meaning(counts).covers) < _FEWEST_COVERS:
            raise ConfigError(
                f"probe {self.name!r} needs masks of land cover, and these say only where it "
                "changed; use factored"
            )
        for chosen in choices_of(self.options | dict(options)):
            margin = chosen["margin"]
            known = margin == _PREVALENCE or (isinstance(margin, float | int) and margin >= 0)
            if not known or margin == np.inf:
                raise ConfigError(
                    f"margin must be {_PREVALENCE!r} or finite and at least 0, got {margin!r}"
                )

    def fit(self, data: ProbeData, options: Options = NO_OPTIONS) -> nn.Module:
        """Train it, see `Probe.fit`."""
        self.check(options, data.counts)
        meaning = self.meaning(data.counts)
        dates = _single_dates(data, meaning)
        cover = fit_linear(dates, CrossEntropyLoss(dates.counts))
        changed = torch.from_numpy(meaning.changed).float()

        def fitted(chosen: dict[str, Any]) -> nn.Module:
            margin = (self.options | chosen)["margin"]
            if margin == _PREVALENCE:
                even = as_linear(cover, None, 0 * changed, meaning)
                margin = _prevalence_margin(even, data, meaning.changed)
            chosen["margin"] = margin  # kept with the head
            return as_linear(cover, None, -margin * changed, meaning)

        return best_of(self.name, data, options, fitted)


def _prevalence_margin(head: nn.Module, data: ProbeData, changed: NDArray[np.bool_]) -> float:
    """By how much change must lead for as many validation rows to be called changed as did.

    At least 0, so that equal dates are never a change; 0 without validation.
    """
    if not len(data.val_labels):
        return 0.0
    logits = predict_logits(head, data.val_features)
    lead = logits[:, changed].max(axis=1) - logits[:, ~changed].max(axis=1)
    return max(0.0, float(np.quantile(lead, 1 - changed[data.val_labels].mean())))


def _single_dates(data: ProbeData, meaning: Transitions) -> ProbeData:
    """Features of first dates, with their land cover where it is known, from 0.

    Every pair counts in both orders of its dates, so second dates are among the first too.
    """
    cover = meaning.table[:, 0] - 1
    width, classes = data.features.shape[1] // PARTS, len(meaning.covers)
    known, checked = cover[data.labels] >= 0, cover[data.val_labels] >= 0
    labels = cover[data.labels[known]]
    return replace(
        data,
        features=data.features[known, :width], labels=labels,
        val_features=data.val_features[checked, :width],
        val_labels=cover[data.val_labels[checked]],
        counts=ClassCounts.from_labels(labels, names=meaning.covers),
        score=partial(present_macro_f1, num_classes=classes),
        as_they_are=int(known[: data.as_they_are].sum()),
    )  # fmt: skip
