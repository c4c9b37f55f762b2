"""What Mamba-FCS minimises: change, land cover of both dates, their overlap and agreement."""

from typing import Final, final, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import nll_loss, one_hot

from tailora.counts import ClassCounts
from tailora.errors import unknown_name
from tailora.losses.overlap import lovasz
from tailora.losses.parts import note_part
from tailora.losses.row_loss import IGNORE_INDEX, weighted_mean, without_ignored
from tailora.losses.separated_kappa import Mode, separated_kappa_loss
from tailora.transitions import parse_transitions

_COVER: Final = 0.5
_OVERLAP: Final = 0.5
_ALIKE: Final = 0.05
_KAPPA: Final = 0.5


@final
class MambaFCSLoss(nn.Module):
    """Cross-entropy, Lovász, similarity of what stays, and SeK, of change and both land covers.

    With one softmax over transitions, where the paper has three, change is the sum over the
    transitions that are one, and land cover of a date that of those which begin, or end, with it:
    among changes for what learns from changed rows alone, as there, among all for what stays.

    Args:
        counts: Training samples of each transition; their names say what they are.
        mode: Of the loss of SeK, see `separated_kappa_loss`.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Raises:
        ConfigError: An unknown mode.
        DataError: The classes are no transitions.

    Reference:
        Wijenayake et al., Mamba-FCS, arXiv 2508.08232: CE(change) + (CE(1) + CE(2)) / 2 +
        (Lovász(change) + Lovász(1) + Lovász(2)) / 2 + MSE(1, 2) / 20 where nothing changed +
        SeK / 2.
    """

    into: Tensor
    covers: Tensor
    changed: Tensor

    def __init__(
        self, counts: ClassCounts, *, mode: Mode = "fixed", ignore_index: int = IGNORE_INDEX
    ) -> None:
        super().__init__()
        if mode not in get_args(Mode):
            raise unknown_name("mode of SeK", mode, get_args(Mode))
        self.mode: Mode = mode
        self.ignore_index = ignore_index
        found = parse_transitions(counts.names)
        for name, table in (("into", found.change_table), ("covers", found.table)):
            of_dates = one_hot(torch.from_numpy(table.T.copy()), len(found.covers) + 1)
            self.register_buffer(name, of_dates.float())
        self.register_buffer("changed", torch.from_numpy(found.changed))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss: a scalar, 0 if no row counts.

        Args:
            logits: (rows, transitions).
            targets: Transition of each row (rows,); see `is_counted` for rows that do not count.
        """
        logits, targets, kept = without_ignored(logits, targets, self.ignore_index)
        said, counted = logits.log_softmax(dim=1), kept.to(logits.dtype)
        is_change = self.changed[targets]
        moved, stayed = counted * is_change, counted * ~is_change
        of_change = torch.stack([_sum(said, ~self.changed), _sum(said, self.changed)], dim=1)
        parts = {
            "change": weighted_mean(
                nll_loss(of_change, is_change.long(), reduction="none"), counted
            ),
            "overlap of change": _OVERLAP * _overlap(of_change, is_change.long(), counted),
        }
        for date, of in enumerate(self.into):
            own = of[:, 1:].argmax(dim=1)[targets]
            of_cover = torch.stack(
                [_sum(said, self.changed & (of[:, c] > 0)) for c in range(1, of.shape[1])],
                dim=1,
            ).log_softmax(dim=1)  # among changes
            terms = nll_loss(of_cover, own, reduction="none")
            parts[f"land cover {date + 1}"] = _COVER * weighted_mean(terms, moved)
            parts[f"overlap {date + 1}"] = _OVERLAP * _overlap(of_cover, own, moved)
        first, second = (said.exp() @ self.covers.to(said))[..., 1:]
        apart = (first - second).square().mean(dim=1)
        parts["what stays"] = _ALIKE * weighted_mean(apart, stayed)
        into = self.into.to(said)
        truth = into[:, targets] * moved[:, None]
        kappa = separated_kappa_loss(said.exp() @ into, truth, mode=self.mode)
        parts["separated kappa"] = _KAPPA * kappa
        for name, part in parts.items():
            note_part(name, part)
        return torch.stack(list(parts.values())).sum()


def _sum(said: Tensor, classes: Tensor) -> Tensor:
    """Log of the sum of the probabilities of some classes (rows,)."""
    return said.masked_fill(~classes, float("-inf")).logsumexp(dim=1)


def _overlap(said: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
    """Lovász of the classes that some of the rows have, mean over them."""
    truth = one_hot(targets, said.shape[1]) * counted[:, None]
    found = lovasz(said.exp() * counted[:, None], truth)
    return weighted_mean(found, (truth.sum(dim=0) > 0).to(said.dtype))
