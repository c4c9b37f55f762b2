"""Early stopping: validate after each epoch, and keep the weights of the best one.

Reference: Goodfellow, Bengio and Courville, Deep Learning, MIT Press 2016, algorithm 7.1, with an
epoch between evaluations.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora import processes
from tailora.train.training_module import TrainingModule

_DRAWS: Final = 3  # apart from what an epoch's order and augmentation are drawn from
Score = Callable[[NDArray[np.int64], NDArray[np.int64]], float]


@dataclass(frozen=True)
class EarlyStopping:
    """When to stop, and what to validate on.

    Args:
        patience: Epochs without an improvement before training stops, at least 1.
        rows: Validation sample numbers.
        labels: Class index of every sample (samples,).
        score: Higher is better, of validation labels and predictions (rows,).
        batch_size: Rows per forward pass.
    """

    patience: int
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    score: Score
    batch_size: int


@dataclass(frozen=True)
class Validation:
    """Validates a training, the same way after every epoch.

    The measure is the score of the head trained along, or the loss if there is no such head; the
    loss sees the same augmentation draws after every epoch.

    Args:
        training: What is trained.
        stopping: When to stop, and what to validate on.
    """

    training: TrainingModule
    stopping: EarlyStopping

    @property
    def measure(self) -> str:
        """`"macro_f1"`, or `"loss"`."""
        return "loss" if self.training.predict is None else "macro_f1"

    def is_better(self, value: float, other: float) -> bool:
        """Tell whether a value is an improvement on another."""
        return value < other if self.training.predict is None else value > other

    def value(self, module: nn.Module, accelerator: Accelerator, *, seed: int) -> float:
        """Validate in evaluation mode; processes share the rows and all get the same value."""
        module.eval()
        rows = self.stopping.rows
        mine = processes.dealt(rows, accelerator)
        generator = np.random.default_rng([seed, _DRAWS])
        found: list[Tensor] = []
        with torch.no_grad(), accelerator.autocast():
            for start in range(0, len(mine), self.stopping.batch_size):
                batch = mine[start : start + self.stopping.batch_size]
                found.append(self._look(batch, generator).expand(len(batch)))
        every = processes.gathered(torch.cat(found), len(rows), accelerator).cpu().numpy()
        if self.training.predict is None:
            return float(every.mean(dtype=np.float64))
        return self.stopping.score(self.stopping.labels[rows], every)

    def _look(self, batch: NDArray[np.int64], generator: np.random.Generator) -> Tensor:
        """Predicted classes (rows,), or the loss of the batch."""
        if self.training.predict is not None:
            return self.training.predict(batch)
        return (self.training.validation_loss or self.training.objective)(batch, generator)
