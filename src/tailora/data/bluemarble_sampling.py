"""Choose crops of a world picture by the land cover at their centre, splits apart on the ground."""

from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.data.group_division import divide_groups
from tailora.data.splits import SPLITS
from tailora.errors import DataError

CROP: Final = 32
BLOCK: Final = 75  # picture pixels; 5 degrees where the picture is 5400 pixels wide
CLASS_NAMES: Final = (
    "water",  # code 0, never sampled
    "evergreen needleleaf",
    "evergreen broadleaf",
    "deciduous needleleaf",
    "deciduous broadleaf",
    "mixed forest",
    "closed shrubland",
    "open shrubland",
    "woody savanna",
    "savanna",
    "grassland",
    "permanent wetland",
    "cropland",
    "urban",
    "cropland/natural mosaic",
    "snow and ice",
    "barren",
)

_SHARES_OF_BLOCKS: Final = (0.6, 0.15, 0.25)
_SOUTHERN_LIMIT: Final = -60.0
_TRAIN, _VAL, _TEST = range(len(SPLITS))


@final
@dataclass(frozen=True)
class Crops:
    """Places on the picture, one row each.

    Attributes:
        rows: Centre (crops,): the upper edge of this picture row.
        columns: Centre (crops,): the left edge of this picture column.
        codes: Land cover (crops,), an index into `CLASS_NAMES`.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    codes: NDArray[np.int64]

    def take(self, indices: NDArray[np.int64]) -> "Crops":
        """Some of the crops, in the order given."""
        return Crops(self.rows[indices], self.columns[indices], self.codes[indices])


@final
@dataclass(frozen=True)
class Sample:
    """Chosen crops.

    Attributes:
        crops: Where they are.
        splits: `"train"`, `"val"` or `"test"` (crops,).
        blocks: Name of the block of ground that holds the centre (crops,).
        notes: What was drawn and what was dropped.
    """

    crops: Crops
    splits: NDArray[np.str_]
    blocks: NDArray[np.str_]
    notes: tuple[str, ...]


def sample_crops(
    codes: NDArray[np.uint8],
    shape: tuple[int, int],
    *,
    train: int,
    val_per_class: int,
    test_per_class: int,
    min_train: int,
    seed: int,
) -> Sample:
    """Draw training crops by area, and val and test crops class by class, from separate blocks.

    Neighbouring crops look alike, so the picture is cut into blocks that go whole to train, val or
    test. A crop that reaches into a block of another split is not used: crops of different splits
    never share a pixel.

    Args:
        codes: Land cover of the world in plate carree (label rows, label columns).
        shape: Rows and columns of the picture of the same extent, multiples of the block.
        train: Training crops to draw.
        val_per_class: Most validation crops of a class.
        test_per_class: Most test crops of a class.
        min_train: Classes with fewer training crops are dropped, and so are classes without a
            crop in val or test.
        seed: Decides blocks and crops.

    Raises:
        DataError: There are fewer candidates than training crops.
    """
    rng = np.random.default_rng(seed)
    crops = pure_centres(codes, shape)
    sides = divide_ground(crops, shape, rng=rng)
    area = np.cos(np.deg2rad(_latitudes(crops.rows, shape)))
    drawn = [_draw(np.flatnonzero(sides == _TRAIN), area, train, rng=rng)]
    if len(drawn[0]) < train:
        raise DataError(f"only {len(drawn[0])} training crops can be had, {train} were asked for")
    for side, most in ((_VAL, val_per_class), (_TEST, test_per_class)):
        for code in range(1, len(CLASS_NAMES)):
            rows = np.flatnonzero((sides == side) & (crops.codes == code))
            drawn.append(_draw(rows, area, most, rng=rng))
    chosen, dropped = _drop_rare(np.concatenate(drawn), crops.codes, sides, min_train=min_train)
    kept = crops.take(chosen)
    notes = _notes(train, val_per_class, test_per_class, dropped=dropped)
    blocks = np.char.add("block ", _blocks(kept.rows, kept.columns, shape).astype(np.str_))
    return Sample(kept, np.array(SPLITS)[sides[chosen]], blocks, notes)


def pure_centres(codes: NDArray[np.uint8], shape: tuple[int, int]) -> Crops:
    """Find every crop whose centre lies in a label pixel with eight equal neighbours, on land.

    Args:
        codes: Land cover (label rows, label columns); the left and right edges meet.
        shape: Rows and columns of the picture.

    Returns:
        Crops north of 60 degrees south that fit between the upper and lower edges.
    """
    pure = codes > 0
    for shift in (-1, 1):  # equal columns to the left and right, then equal such rows
        pure &= codes == np.roll(codes, shift, axis=1)
    in_row = pure.copy()
    for shift in (-1, 1):
        pure &= np.roll(in_row, shift, axis=0) & (codes == np.roll(codes, shift, axis=0))
    # the centre of an even-sized crop is a corner of pixels, at exactly row * ratio in label rows
    label_rows = np.arange(shape[0]) * codes.shape[0] // shape[0]
    label_columns = np.arange(shape[1]) * codes.shape[1] // shape[1]
    rows, columns = np.nonzero(pure[np.ix_(label_rows, label_columns)])
    fits = (rows >= CROP // 2) & (rows <= shape[0] - CROP // 2)
    fits &= _latitudes(rows, shape) >= _SOUTHERN_LIMIT
    rows, columns = rows[fits], columns[fits]
    return Crops(rows, columns, codes[label_rows[rows], label_columns[columns]].astype(np.int64))


def divide_ground(
    crops: Crops, shape: tuple[int, int], *, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Give blocks to train (0), val (1) and test (2), each class to all if it can be.

    Args:
        crops: Candidates.
        shape: Rows and columns of the picture.
        rng: Decides among equals.

    Returns:
        Side of each crop (crops,); -1 where it reaches into a block of another side.
    """
    half = CROP // 2
    corners = np.stack(
        [
            _blocks(crops.rows + down, crops.columns + right, shape)
            for down in (-half, half - 1)
            for right in (-half, half - 1)
        ]
    )
    # what counts is what stays usable whichever way the neighbouring blocks go
    inside = (corners == corners[0]).all(axis=0)
    n_blocks = shape[0] // BLOCK * (shape[1] // BLOCK)
    area = np.cos(np.deg2rad(_latitudes(crops.rows[inside], shape)))
    amounts = np.zeros((n_blocks, len(CLASS_NAMES)))
    np.add.at(amounts, (corners[0, inside], crops.codes[inside]), area)
    sides = divide_groups(amounts, fractions=_SHARES_OF_BLOCKS, rng=rng)[corners]
    return np.where((sides == sides[0]).all(axis=0), sides[0], -1)


