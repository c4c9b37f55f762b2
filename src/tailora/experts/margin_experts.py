"""Common parts of RIDE and TLC: LDAM margins, diversity, and a re-weighted second phase."""

from collections.abc import Mapping
from typing import Any, Final, Self

import torch
from torch import Tensor, nn

from tailora.counts import ClassCounts
from tailora.experts.diversity import class_temperature
from tailora.losses.class_weights import class_weights, weights_buffer
from tailora.losses.ldam import ldam_margins

PAPER_EPOCHS: Final = 200  # that the papers' schedules are told in
DEFERRED: Final = 0.8  # share of a training before the second phase: epoch 160 of 200


class MarginExperts(nn.Module):
    """Margins, class weights and temperatures of both phases; all weights are 1 in the first.

    Args:
        counts: Training samples per class, all at least 1.
        options: All options of the loss, including `max_margin` and `spread`; `reweighted` builds
            the second phase from the same.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Raises:
        ConfigError: `spread` is out of range.
        DataError: A class has no sample.
    """

    margins: Tensor
    class_weight: Tensor
    temperature: Tensor

    def __init__(
        self, counts: ClassCounts, options: Mapping[str, float], *, ignore_index: int
    ) -> None:
        super().__init__()
        self.counts, self.options, self.ignore_index = counts, dict(options), ignore_index
        class_temperature(counts, spread=options["spread"])  # refuses now, not in the second phase
        margins = ldam_margins(counts, max_margin=options["max_margin"])
        self.register_buffer("margins", weights_buffer(margins))
        self.register_buffer("class_weight", torch.ones(len(counts.names)))
        self.register_buffer("temperature", torch.ones(len(counts.names)))

    def reweighted(
        self,
        weights: str | Mapping[str, float] = "effective-number",
        *,
        cap: float | None = None,
    ) -> Self:
        """Build the loss of the deferred phase: class weights, and class-wise temperatures."""
        make: Any = type(self)
        loss = make(self.counts, **self.options, ignore_index=self.ignore_index)
        temperature = class_temperature(self.counts, spread=self.options["spread"])
        loss.class_weight.copy_(weights_buffer(class_weights(self.counts, weights, cap=cap)))
        loss.temperature.copy_(weights_buffer(temperature))
        return loss.to(self.margins)
