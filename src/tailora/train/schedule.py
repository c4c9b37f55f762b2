"""How long and how fast a stage trains: linear warm-up, then a cosine."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tailora.errors import ConfigError


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Args:
        epochs: Passes over the rows, or what a sampler draws of them, at least 1.
        batch_size: Rows an optimiser step, at least 1.
        lr: Peak learning rate of AdamW; a linear warm-up leads to it, a cosine from it to 0.
        weight_decay: Of AdamW.
        warmup: Share of all steps that warm up, in [0, 1).
        micro_batch: Rows of a forward pass; None takes a step's rows at once.
        ema: Decay per step of an exponential moving average of the trained weights, in (0, 1),
            which is what is validated and kept; None keeps the weights of the last step. The decay
            of step t is at most (1 + t) / (10 + t), so that short trainings forget their start.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float = 0.0
    warmup: float = 0.1
    micro_batch: int | None = None
    ema: float | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "micro_batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if not 0 < self.lr < math.inf or not 0 <= self.warmup < 1:
            raise ConfigError(
                f"lr must be positive and warmup lie in [0, 1), got {self.lr} and {self.warmup}"
            )
        if self.ema is not None and not 0 < self.ema < 1:
            raise ConfigError(f"ema must lie in (0, 1), got {self.ema}")

    def decay(self, step: int) -> float:
        """Decay of the moving average at a step, from 1; 0 without an average."""
        return min(self.ema or 0.0, (1 + step) / (10 + step))

    def steps(self, rows: int | Sequence[int]) -> int:
        """Optimiser steps in all for this many rows per epoch, or a number for each epoch."""
        lengths = [rows] * self.epochs if isinstance(rows, int) else rows
        return sum(math.ceil(length / self.batch_size) for length in lengths)

    def factor(self, step: int, rows: int | Sequence[int]) -> float:
        """Learning rate of a step (from 0) over the peak, in (0, 1]."""
        total = self.steps(rows)
        warm = max(1, round(self.warmup * total))
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))
