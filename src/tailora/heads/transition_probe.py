"""Heads whose classes are transitions between two dates: what they share.

Their features are those of the first date f1, of the second f2, and their difference |f1 - f2|,
side by side. Land cover has one weight vector for both dates: swapping the dates swaps the
transitions, and a transition is learnt from all rows in which either of its land covers occurs.
"""

from typing import Final, final

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
        return meaning_of(self.name, counts)

    def empty(self, width: int, classes: int, options: Options = NO_OPTIONS) -> nn.Module:
        """Build it without its state, see `Probe.empty`."""
        return zero_linear(width, classes)


def meaning_of(probe: str, counts: ClassCounts) -> Transitions:
    """Read what the classes of a head mean.

    Args:
        probe: Its name, for the message.
        counts: Its classes.

    Raises:
        ConfigError: They are no transitions.
    """
    try:
        return parse_transitions(counts.names)
    except DataError as error:
        raise ConfigError(f"probe {probe!r} is for task 'change': {error}") from error


@final
class TiedTransitions(nn.Module):
    """A linear layer s_i(f1) + s_j(f2) + c(f3) + b_ij, b_ij = b_ji, to be trained; all 0 at first.

    Args:
        width: Width of each of f1, f2 and f3.
        transitions: What the classes mean; those that are no change have no c.
    """

    def __init__(self, width: int, transitions: Transitions) -> None:
        super().__init__()
        self.transitions = transitions
        self.cover = zero_linear(width, len(transitions.covers))
        self.apart = zero_linear(width, 1)
        self.apart.bias.requires_grad = False  # the offsets of changes have it
        self.offset = nn.Parameter(torch.zeros(len(transitions.table)))
        self.before, self.after = torch.from_numpy(transitions.table.T.copy())
        self.changed = torch.from_numpy(transitions.changed).float()
        self.inverse = torch.from_numpy(transitions.inverse)

    def offsets(self) -> Tensor:
        """One for each transition, the same for its inverse (classes,)."""
        return (self.offset + self.offset[self.inverse]) / 2

    def logits(self, cover: Tensor, apart: Tensor) -> Tensor:
        """Logits (rows, classes).

        Args:
            cover: Of land cover, each first date followed by its second (2 * rows, covers).
            apart: Of change (rows, 1).
        """
        known = nn.functional.pad(cover, (1, 0))  # the first column is of land cover not known
        first, second = known[::2], known[1::2]
        both = first[:, self.before] + second[:, self.after]
        return both + apart * self.changed + self.offsets()

    def forward(self, features: Tensor) -> Tensor:
        """Map features (rows, 3 * width) to logits (rows, classes)."""
        first, second, apart = features.chunk(PARTS, dim=1)
        dates = torch.stack([first, second], dim=1).flatten(0, 1)
        return self.logits(self.cover(dates), self.apart(apart))

    def linear(self) -> nn.Linear:
        """Write it as one linear layer (classes, 3 * width)."""
        return as_linear(self.cover, self.apart, self.offsets(), self.transitions)


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
