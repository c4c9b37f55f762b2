"""Cross-entropy, and the log prior subtracted afterwards (Menon et al. 2021).

With `tau` below 1 it is NorCal (Pan et al., NeurIPS 2021) of a detector whose background is decided
elsewhere: p_c / n_c^tau, normalised.
"""

from typing import Any, final

import torch
from torch import Tensor, nn

from tailora.counts import ClassCounts
from tailora.heads.linear_probe import zero_linear
from tailora.heads.loss_probe import fit_linear
from tailora.heads.prior_thresholding import adjust_logits
from tailora.heads.probe import NO_OPTIONS, Options, Probe, ProbeData, best_of, choices_of
from tailora.losses import CrossEntropyLoss


@final
class PostHocProbe(Probe):
    """A linear head of cross-entropy, minus the log prior."""

    name = "post-hoc"
    summary = (
        "linear head trained with cross-entropy, minus tau times the log prior (Menon et al., ICLR "
        "2021; Pan et al., NeurIPS 2021)"
    )

    @property
    def options(self) -> dict[str, Any]:
        """Its options with their defaults."""
        return {"tau": 1.0}

    def check(self, options: Options, counts: ClassCounts) -> None:
        """Reject options that it does not have."""
        super().check(options, counts)
        for chosen in choices_of(options):
            adjust_logits(torch.zeros(1, len(counts.names)), counts, **chosen)

    def fit(self, data: ProbeData, options: Options = NO_OPTIONS) -> nn.Module:
        """Train it, see `Probe.fit`."""
        self.check(options, data.counts)
        linear = fit_linear(data, CrossEntropyLoss(data.counts))

        def fitted(chosen: dict[str, Any]) -> nn.Module:
            shift = adjust_logits(torch.zeros(1, len(data.counts.names)), data.counts, **chosen)
            return ShiftedHead(linear, shift[0])

        return best_of(self.name, data, options, fitted)

    def empty(self, width: int, classes: int, options: Options = NO_OPTIONS) -> nn.Module:
        """Build it without its state, see `Probe.empty`."""
        return ShiftedHead(zero_linear(width, classes), torch.zeros(classes))


@final
class ShiftedHead(nn.Module):
    """A linear head with an offset for its logits (classes,)."""

    shift: Tensor

    def __init__(self, linear: nn.Linear, shift: Tensor) -> None:
        super().__init__()
        self.linear = linear
        self.register_buffer("shift", shift)

    def forward(self, features: Tensor) -> Tensor:
        """Map `features` (rows, width) to logits (rows, classes)."""
        return self.linear(features) + self.shift
