"""Weighted means over the cells of a map while chips arrive from top to bottom.

Only cells that upcoming chips may cover are held: memory depends on the width of the scene, the
number of classes and the height of a row of blocks, not on the height of the scene.
"""

from collections.abc import Mapping
from typing import final

import numpy as np
from numpy.typing import NDArray

from tailora.inference.maps.chip_grid import Block, ChipGrid


@final
class Blend:
    """Sums of weighted class probabilities, and of the weights.

    Args:
        grid: Chips and cells.
        classes: Number of classes.
    """

    def __init__(self, grid: ChipGrid, classes: int) -> None:
        self.grid, self.first = grid, 0
        self.sums = np.zeros((0, grid.columns.cells, classes))
        self.weights = np.zeros((0, grid.columns.cells))
        self.held = np.zeros((0, grid.columns.cells))
        if grid.per_pixel:
            self.window = np.outer(grid.rows.of_pixels(), grid.columns.of_pixels())
            self.weighted = np.empty((*self.window.shape, classes))  # of one chip, used again

    def add(
        self,
        block: Block,
        shares: NDArray[np.float32],
        usable: NDArray[np.bool_],
        valid: NDArray[np.bool_],
    ) -> None:
        """Add the predictions for the chips of a block.

        Args:
            block: Which chips.
            shares: Class probabilities of the usable ones, in rows (chips, tokens, tokens,
                classes).
            usable: Which chips of the block these are (rows, columns).
            valid: Valid pixels of the block's own area (height, width).
        """
        grid, n_classes = self.grid, self.sums.shape[2]
        if grid.per_pixel:
            self._reach(grid.rows.touched(block.i0, block.i1)[1])
            self._add_pixels(block, shares, usable)
            self.count(block, valid)
            return
        first_row, down = grid.rows.weights(block.i0, block.i1)
        first_column, across = grid.columns.weights(block.j0, block.j1)
        self._reach(first_row + down.shape[1])
        place = np.s_[
            first_row - self.first : first_row - self.first + down.shape[1],
            first_column : first_column + across.shape[1],
        ]
        tokens = grid.tokens
        full = np.zeros((*usable.shape, tokens, tokens, n_classes))
        full[usable] = shares
        laid = full.swapaxes(1, 2).reshape(len(down), len(across), n_classes)
        by_row = np.tensordot(down.T, laid, axes=1)  # (cells down, chips across, classes)
        self.sums[place] += np.einsum("jb,ajk->abk", across, by_row, optimize=True)
        there = usable.repeat(tokens, axis=0).repeat(tokens, axis=1).astype(np.float64)
        self.weights[place] += down.T @ there @ across
        self.count(block, valid)

    def _add_pixels(
        self, block: Block, shares: NDArray[np.float32], usable: NDArray[np.bool_]
    ) -> None:
        """Do what `add` does where a cell is a pixel, chip by chip: each has one weight there."""
        for (i, j), own in zip(np.argwhere(usable), shares, strict=True):
            top, bottom = self.grid.rows.touched(block.i0 + i, block.i0 + i + 1)
            left, right = self.grid.columns.touched(block.j0 + j, block.j0 + j + 1)
            part = np.s_[: bottom - top, : right - left]  # a scene may end within its only chip
            place = np.s_[top - self.first : bottom - self.first, left:right]
            weight, weighted = self.window[part], self.weighted[part]
            np.multiply(weight[..., None], own[part], out=weighted)
            self.sums[place] += weighted
            self.weights[place] += weight

    def count(self, block: Block, valid: NDArray[np.bool_]) -> None:
        """Count the valid pixels of each cell; a cell may lie in several blocks.

        Args:
            block: Which chips.
            valid: As for `add`, which calls this.
        """
        grid = self.grid
        top, bottom = grid.rows.own(block.i0, block.i1)
        left, right = grid.columns.own(block.j0, block.j1)
        self._reach(-(-bottom // grid.cell))
        a, rows = _edges(top, bottom, grid.cell)
        b, columns = _edges(left, right, grid.cell)
        counts = np.add.reduceat(valid, rows, axis=0, dtype=np.int64)
        counts = np.add.reduceat(counts, columns, axis=1)
        a -= self.first
        self.held[a : a + counts.shape[0], b : b + counts.shape[1]] += counts

    def take(self, last: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return and remove the rows of cells that no chip row from number `last` on covers.

        Returns:
            Class probabilities (rows, cells, classes), NaN without a usable chip, and which cells
            have data in at least half of their pixels (rows, cells).
        """
        done = self.grid.rows.finished(last) - self.first
        self._reach(self.first + done)
        shares = np.empty((done, *self.sums.shape[1:]), dtype=np.float32)
        with np.errstate(invalid="ignore"):
            np.divide(
                self.sums[:done], self.weights[:done, :, None], out=shares, casting="same_kind"
            )
        pixels = np.outer(
            _widths(self.grid.rows.cell, self.grid.shape[0], self.first, self.first + done),
            _widths(self.grid.columns.cell, self.grid.shape[1], 0, self.grid.columns.cells),
        )
        has_data = 2 * self.held[:done] >= pixels
        self.sums, self.weights = self.sums[done:].copy(), self.weights[done:].copy()
        self.held = self.held[done:].copy()
        self.first += done
        return shares, has_data

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Return the state of a resumable map; see `restore`."""
        return {"sums": self.sums, "weights": self.weights, "held": self.held}

    def restore(self, first: int, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Continue from a `state` whose first row of cells was number `first`."""
        self.first = first
        self.sums, self.weights, self.held = state["sums"], state["weights"], state["held"]

    def _reach(self, last: int) -> None:
        more = last - self.first - len(self.sums)
        if more > 0:
            self.sums = _longer(self.sums, more)
            self.weights = _longer(self.weights, more)
            self.held = _longer(self.held, more)


def _edges(start: int, stop: int, cell: int) -> tuple[int, NDArray[np.int64]]:
    """Return the first cell of a run of pixels, and where in the run each cell begins."""
    first = start // cell
    return first, np.maximum(np.arange(first, -(-stop // cell)) * cell - start, 0)


def _widths(cell: int, length: int, first: int, last: int) -> NDArray[np.int64]:
    """Return the width in scene pixels of the cells along a side."""
    return np.diff(np.minimum(np.arange(first, last + 1) * cell, length))


def _longer(array: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    return np.concatenate([array, np.zeros((rows, *array.shape[1:]))])
