"""Cut large images into overlapping tiles, and merge the detections found in them.

Reference: sizes, shares and names follow MMRotate's tool for DOTA (window 1024, gap 200);
the older development kit of DOTA names tiles alike.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import shapely
from numpy.typing import NDArray

from tailora.boxes.overlap import hulls
from tailora.boxes.suppression import rotated_nms
from tailora.errors import ConfigError, DataError

CUT: Final = 2
"""Difficult flag of an object truncated by a tile border."""

_NAME: Final = re.compile(r"(?P<image>.+)__(?P<size>[\d.]+)__(?P<x>-?\d+)___(?P<y>-?\d+)")
_WHOLE: Final = 1 - 1e-6


@final
@dataclass(frozen=True)
class Tile:
    """A square tile of an image, in pixels; it may extend beyond the right and lower border."""

    left: int
    top: int
    size: int

    def name(self, image: str) -> str:
        """Return the name of this tile of an image, e.g. `P0000__1024__824___0`."""
        return f"{image}__{self.size}__{self.left}___{self.top}"


def parse_tile_name(name: str) -> tuple[str, float, int, int]:
    """Read `image__size__x___y`, or the older kit's `image__rate__x___y`.

    Returns:
        Image, size or rate, left and top.

    Raises:
        DataError: The name has another format.
    """
    match = _NAME.fullmatch(name)
    if not match:
        raise DataError(f"{name!r} is not the name of a tile; expected image__1024__x___y")
    return match["image"], float(match["size"]), int(match["x"]), int(match["y"])


def tile_starts(length: int, *, size: int = 1024, gap: int = 200) -> list[int]:
    """Return tile origins along one side: `size - gap` apart, the last shifted back to its end.

    Args:
        length: Pixels of the side, at least 1.
        size: Pixels of a tile.
        gap: Overlap of neighbours, in [0, size).

    Raises:
        ConfigError: A length or size below 1, or a gap out of range.

    Example:
        >>> tile_starts(4000)
        [0, 824, 1648, 2472, 2976]
    """
    if length < 1 or size < 1 or not 0 <= gap < size:
        raise ConfigError(
            f"length and size must be at least 1 and gap in [0, size), got {length}, {size}, {gap}"
        )
    if length <= size:
        return [0]
    count = math.ceil((length - size) / (size - gap)) + 1
    return [min(k * (size - gap), length - size) for k in range(count)]


def make_tiles(height: int, width: int, *, size: int = 1024, gap: int = 200) -> list[Tile]:
    """Return tiles that cover an image, row by row; small images give a single one.

    All tiles of an image contain an equal share of it, so MMRotate's rule for tiles that are mostly
    padding, which keeps the best and those as good, drops none.

    Raises:
        ConfigError: See `tile_starts`.
    """
    return [
        Tile(left, top, size)
        for top in tile_starts(height, size=size, gap=gap)
        for left in tile_starts(width, size=size, gap=gap)
    ]


def objects_in_tile(
    corners: NDArray[Any],
    difficult: NDArray[Any],
    tile: Tile,
    *,
    least_inside: float = 0.7,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Return the objects that are sufficiently inside a tile to be its labels.

    Args:
        corners: (objects, 4, 2) in the image.
        difficult: (objects,) flags.
        tile: The tile.
        least_inside: Minimum share of an object's area inside the tile, in (0, 1].

    Returns:
        Indices of the objects (kept,), their corners in the tile, not clipped (kept, 4, 2), and
        their flags, `CUT` if the border truncates the object.

    Raises:
        ConfigError: The share is out of range.
    """
    if not 0 < least_inside <= 1:
        raise ConfigError(f"least_inside must lie in (0, 1], got {least_inside}")
    if not len(corners):
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, np.zeros((0, 4, 2)), nothing
    shapes = hulls(corners)
    window = shapely.box(tile.left, tile.top, tile.left + tile.size, tile.top + tile.size)
    areas = shapely.area(shapes)
    shared = shapely.area(shapely.intersection(shapes, window))
    share = np.divide(shared, areas, out=np.zeros_like(shared), where=areas > 0)
    kept = np.flatnonzero(share >= min(least_inside, _WHOLE))
    flags = np.where(share[kept] < _WHOLE, CUT, np.asarray(difficult)[kept])
    local = np.asarray(corners, dtype=np.float64)[kept] - (tile.left, tile.top)
    return kept, local, flags.astype(np.int64)


def merge_tiles(
    tiles: Sequence[Tile],
    corners: Sequence[NDArray[Any]],
    scores: Sequence[NDArray[Any]],
    classes: Sequence[NDArray[Any]],
    *,
    threshold: float = 0.1,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[Any]]:
    """Merge the detections of an image's tiles; duplicates in overlaps are suppressed.

    Args:
        tiles: The tiles.
        corners: Detections of each tile (detections, 4, 2), in the tile.
        scores: Their scores.
        classes: Their classes.
        threshold: For the suppression; see `rotated_nms`.

    Returns:
        Corners in the image (kept, 4, 2), scores and classes, best first.

    Raises:
        ConfigError: Lists of different lengths, or see `rotated_nms`.
    """
    if not len(tiles) == len(corners) == len(scores) == len(classes):
        raise ConfigError("tiles, corners, scores and classes must have the same length")
    moved = [
        np.asarray(found, dtype=np.float64).reshape(-1, 4, 2) + np.array([tile.left, tile.top])
        for tile, found in zip(tiles, corners, strict=True)
    ]
    shapes = np.concatenate([np.zeros((0, 4, 2)), *moved])
    score = np.concatenate([np.zeros(0), *scores])
    kind = np.concatenate(classes) if len(classes) else np.zeros(0, dtype=np.int64)
    kept = rotated_nms(shapes, score, threshold=threshold, classes=kind)
    return shapes[kept], score[kept], kind[kept]
