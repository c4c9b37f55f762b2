"""Chips of a scene read block by block, by threads ahead of the model and one behind it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from tailora.data.rasters.values import fill_gaps
from tailora.data.scenes.scene import Scene
from tailora.data.scenes.warped import WarpedScene
from tailora.errors import DataError
from tailora.inference.maps.chip_grid import Block, ChipGrid

_THREADS: Final = 2
_AHEAD: Final = 4  # blocks that may wait for the model
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@final
@dataclass(frozen=True)
class BlockOfChips:
    """The chips read for a block.

    Attributes:
        block: The block.
        images: Prepared usable chips (chips, bands, size, size), or None.
        usable: Which chips of the block are usable (rows, columns).
        valid: Valid pixels of the block's own area (height, width).
        broken: Number of unreadable chips.
    """

    block: Block
    images: NDArray[Any] | None
    usable: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    broken: int


@final
@dataclass(frozen=True)
class ChipReader:
    """Reads blocks of chips.

    Args:
        scene: The scene.
        grid: The chips.
        prepare: Converts a chip (bands, chip, chip) to the model's input.
        most_nodata: Chips with a larger share of no-data pixels are skipped, in [0, 1).
        skip_broken: Skip unreadable chips, instead of stopping.
        mirror: Fill chips larger than the scene with its mirror image, else with 0.
    """

    scene: Scene | WarpedScene
    grid: ChipGrid
    prepare: Callable[[NDArray[Any]], NDArray[Any]]
    most_nodata: float = 0.5
    skip_broken: bool = False
    mirror: bool = True

    def read(self, block: Block) -> BlockOfChips:
        """Read one block; thread-safe.

        Raises:
            DataError: Part of it cannot be read and broken chips are not skipped.
        """
        top, left, values, valid, is_broken = self._window(block)
        chip, grid = self.grid.chip, self.grid
        usable = ~is_broken
        images: list[NDArray[Any]] = []
        for i, j in np.argwhere(usable):
            row = int(grid.rows.starts[block.i0 + i]) - top
            column = int(grid.columns.starts[block.j0 + j]) - left
            part = np.s_[row : row + chip, column : column + chip]
            mask = valid[part]
            if mask.mean() < 1 - self.most_nodata or not mask.any():
                usable[i, j] = False
                continue
            full = whole(_filled(values[:, *part], mask), chip, mirror=self.mirror)
            images.append(self.prepare(full))
        own_rows, own_columns = (
            grid.rows.own(block.i0, block.i1),
            grid.columns.own(block.j0, block.j1),
        )
        own = valid[
            own_rows[0] - top : own_rows[1] - top, own_columns[0] - left : own_columns[1] - left
        ]
        stacked = np.stack(images) if images else None
        return BlockOfChips(block, stacked, usable, own, int(is_broken.sum()))

    def _window(
        self, block: Block
    ) -> tuple[int, int, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]:
        """Read the pixels of a block; if the window fails, each of its chips is tried."""
        rows, columns = self.grid.rows, self.grid.columns
        top, left = int(rows.starts[block.i0]), int(columns.starts[block.j0])
        height = min(int(rows.starts[block.i1 - 1]) + self.grid.chip, rows.length) - top
        width = min(int(columns.starts[block.j1 - 1]) + self.grid.chip, columns.length) - left
        is_broken = np.zeros((block.i1 - block.i0, block.j1 - block.j0), dtype=bool)
        try:
            return top, left, *self.scene.read(top, left, height, width), is_broken
        except DataError as error:
            if not self.skip_broken:
                raise DataError(
                    f"{error}; copy it again, or let these chips have no class with --skip-broken"
                ) from error
        values = np.zeros((len(self.scene.bands), height, width), dtype=self.scene.dtype)
        valid = np.zeros((height, width), dtype=bool)
        chip = self.grid.chip
        for i, j in np.argwhere(~is_broken):
            row, column = int(rows.starts[block.i0 + i]), int(columns.starts[block.j0 + j])
            size = min(chip, rows.length - row), min(chip, columns.length - column)
            try:
                read, mask = self.scene.read(row, column, *size)
            except DataError:
                is_broken[i, j] = True
                continue
            part = np.s_[row - top : row - top + size[0], column - left : column - left + size[1]]
            values[:, *part], valid[part] = read, mask
        return top, left, values, valid, is_broken


def ahead(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Yield the results of `work` in order, while threads compute the next few.

    Example:
        >>> list(ahead(abs, [-1, 2, -3]))
        [1, 2, 3]
    """
    waiting: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="chips") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def behind(work: Callable[[_Item], object], items: Iterable[_Item]) -> None:
    """Call `work` for items in order, in a thread, while the next item is made here.

    Example:
        >>> seen = []
        >>> behind(seen.append, [1, 2])
        >>> seen
        [1, 2]
    """
    last: Future[object] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="cells") as pool:
        for item in items:
            if last:
                last.result()
            last = pool.submit(work, item)
        if last:
            last.result()


def _filled(values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """Fill pixels without data with the mean of the others of their band, as in training."""
    if valid.all():
        return values
    return fill_gaps(values.copy(), np.broadcast_to(~valid, values.shape))


def whole(values: NDArray[Any], chip: int, *, mirror: bool = True) -> NDArray[Any]:
    """Fill a chip that a scene is smaller than, with its mirror image or with 0."""
    down, right = chip - values.shape[1], chip - values.shape[2]
    if not down and not right:
        return values
    beyond = ((0, 0), (0, down), (0, right))
    return np.pad(values, beyond, mode="symmetric") if mirror else np.pad(values, beyond)
