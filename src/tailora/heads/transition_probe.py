"""Heads whose classes are transitions between two dates: what they share.

Their features are those of the first date f1, of the second f2, and their difference |f1 - f2|,
side by side. Land cover has one weight vector for both dates: swapping the dates swaps the
transitions, and a transition is learnt from all rows in which either of its land covers occurs.
"""

from typing import Final

import torch
from torch import Tensor, nn

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, DataError
from tailora.heads.linear_probe import zero_linear
from tailora.heads.probe import NO_OPTIONS, Options, Probe
from tailora.transitions import Transitions, parse_transitions

PARTS: Final = 3  # of the features: both dates, and how far they differ


class TransitionProbe(Probe):
    """A linear head whose classes are transitions between two dates."""

    transitions = True
    is_linear = True

    def check(self, options: Options, counts: ClassCounts) -> None:
        """Reject unknown options, and classes that are no transitions."""
        super().check(options, counts)
        self.meaning(counts)

    def meaning(self, counts: ClassCounts) -> Transitions:
        """Read what the classes mean.

        Raises:
            ConfigError: They are no transitions.
        """
        try:
            return parse_transitions(counts.names)
        except DataError as error:
            raise ConfigError(f"probe {self.name!r} is for task 'change': {error}") from error

    def empty(self, width: int, classes: int, options: Options = NO_OPTIONS) -> nn.Module:
        """Build it without its state, see `Probe.empty`."""
        return zero_linear(width, classes)


def as_linear(
    cover: nn.Linear, apart: nn.Linear | None, offsets: Tensor, transitions: Transitions
) -> nn.Linear:
    """Write s_i(f1) + s_j(f2) + c(|f1 - f2|) + b_ij as one linear layer (classes, 3 * width).

    Args:
        cover: s, (covers, width).
        apart: c, (1, width), of the transitions that are a change; None for 0.
        offsets: b of each transition (classes,).
        transitions: What the classes mean.
    """
    width = cover.in_features
    made = zero_linear(PARTS * width, len(transitions.table))
    changed = torch.from_numpy(transitions.changed)
    with torch.no_grad():
        weight = torch.cat([torch.zeros(1, width), cover.weight])  # 0 is land cover not known
        bias = torch.cat([torch.zeros(1), cover.bias])
        before, after = torch.from_numpy(transitions.table.T.copy())
        made.weight[:, : 2 * width] = torch.cat([weight[before], weight[after]], dim=1)
        made.bias.copy_(offsets + bias[before] + bias[after])
        if apart is not None:
            made.weight[changed, 2 * width :] = apart.weight
            made.bias[changed] += apart.bias
    return made
