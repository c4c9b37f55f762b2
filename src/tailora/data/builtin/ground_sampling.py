"""Sample square crops of one large picture with spatially separate splits."""

from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.data.splits import SPLITS, divide_groups
from tailora.errors import DataError

UNUSED: Final = -1

SHARES_OF_BLOCKS: Final = (0.6, 0.15, 0.25)
_TRAIN, _VAL, _TEST = range(len(SPLITS))


@final
@dataclass(frozen=True)
class Crops:
    """Crop locations, one row each.

    Attributes:
        rows: Centre (crops,): the upper edge of this picture row.
        columns: Centre (crops,): the left edge of this picture column.
        codes: Class at the centre (crops,), an index into a list of class names.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    codes: NDArray[np.int64]

    def take(self, indices: NDArray[Any]) -> "Crops":
        """Select some crops, in the order given."""
        return Crops(self.rows[indices], self.columns[indices], self.codes[indices])


@final
@dataclass(frozen=True)
class Ground:
    """A picture divided into blocks that are each assigned to one split.

    Attributes:
        shape: Rows and columns of the picture; if its left and right edges are adjacent, columns
            must be a multiple of the block.
        crop: Pixels per side of a crop, even, at most the block's.
        block: Pixels per side of a block.
    """

    shape: tuple[int, int]
    crop: int
    block: int

    @property
    def n_blocks(self) -> int:
        """Number of blocks, including partial ones at the lower and right edges."""
        return -(-self.shape[0] // self.block) * self._blocks_across

    @property
    def _blocks_across(self) -> int:
        return -(-self.shape[1] // self.block)

    def blocks(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of the block containing each pixel, row by row (pixels,)."""
        return rows // self.block * self._blocks_across + columns % self.shape[1] // self.block

    def corner_blocks(self, crops: Crops) -> NDArray[np.int64]:
        """Blocks of the corner pixels of each crop (4, crops): all blocks that it touches."""
        half = self.crop // 2
        return np.stack(
            [
                self.blocks(crops.rows + down, crops.columns + right)
                for down in (-half, half - 1)
                for right in (-half, half - 1)
            ]
        )

    def within_one_block(self, crops: Crops) -> NDArray[np.bool_]:
        """Which crops are usable however the neighbouring blocks are assigned (crops,)."""
        corners = self.corner_blocks(crops)
        return (corners == corners[0]).all(axis=0)

    def divide(
        self, crops: Crops, amounts: NDArray[np.float64], *, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Assign blocks to train (0), val (1) and test (2), each class to all three if possible.

        Args:
            crops: Candidates.
            amounts: Amount of each class in each block (blocks, classes).
            rng: Breaks ties.

        Returns:
            Split of each block (blocks,), and of each crop (crops,): `UNUSED` if it touches a block
            of another split, so that crops of different splits never share a pixel.
        """
        of_blocks = divide_groups(amounts, fractions=SHARES_OF_BLOCKS, rng=rng)
        sides = of_blocks[self.corner_blocks(crops)]
        return of_blocks, np.where((sides == sides[0]).all(axis=0), sides[0], UNUSED)


@final
@dataclass(frozen=True)
class Sample:
    """The sampled crops.

    Attributes:
        crops: Their locations.
        splits: `"train"`, `"val"` or `"test"` (crops,).
        groups: Name of the block or polygon that makes crops dependent (crops,).
        notes: What was sampled and dropped.
    """

    crops: Crops
    splits: NDArray[np.str_]
    groups: NDArray[np.str_]
    notes: tuple[str, ...]


@final
@dataclass(frozen=True)
class Amounts:
    """Number of crops to sample.

    Attributes:
        train: Training crops over all classes, so that class shares stay natural.
        val_per_class: Maximum number of validation crops per class.
        test_per_class: Maximum number of test crops per class.
        min_train: Classes with fewer training crops are dropped, as are classes without a crop in
            val or test.
    """

    train: int
    val_per_class: int
    test_per_class: int
    min_train: int


def equal_neighbours(codes: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark label pixels whose eight neighbours have the same code (rows, columns).

    Opposite edges count as neighbours; callers whose picture does not wrap must exclude the edges.
    """
    pure = np.ones(codes.shape, dtype=bool)
    for shift in (-1, 1):  # equal columns to the left and right, then equal such rows
        pure &= codes == np.roll(codes, shift, axis=1)
    in_row = pure.copy()
    for shift in (-1, 1):
        pure &= np.roll(in_row, shift, axis=0) & (codes == np.roll(codes, shift, axis=0))
    return pure


def draw_splits(
    codes: NDArray[np.int64],
    sides: NDArray[np.int64],
    *,
    weights: NDArray[np.float64],
    names: tuple[str, ...],
    amounts: Amounts,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Sample training crops by weight, and val and test crops class by class.

    Args:
        codes: Class of each candidate (candidates,), an index into `names`.
        sides: Split of each candidate (candidates,), from `Ground.divide`.
        weights: Sampling weight of each candidate (candidates,).
        names: Class names; `""` for codes that are never a class.
        amounts: Numbers to sample.
        rng: Random generator.

    Returns:
        Rows of the sampled candidates, and a note on dropped classes, if any.

    Raises:
        DataError: There are fewer candidates than training crops.
    """
    drawn = [_draw(np.flatnonzero(sides == _TRAIN), weights, amounts.train, rng=rng)]
    if len(drawn[0]) < amounts.train:
        raise DataError(
            f"only {len(drawn[0])} training crops are available, {amounts.train} were requested"
        )
    for side, most in ((_VAL, amounts.val_per_class), (_TEST, amounts.test_per_class)):
        for code in range(len(names)):
            rows = np.flatnonzero((sides == side) & (codes == code))
            drawn.append(_draw(rows, weights, most, rng=rng))
    return _drop_rare(np.concatenate(drawn), codes, sides, names, min_train=amounts.min_train)


def _draw(
    candidates: NDArray[np.int64],
    weights: NDArray[np.float64],
    most: int,
    *,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    if len(candidates) <= most:
        return candidates
    share = weights[candidates] / weights[candidates].sum()
    return np.sort(rng.choice(candidates, size=most, replace=False, p=share))


def _drop_rare(
    chosen: NDArray[np.int64],
    codes: NDArray[np.int64],
    sides: NDArray[np.int64],
    names: tuple[str, ...],
    *,
    min_train: int,
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Drop classes that cannot be trained or tested, and list them with their training crops."""
    counts = np.zeros((len(SPLITS), len(names)), dtype=np.int64)
    np.add.at(counts, (sides[chosen], codes[chosen]), 1)
    rare = np.flatnonzero(np.any(counts < [[min_train], [1], [1]], axis=0))
    kept = chosen[~np.isin(codes[chosen], rare)]
    dropped = [f"{names[c]} ({counts[_TRAIN, c]} training crops)" for c in rare if names[c]]
    if not dropped:
        return kept, ()
    return kept, (f"dropped as too rare to train or test: {', '.join(dropped)}",)
