"""A loss in a package of its own, which tailora finds by its entry point."""

from torch import Tensor
from torch.nn import functional

import tailora
from tailora.counts import ClassCounts
from tailora.losses.row_loss import IGNORE_INDEX, RowLoss


class TemperedLoss(RowLoss):
    """Cross-entropy of logits divided by a temperature.

    Args:
        counts: Training samples per class.
        temperature: Above 0; 1 is cross-entropy.
        ignore_index: Target of rows that take no part.

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """

    def __init__(
        self, counts: ClassCounts, *, temperature: float = 1.0, ignore_index: int = IGNORE_INDEX
    ) -> None:
        super().__init__(ignore_index=ignore_index)
        self.temperature = temperature
        self.classes = len(counts.names)

    def terms(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Give the loss of each row (rows,) and its weight (rows,)."""
        losses = functional.cross_entropy(logits / self.temperature, targets, reduction="none")
        return losses, losses.new_ones(len(losses))


def add() -> None:
    """What the entry point names."""
    tailora.register("losses", "tempered", TemperedLoss)
