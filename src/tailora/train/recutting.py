"""Training on windows that are re-cut around a pixel of the class that they were drawn for."""

from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tailora.augment.recut import move_images
from tailora.data import Dataset
from tailora.samplers.class_shares import ClassShareSampler
from tailora.train.sampling import Order, sampler_at


class Recuts(Protocol):
    """What knows the pixels of a class; a `tailora.tasks.Task` does."""

    def recut(
        self,
        data: Dataset,
        sample: int,
        grid: tuple[int, ...],
        *,
        chances: NDArray[np.float64],
        reach: float,
        draws: NDArray[np.float64],
        fit: str,
    ) -> tuple[NDArray[np.float64], NDArray[np.integer]]:
        """Move a window, as shares of its side (2,); give its targets then (*grid)."""
        ...


@final
class Recutting:
    """Windows that are re-cut around a pixel of the class that a sampler drew them for.

    Args:
        task: The task.
        data: The annotations.
        rows: Numbers of the samples that are drawn (rows,).
        held: Which classes each of them holds (rows, classes).
        order: What draws them.
        grid: Shape of the decisions about one image.
        reach: Largest move in shares of the side, in (0, 1].
        fit: How images were made square.
    """

    def __init__(
        self,
        task: Recuts,
        data: Dataset,
        rows: NDArray[np.int64],
        held: NDArray[np.bool_],
        order: Order,
        *,
        grid: tuple[int, ...],
        reach: float,
        fit: str,
    ) -> None:
        self.task, self.data, self.rows, self.held = task, data, rows, held
        self.order, self.grid, self.reach, self.fit = order, grid, reach, fit
        self.chances: NDArray[np.float64] | None = None

    def start_epoch(self, epoch: int) -> None:
        """Begin an epoch, from 0; one without a sampler of classes leaves windows as they are."""
        sampler = sampler_at(self.order, epoch)
        self.chances = None
        if isinstance(sampler, ClassShareSampler):
            self.chances = np.zeros((len(self.data), self.held.shape[1]))
            occurring = np.flatnonzero(self.held.any(axis=0))
            sampler.set_epoch(epoch)
            self.chances[np.ix_(self.rows, occurring)] = sampler.class_chances()

    def __call__(
        self, batch: NDArray[np.int64], pixels: Tensor, draws: NDArray[np.float64]
    ) -> tuple[Tensor, NDArray[np.integer]]:
        """Move images (batch, bands, size, size); give their targets too (batch, *grid).

        Args:
            batch: Sample numbers (batch,).
            pixels: Their images.
            draws: In [0, 1) (batch, 3).
        """
        assert self.chances is not None
        size, moves, targets = pixels.shape[-1], [], []
        for sample, own in zip(batch.tolist(), draws, strict=True):
            move, then = self.task.recut(
                self.data, sample, self.grid,
                chances=self.chances[sample], reach=self.reach, draws=own, fit=self.fit,
            )  # fmt: skip
            moves.append(np.round(move * size).astype(int).clip(1 - size, size - 1))
            targets.append(then)
        return move_images(pixels, np.stack(moves)), np.stack(targets)
