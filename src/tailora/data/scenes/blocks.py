"""Split chips into train, val and test by spatial blocks, with each polygon in one split only.

Windows with a class for each pixel are split in the same way, with a margin in place of polygons.

Neighbouring chips look alike and share pixels, so a random split rewards memorisation. Blocks are
numbered on the ground and not in the image: where scenes overlap, the same ground goes to the same
split.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from tailora.data.scenes.places import Places
from tailora.data.scenes.scene import Scene
from tailora.data.splits import divide_groups

FRACTIONS: Final = (0.6, 0.15, 0.25)
UNUSED: Final = -1

_BLOCKS: Final = 300  # in a scene, if blocks are then at least four chips wide
_CHIPS_A_BLOCK: Final = 4
_APART: Final = 2**20  # blocks between scenes of different CRSs


def default_block(scenes: Sequence[Scene], chip: int) -> int:
    """Return the block side: four chips, or more if that still gives hundreds of blocks."""
    area = sum(scene.shape[0] * scene.shape[1] for scene in scenes)
    wanted = (area / _BLOCKS) ** 0.5
    return max(_CHIPS_A_BLOCK * chip, round(wanted / chip) * chip)


def divide_places(
    places: Places,
    scenes: Sequence[Scene],
    *,
    chip: int,
    block: int,
    n_classes: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Assign each chip to train (0), val (1), test (2), or `UNUSED`.

    A polygon belongs to the block with most of its chips; chips that extend into a block of another
    split are not used, so chips of different splits share neither a pixel nor a polygon.

    Args:
        places: At least one.
        scenes: The scenes that `places.scenes` indexes.
        chip: Pixels per side of a chip.
        block: Pixels per side of a block, at least a chip.
        n_classes: Number of classes.
        rng: Breaks ties.

    Returns:
        Split of each chip, and the number of the block of its first pixel (chips,) each.
    """
    corners = _corner_blocks(places, scenes, chip=chip, block=block)
    n_blocks = int(corners.max()) + 1
    within = (corners == corners[0]).all(axis=0)
    homes = _homes(places.things, corners[0], within)
    stays = within & (corners[0] == homes[places.things])
    _, thing_rows = np.unique(places.things, return_inverse=True)
    held = np.zeros((thing_rows.max() + 1, n_classes))
    np.add.at(held, (thing_rows[stays], places.codes[stays]), 1)
    # The root is a compromise between counting polygons, which leaves chips to chance, and counting
    # chips, which lets one large polygon be all that a class has in a split.
    amounts = np.zeros((n_blocks, n_classes))
    first = np.unique(places.things)
    at_home = homes[first] >= 0
    np.add.at(amounts, homes[first][at_home], np.sqrt(held[at_home]))
    of_blocks = divide_groups(amounts, fractions=FRACTIONS, rng=rng)
    sides = of_blocks[corners]
    home = homes[places.things]
    own = np.where(home < 0, UNUSED, of_blocks[home])
    return np.where((sides == sides[0]).all(axis=0) & (sides[0] == own), own, UNUSED), corners[0]


def divide_windows(
    places: Places,
    scenes: Sequence[Scene],
    amounts: NDArray[np.integer],
    *,
    chip: int,
    block: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Assign each window to train (0), val (1), test (2), or `UNUSED`.

    Windows across the border between splits are not used, nor are training windows with less than
    a window between them and one of the other splits.

    Args:
        places: At least one.
        scenes: The scenes that `places.scenes` indexes.
        amounts: Pixels of each class in each window (windows, classes).
        chip: Pixels per side of a window.
        block: Pixels per side of a block, at least a window.
        rng: Breaks ties.

    Returns:
        Split of each window, the number of the block of its first pixel (windows,) each, and how
        many training windows the margin took.
    """
    corners = _corner_blocks(places, scenes, chip=chip, block=block)
    within = (corners == corners[0]).all(axis=0)
    held = np.zeros((int(corners.max()) + 1, amounts.shape[1]))
    np.add.at(held, corners[0][within], amounts[within])
    sides = divide_groups(held, fractions=FRACTIONS, rng=rng)[corners]
    sides = np.where((sides == sides[0]).all(axis=0), sides[0], UNUSED)
    at = np.stack([places.rows, places.columns], axis=1) + _origins(scenes, block)[places.scenes]
    train, others = np.flatnonzero(sides == 0), np.flatnonzero(sides > 0)
    if len(train) and len(others):
        apart, _ = KDTree(at[others]).query(at[train], p=np.inf)
        near = train[apart < 2 * chip]
        sides[near] = UNUSED
        return sides, corners[0], len(near)
    return sides, corners[0], 0


def all_to_test(
    places: Places, scenes: Sequence[Scene], *, chip: int, block: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Assign every chip to test; returns what `divide_places` does."""
    corners = _corner_blocks(places, scenes, chip=chip, block=block)
    return np.full(len(places), len(FRACTIONS) - 1), corners[0]


def _corner_blocks(
    places: Places, scenes: Sequence[Scene], *, chip: int, block: int
) -> NDArray[np.int64]:
    """Number the blocks that contain the corner pixels of each chip (4, chips), without gaps."""
    origins = _origins(scenes, block)
    down, right = origins[places.scenes].T
    top, left = places.rows - chip // 2 + down, places.columns - chip // 2 + right
    cells = np.stack(
        [
            np.stack([(top + r) // block, (left + c) // block])
            for r in (0, chip - 1)
            for c in (0, chip - 1)
        ]
    )
    flat = np.moveaxis(cells, 1, 0).reshape(2, -1)
    _, numbers = np.unique(flat, axis=1, return_inverse=True)
    return numbers.reshape(4, -1).astype(np.int64)


def _origins(scenes: Sequence[Scene], block: int) -> NDArray[np.int64]:
    """Return rows and columns from a common origin to each scene's first pixel (scenes, 2).

    Scenes with the same CRS and pixel size share one; the others are placed far apart.
    """
    anchors: list[Scene] = []
    origins = []
    for scene in scenes:
        pixel = scene.grid.pixel
        same = [
            a for a in anchors if a.grid.crs == scene.grid.crs and np.allclose(a.grid.pixel, pixel)
        ]
        if not same:
            anchors.append(scene)
        anchor = same[0] if same else scene
        row, column = anchor.grid.find(*scene.grid.at(0, 0))
        number = next(i for i, a in enumerate(anchors) if a is anchor)
        origins.append((round(row) + number * _APART * block, round(column)))
    return np.array(origins, dtype=np.int64)


def _homes(
    things: NDArray[np.int64], blocks: NDArray[np.int64], within: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return the block with most chips of each feature (features,), -1 for none."""
    homes = np.full(things.max() + 1, -1, dtype=np.int64)
    if not within.any():
        return homes
    pairs, counts = np.unique(
        np.stack([things[within], blocks[within]]), axis=1, return_counts=True
    )
    order = np.argsort(counts, kind="stable")  # the largest comes last and stays
    homes[pairs[0][order]] = pairs[1][order]
    return homes
