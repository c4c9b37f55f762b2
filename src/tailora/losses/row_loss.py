"""Common parts of losses on rows of logits: ignored rows, and the weighted mean."""

from abc import ABC, abstractmethod
from typing import Final

import torch
from torch import Tensor, nn

IGNORE_INDEX: Final = -100  # torch's


def is_counted(targets: Tensor, ignore_index: int = IGNORE_INDEX) -> Tensor:
    """Say which rows count: those of a class, which no negative target and `ignore_index` is.

    This is the one rule of every loss on rows: other rows add nothing, neither to the sum nor to
    the weights it is divided by, and what they hold does not matter.

    Args:
        targets: Class of each row (rows,); negative without one.
        ignore_index: Another target of rows without a class, which may be that of a class.

    Example:
        >>> is_counted(torch.tensor([0, -1, 2, -100, 255]), 255).tolist()
        [True, False, True, False, False]
    """
    return (targets >= 0) & (targets != ignore_index)


def without_ignored(
    logits: Tensor, targets: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Replace ignored rows by harmless ones, and return which rows are kept.

    Shapes are unchanged, so that nothing depends on the data (a GPU need not synchronise).

    Args:
        logits: (..., rows, classes).
        targets: Class of each row (rows,); see `is_counted`.
        ignore_index: Target value of ignored rows, besides negative ones.

    Returns:
        Logits with 0 in ignored rows; targets with 0 there; booleans (rows,), True for kept rows.
    """
    kept = is_counted(targets, ignore_index)
    return logits.masked_fill(~kept[:, None], 0.0), targets.masked_fill(~kept, 0), kept


def ratio_of_sums(terms: Tensor, weights: Tensor) -> Tensor:
    """Divide the sum of weighted terms by the sum of their weights, as in torch.

    A batch without rows (an all-nodata tile), or whose rows are all ignored or have weight 0,
    returns 0 with zero gradient; torch returns NaN.

    Args:
        terms: Weighted loss of each row (rows,).
        weights: Of each row (rows,), at least 0.
    """
    total = weights.sum()
    some = total > 0
    return torch.where(some, terms.sum() / torch.where(some, total, torch.ones_like(total)), 0.0)


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of row losses (rows,); 0 if all weights are 0."""
    return ratio_of_sums(losses * weights, weights)


class RowLoss(nn.Module, ABC):
    """A weighted mean of one term per row, so that rows may be ignored or count partially.

    Subclasses define a row's term in `terms`, where all targets are classes; ignored rows are
    handled here.

    Args:
        ignore_index: Target value of ignored rows, besides negative ones.
    """

    def __init__(self, *, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    @abstractmethod
    def terms(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return each row's weighted loss (rows,) and its weight (rows,), all `targets` classes."""

    def per_row(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted loss of each row and its weight; both 0 for ignored rows.

        Args:
            logits: (rows, classes); of several experts (experts, rows, classes).
            targets: Class of each row (rows,); negative or `ignore_index` for an ignored one.

        Returns:
            (rows,) and (rows,).
        """
        logits, targets, kept = without_ignored(logits, targets, self.ignore_index)
        terms, weights = self.terms(logits, targets)
        return terms * kept, weights * kept

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the weighted mean over kept rows: a scalar, 0 if all are ignored.

        Args:
            logits: (rows, classes); of several experts (experts, rows, classes).
            targets: Class of each row (rows,), integers; see `is_counted` for ignored ones.
        """
        return ratio_of_sums(*self.per_row(logits, targets))
