"""Where images lie on common ground: windows of a scene, or georeferenced tiles of a larger one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from tailora.data.change_masks import PairImages
from tailora.data.rasters.files import gdal_settings, open_raster
from tailora.data.scenes.chips import SceneChips
from tailora.data.sources import FileImages, ImageSource, traced
from tailora.errors import DataError

_ALIKE: Final = 1e-3  # of a pixel's side by which those of tiles may differ
_RASTERS: Final = (".tif", ".tiff")


@final
@dataclass(frozen=True)
class Ground:
    """Some images with their places on one grid of pixels.

    Args:
        name: Of the scene, or of the folder of tiles.
        images: Their positions among those asked for (images,).
        boxes: First row and column, height and width of each (images, 4).
    """

    name: str
    images: NDArray[np.int64]
    boxes: NDArray[np.int64]


def grounds_of(source: ImageSource, samples: NDArray[np.int64]) -> list[Ground]:
    """Find the scenes that images are windows of; of pairs that of the first date.

    Images in files are tiles of one ground if all of them are GeoTIFFs without a turn, of one CRS
    and pixel size. Of several windows at one place, which different raters labelled, the first
    counts.

    Args:
        source: Gives the images.
        samples: Their numbers in it (images,).

    Returns:
        In order of the scenes; empty for images that say nothing about where they lie.
    """
    base, rows = traced(source, samples)
    if isinstance(base, PairImages):
        base, rows = traced(base.before, rows)
    if isinstance(base, SceneChips):
        places, half = base.places, base.chip // 2
        tops, lefts = places.rows[rows] - half, places.columns[rows] - half
        sides = np.full(len(rows), base.chip)
        boxes = np.stack([tops, lefts, sides, sides], axis=1)
        which = places.scenes[rows]
        return [
            _ground(base.scenes[k].name, np.flatnonzero(which == k), boxes)
            for k in np.unique(which)
        ]
    if isinstance(base, FileImages) and len(rows):
        return _of_tiles([base.paths[row] for row in rows])
    return []


def _ground(name: str, images: NDArray[np.int64], boxes: NDArray[np.int64]) -> Ground:
    own = boxes[images]
    first = np.sort(np.unique(own, axis=0, return_index=True)[1])
    return Ground(name, images[first], own[first])


def _of_tiles(paths: Sequence[Path]) -> list[Ground]:
    if not all(path.suffix.lower() in _RASTERS for path in paths):
        return []
    found = []
    for path in paths:
        try:
            with gdal_settings(), open_raster(path) as tile:
                found.append((tile.crs, tile.transform, tile.height, tile.width))
        except (DataError, OSError, RasterioError):
            return []
    crs, first, *_ = found[0]
    pixel = np.array([first.a, first.e])
    for own, at, *_ in found:
        alike = np.abs(np.array([at.a, at.e]) - pixel) <= _ALIKE * np.abs(pixel)
        if own is None or own != crs or at.b or at.d or not alike.all():
            return []
    corners = np.array([(at.f, at.c) for _, at, *_ in found]) / pixel[::-1]
    corners = np.round(corners - corners.min(axis=0)).astype(np.int64)
    boxes = np.column_stack([corners, [shape for _, _, *shape in found]])
    name = paths[0].parent.parent.name or paths[0].parent.name
    return [_ground(name, np.arange(len(paths)), boxes)]
