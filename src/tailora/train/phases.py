"""A loss that changes once: deferred re-weighting, and losses that follow the epoch."""

from typing import final

from torch import Tensor, nn

from tailora.errors import ConfigError
from tailora.experts.margin_experts import PAPER_EPOCHS

REWEIGHTED = "reweighted"


def second_phase(share: float, epochs: int) -> int:
    """Return the first epoch of the second phase, from 0; both phases have at least one.

    Args:
        share: Of the epochs that the first phase has, in (0, 1).
        epochs: Of both phases, at least 2.

    Raises:
        ConfigError: A share out of range, or a single epoch.

    Example:
        >>> second_phase(0.8, 200), second_phase(0.8, 3), second_phase(0.1, 3)
        (160, 2, 1)
    """
    if not 0 < share < 1:
        raise ConfigError(f"train.deferred must lie in (0, 1), got {share!r}")
    if epochs < 2:
        raise ConfigError(f"train.deferred makes two phases of {epochs} epoch; give two or more")
    return min(epochs - 1, max(1, round(share * epochs)))


def reweighted(loss: nn.Module) -> nn.Module:
    """Return the re-weighted version of a loss that has one, e.g. LDAM's (DRW).

    Raises:
        ConfigError: The loss has none.
    """
    make = getattr(loss, "reweighted", None)
    if make is None:
        raise ConfigError(
            f"{type(loss).__name__} has no re-weighted version for train.deferred; choose "
            "train.loss=ldam, or name what follows with train.deferred_loss or "
            "train.deferred_sampler"
        )
    return make()


@final
class LossOfEpoch(nn.Module):
    """The loss of the current epoch; losses that say `follows_epoch` are told it.

    Args:
        first: The loss, or that of the first phase.
        second: Of the second phase; None has one phase.
        start: First epoch of the second phase.
        epochs: Of the training; losses are told the epoch of the papers' 200 that is as far.
    """

    def __init__(
        self,
        first: nn.Module,
        second: nn.Module | None = None,
        *,
        start: int = 0,
        epochs: int = PAPER_EPOCHS,
    ) -> None:
        super().__init__()
        self.first, self.second, self.start = first, second, start
        self.epoch, self.epochs = 0, epochs

    def start_epoch(self, epoch: int) -> None:
        """Begin an epoch, from 0."""
        self.epoch = epoch

    @property
    def current(self) -> nn.Module:
        """The loss of this epoch's phase."""
        return self.first if self.second is None or self.epoch < self.start else self.second

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of `logits` (..., rows, classes) and `targets` (rows,); a scalar."""
        loss = self.current
        if getattr(loss, "follows_epoch", False):
            return loss(logits, targets, epoch=PAPER_EPOCHS * self.epoch / self.epochs)
        return loss(logits, targets)