def _blocks(
    rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.int64]:
    return rows // BLOCK * (shape[1] // BLOCK) + columns % shape[1] // BLOCK


def _latitudes(rows: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Latitude of the upper edge of picture rows, in degrees."""
    return 90 - 180 * rows / shape[0]


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
    *,
    min_train: int,
) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Drop classes that cannot be learnt or tested; also returns their training crops by name."""
    counts = np.zeros((len(SPLITS), len(CLASS_NAMES)), dtype=np.int64)
    np.add.at(counts, (sides[chosen], codes[chosen]), 1)
    rare = np.flatnonzero(np.any(counts < [[min_train], [1], [1]], axis=0))
    dropped = {CLASS_NAMES[code]: int(counts[_TRAIN, code]) for code in rare if code > 0}
    return chosen[~np.isin(codes[chosen], rare)], dropped


def _notes(train: int, val: int, test: int, *, dropped: dict[str, int]) -> tuple[str, ...]:
    notes = [
        f"training: {train} crops drawn by area, so class shares are natural; val and test: up to "
        f"{val} and {test} crops of each class, so theirs are not",
        f"splits hold whole blocks of {BLOCK} pixels and share no pixel; crops of one split may "
        "overlap, so intervals should resample blocks",
    ]
    if dropped:
        rare = ", ".join(f"{name} ({n} training crops)" for name, n in dropped.items())
        notes.append(f"dropped as too rare to learn or to test: {rare}")
    return tuple(notes)
