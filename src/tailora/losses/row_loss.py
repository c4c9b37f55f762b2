"""What every loss on rows of logits shares: rows that are ignored, and the weighted mean."""

from abc import ABC, abstractmethod
from typing import Final

import torch
from torch import Tensor, nn

IGNORE_INDEX: Final = -100  # torch's


def without_ignored(
    logits: Tensor, targets: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Replace ignored rows by harmless ones, and tell which rows are kept.

    Rows stay where they are, so that no size depends on the data (a GPU need not wait).

    Args:
        logits: (..., rows, classes).
        targets: Class of each row (rows,), or `ignore_index`.
        ignore_index: Target of rows that take no part.

    Returns:
        Logits that are 0 in ignored rows, whatever they held; targets that are 0 there; booleans
        (rows,), true where a row is kept.
    """
    kept = targets != ignore_index
    return logits.masked_fill(~kept[:, None], 0.0), targets.masked_fill(~kept, 0), kept


def ratio_of_sums(terms: Tensor, weights: Tensor) -> Tensor:
    """Divide the sum of weighted terms by the sum of their weights, as torch does.

    A batch without rows (a tile that is all nodata), whose rows are all ignored, or whose rows
    weigh nothing, gives 0 with a gradient of 0; torch gives NaN.

    Args:
        terms: Weighted loss of each row (rows,).
        weights: Of each row (rows,), at least 0.
    """
    total = weights.sum()
    some = total > 0
    return torch.where(some, terms.sum() / torch.where(some, total, torch.ones_like(total)), 0.0)


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """Mean of row losses (rows,) by their weights (rows,); 0 where nothing weighs."""
    return ratio_of_sums(losses * weights, weights)


class RowLoss(nn.Module, ABC):
    """A weighted mean of one term per row, so that a row may be left out or count for a share.

    A loss says what a row's term is in `terms`, where targets are classes and nothing else; rows
    to ignore are dealt with here.

    Args:
        ignore_index: Target of rows that take no part.
    """

    def __init__(self, *, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    @abstractmethod
    def terms(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return each row's weighted loss (rows,) and its weight (rows,), all `targets` classes."""

    def per_row(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted loss of each row and how much it weighs; ignored rows have 0 and 0.

        Args:
            logits: (rows, classes); of several experts (experts, rows, classes).
            targets: Class of each row (rows,), or `ignore_index`.

        Returns:
            (rows,) and (rows,).
        """
        logits, targets, kept = without_ignored(logits, targets, self.ignore_index)
        terms, weights = self.terms(logits, targets)
        return terms * kept, weights * kept

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Average over the rows kept, by their weights: a scalar, 0 where all are ignored.

        Args:
            logits: (rows, classes); of several experts (experts, rows, classes).
            targets: Class of each row (rows,), integers, or `ignore_index`.
        """
        return ratio_of_sums(*self.per_row(logits, targets))
