"""Which chips cover a scene, which cells of a map they cover, and with what weight.

A cell is the weighted mean of the chips that cover it, with a window that falls from the centre of
a chip to its edges. The weights are integrals of that window over the cell, so they are exact for
every step and for the last chips of a row, which are shifted back to end with the scene.
"""

import itertools
import math
from dataclasses import dataclass, field
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.data.scenes.scene import starts
from tailora.errors import ConfigError

LEAST_CHIP: Final = 4
_PIXELS: Final = 2**19  # of the chips of a block, if every pixel has a prediction
_ROWS: Final = 2  # of chips in such a block
_FLOOR: Final = 1e-6  # the window reaches nought at the edge of a chip, where no other may be


@final
@dataclass(frozen=True)
class Axis:
    """Chips along one side of a scene.

    Args:
        length: Pixels of the scene along this side.
        chip: Pixels of a chip.
        step: Stride between chips in pixels, at most `chip`.
        tokens: Equal parts of a chip with one prediction each.
        shift: Pixels by which the chips are shifted, less than `step`; those at both ends of the
            scene stay there.

    Attributes:
        cell: Pixels of a cell of the map: a step, or a part of a chip if there are several.
        cells: Number of cells; the last may extend beyond the scene.
        starts: First pixel of each chip, ascending (chips,).
    """

    length: int
    chip: int
    step: int
    tokens: int = 1
    shift: int = 0
    cell: int = field(init=False)
    cells: int = field(init=False)
    starts: NDArray[np.int64] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        cell = self.step if self.tokens == 1 else max(1, self.chip // self.tokens)
        first = np.array(starts(self.length, self.chip, self.step), dtype=np.int64)
        if self.shift:
            between = np.arange(self.shift, first[-1], self.step)
            first = np.unique(np.concatenate([first[[0, -1]], between]))
        object.__setattr__(self, "cell", cell)
        object.__setattr__(self, "cells", math.ceil(self.length / cell))
        object.__setattr__(self, "starts", first)

    def weights(self, first: int, last: int) -> tuple[int, NDArray[np.float64]]:
        """Return the weight of each part of chips `first` to `last - 1` in the cells they cover.

        Returns:
            Number of the first of these cells, and (chips * tokens, cells).
        """
        x = self.starts[first:last, None].astype(np.float64)
        parts = np.arange(self.tokens + 1) * (self.chip / self.tokens)
        low, high = (x + parts[:-1]).reshape(-1, 1), (x + parts[1:]).reshape(-1, 1)
        a, b = self.touched(first, last)
        edges = np.minimum(np.arange(a, b + 1) * self.cell, self.length)
        origin = np.repeat(x, self.tokens, axis=0)
        return a, np.diff(self._area(np.clip(edges[None], low, high) - origin), axis=1)

    def of_pixels(self) -> NDArray[np.float64]:
        """Return the weight of each pixel of a chip, if cells are pixels (chip,)."""
        return np.diff(self._area(np.arange(self.chip + 1.0)))

    def touched(self, first: int, last: int) -> tuple[int, int]:
        """Return the first cell that these chips cover, and the one after the last."""
        end = min(int(self.starts[last - 1]) + self.chip, self.length)
        return int(self.starts[first]) // self.cell, math.ceil(end / self.cell)

    def own(self, first: int, last: int) -> tuple[int, int]:
        """Return pixels from the first of these chips to the next: a partition of the scene."""
        end = int(self.starts[last]) if last < len(self.starts) else self.length
        return int(self.starts[first]), end

    def finished(self, last: int) -> int:
        """Return the first cell that a chip from number `last` on still covers."""
        return int(self.starts[last]) // self.cell if last < len(self.starts) else self.cells

    def _area(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the integral from 0 to u of the window, with raised-cosine ramps."""
        ramp = min(self.chip - self.step, self.chip / 2)
        area = u.copy()
        if ramp:
            area = np.where(u < self.chip / 2, _rise(u, ramp), self.chip - ramp)
            area = area - np.where(u < self.chip / 2, 0.0, _rise(self.chip - u, ramp))
        return area + _FLOOR * u


def _rise(u: NDArray[np.float64], ramp: float) -> NDArray[np.float64]:
    """Return the integral from 0 to u of a ramp that rises over `ramp` pixels to 1."""
    on_ramp = np.minimum(u, ramp)
    return u - on_ramp / 2 - ramp / (2 * math.pi) * np.sin(math.pi * on_ramp / ramp)


@final
@dataclass(frozen=True)
class Block:
    """Chips that are read and classified together: rows i0 to i1 - 1, columns j0 to j1 - 1."""

    i0: int
    i1: int
    j0: int
    j1: int


@final
@dataclass(frozen=True)
class ChipGrid:
    """The chips of a scene, and the resulting map.

    Args:
        shape: Rows and columns of the scene.
        chip: Pixels per side of a chip, at least 4.
        step: Stride between chips in pixels, from 1 to `chip`.
        tokens: Parts per side of a chip with one prediction each; 1 for a chip classifier.
        shift: See `Axis`.

    Raises:
        ConfigError: A size is out of range.
    """

    shape: tuple[int, int]
    chip: int
    step: int
    tokens: int = 1
    shift: int = 0
    rows: Axis = field(init=False)
    columns: Axis = field(init=False)

    def __post_init__(self) -> None:
        if self.chip < LEAST_CHIP:
            raise ConfigError(f"chip must be at least {LEAST_CHIP} pixels, got {self.chip}")
        if not 1 <= self.step <= self.chip:
            raise ConfigError(
                f"step must lie in 1..{self.chip}, the chip size, got {self.step}: a larger one "
                "would leave gaps"
            )
        for name, length in zip(("rows", "columns"), self.shape, strict=True):
            axis = Axis(length, self.chip, self.step, self.tokens, self.shift)
            object.__setattr__(self, name, axis)

    @property
    def map_shape(self) -> tuple[int, int]:
        """Rows and columns of the map."""
        return self.rows.cells, self.columns.cells

    @property
    def cell(self) -> int:
        """Scene pixels per side of a cell."""
        return self.rows.cell

    @property
    def per_pixel(self) -> bool:
        """Whether every pixel of a chip has a prediction, and a cell of the map."""
        return self.tokens == self.chip

    def __len__(self) -> int:
        return len(self.rows.starts) * len(self.columns.starts)

    def strips(self, side: int = 8) -> list[list[Block]]:
        """Yield blocks of about `side` x `side` chips, row by row."""
        if self.per_pixel:  # every pixel is held once for each class, so few rows of chips at once
            across = max(1, _PIXELS // (_ROWS * self.chip**2))
            wide, down = (
                _parts(len(axis.starts), most)
                for axis, most in ((self.columns, across), (self.rows, _ROWS))
            )
            return [[Block(*rows, *columns) for columns in wide] for rows in down]
        down = _parts(len(self.rows.starts), side)
        # a scene of few chips in height gets wider blocks, so that batches stay full
        wide = _parts(len(self.columns.starts), max(side, side**2 // max(b - a for a, b in down)))
        return [[Block(*rows, *columns) for columns in wide] for rows in down]


def _parts(n: int, most: int) -> list[tuple[int, int]]:
    """Divide n into runs of nearly equal length, none longer than `most`."""
    edges = np.linspace(0, n, math.ceil(n / most) + 1).round().astype(int).tolist()
    return list(itertools.pairwise(edges))
