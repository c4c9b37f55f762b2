"""A loss of the separated kappa (SeK): the agreement on land cover where it changed."""

from typing import Final, Literal, final, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, unknown_name
from tailora.losses.logit_adjusted import LogitAdjustedLoss
from tailora.losses.parts import note_part
from tailora.losses.row_loss import IGNORE_INDEX, without_ignored
from tailora.transitions import parse_transitions

Mode = Literal["fixed", "floored", "released"]
"""See `separated_kappa_loss`."""
_RELEASED_EPS: Final = 1e-7
_FLOOR: Final = 1e-6
_SHARPNESS: Final = 20.0  # of the floor of kappa


def separated_kappa_loss(shares: Tensor, truth: Tensor, *, mode: Mode = "fixed") -> Tensor:
    """Return -log(kappa * exp(1.5 (m - 1))) - log(m) / 2, a scalar: 0 where all is right.

    Both are of the rows that changed, and the mean of both dates: kappa of the soft table of land
    cover, m the mean over land cover of the soft IoU, weighted by 1 / log(rows + 1).

    As published code has it (`released`), exp(1.5 m) takes the place of exp(1.5 (m - 1)) and the
    loss is cut off at 0, which leaves no gradient long before all is right; a land cover without a
    row takes all the weight; and a kappa below 0 has no logarithm. Here only land cover that has
    rows is weighed, and kappa has a floor: a smooth one by default, or one at 1e-6 (`floored`).

    Args:
        shares: Probability of each land cover, the first of none (dates, rows, covers + 1).
        truth: 1 for the land cover of a row that changed, all 0 for other rows, of the same shape.
        mode: `"fixed"`, `"floored"` or `"released"`.

    Returns:
        0 where no row changed; NaN for a kappa below 0 if `released`.

    Reference:
        Wijenayake et al., Mamba-FCS, arXiv 2508.08232 (the loss); Yang et al., TGRS 2021 (SeK).
    """
    changed = truth.sum(dim=-1, keepdim=True)
    table = ((shares * changed).transpose(-1, -2) @ truth)[:, 1:, 1:]
    hits = table.diagonal(dim1=-2, dim2=-1)
    rows = truth.sum(dim=-2)[:, 1:]
    union = (shares * changed).sum(dim=-2)[:, 1:] + rows - hits
    size = table.sum(dim=(-2, -1))
    size = torch.where(size > 0, size, torch.ones_like(size))
    right = hits.sum(dim=-1) / size
    expected = (table.sum(dim=-1) * table.sum(dim=-2)).sum(dim=-1) / size.square()
    iou = hits / torch.where(union > 0, union, torch.ones_like(union))
    if mode == "released":
        kappa = ((right - expected) / (1 - expected + _RELEASED_EPS)).mean()
        weights = 1 / torch.log(rows + 1 + _RELEASED_EPS)
        overlap = (iou * weights / weights.sum(dim=-1, keepdim=True)).sum(dim=-1).mean()
        value = -(kappa * torch.exp(1.5 * overlap) + _RELEASED_EPS).log()
        loss = (value - (overlap + _FLOOR).log() / 2).clamp_min(0)
    else:
        alone = 1 - expected < _FLOOR  # one land cover at a date: chance explains all
        rest = torch.where(alone, torch.ones_like(expected), 1 - expected)
        kappa = torch.where(alone, right, (right - expected) / rest).clamp(-1, 1).mean()
        weights = torch.where(rows > 0, 1 / torch.log(rows.clamp_min(1) + 1), 0.0)
        total = weights.sum(dim=-1, keepdim=True)
        weights = weights / torch.where(total > 0, total, torch.ones_like(total))
        overlap = (iou * weights).sum(dim=-1).mean().clamp_min(_FLOOR)
        positive = functional.softplus(_SHARPNESS * kappa) / _SHARPNESS
        kappa = positive if mode == "fixed" else kappa.clamp_min(_FLOOR)
        loss = (-kappa.log() - 1.5 * (overlap - 1) - overlap.log() / 2).clamp_min(0)
    return torch.where(changed.any(), loss, 0.0)


@final
class SekLoss(nn.Module):
    """Cross-entropy of transitions, plus a loss of the separated kappa of both land covers.

    Probabilities of land cover are the sums over the transitions that begin, or end, with it.

    Args:
        counts: Training samples of each transition, all at least 1; their names say what they are.
        weight: Of the loss of the separated kappa, above 0; that of cross-entropy is 1.
        tau: Logit adjustment of the cross-entropy; 0 is plain.
        mode: See `separated_kappa_loss`.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Raises:
        ConfigError: An option is out of range.
        DataError: The classes are no transitions.
    """

    into: Tensor
    changed: Tensor

    def __init__(
        self,
        counts: ClassCounts,
        *,
        weight: float = 0.5,
        tau: float = 0.0,
        mode: Mode = "fixed",
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__()
        if not 0 < weight < float("inf"):
            raise ConfigError(f"the weight of SeK must be finite and above 0, got {weight!r}")
        if mode not in get_args(Mode):
            raise unknown_name("mode of SeK", mode, get_args(Mode))
        self.rows = LogitAdjustedLoss(counts, tau=tau, ignore_index=ignore_index)
        self.weight, self.ignore_index = weight, ignore_index
        self.mode: Mode = mode
        found = parse_transitions(counts.names)
        covers = torch.from_numpy(found.change_table.T.copy())
        self.register_buffer("into", functional.one_hot(covers, len(found.covers) + 1).float())
        self.register_buffer("changed", torch.from_numpy(found.changed).float())

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss: a scalar, 0 if no row counts.

        Args:
            logits: (rows, transitions).
            targets: Transition of each row (rows,); see `is_counted` for rows that do not count.
        """
        rows = self.rows(logits, targets)
        logits, targets, kept = without_ignored(logits, targets, self.ignore_index)
        counted = kept * self.changed[targets]
        shares, truth = logits.softmax(dim=1) @ self.into, self.into[:, targets]
        kappa = separated_kappa_loss(shares, truth * counted[:, None], mode=self.mode)
        note_part("cross-entropy", rows)
        note_part("separated kappa", self.weight * kappa)
        return rows + self.weight * kappa
