"""A map of classes as polygons in a GeoPackage."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import shapely
from numpy.typing import NDArray
from pyogrio import raw
from rasterio.crs import CRS
from rasterio.features import rasterize, shapes

from tailora.data.rasters.readers import Grid
from tailora.inference.maps.class_legend import MapClass
from tailora.inference.maps.cloud_optimised import RawRows
from tailora.inference.maps.vector_files import writing

TILE: Final = 2048
"""Cells per side that are traced at once; polygons of larger maps are cut at tile edges."""

_LAYER: Final = "map"


def write_polygons(
    labels: RawRows, confidence: RawRows, classes: Sequence[MapClass], grid: Grid, path: Path
) -> int:
    """Trace connected cells of one class (4-connected) and write them as a GeoPackage.

    Fields: `class`, `value`, `verdict`, `probability` (mean over its cells of the probability of
    its class), `cells`.

    Args:
        labels: Values of the map, 0 for none.
        confidence: Probability of that class per cell.
        classes: In order of value from 1.
        grid: Grid of the map.
        path: File to create.

    Returns:
        The number of polygons.

    Raises:
        StorageError: It cannot be written.
    """
    path.unlink(missing_ok=True)
    total = 0
    rows, columns = labels.shape
    for row in range(0, rows, TILE):
        bottom = min(row + TILE, rows)
        values = labels.read(row, bottom)
        shares = confidence.read(row, bottom)
        for column in range(0, columns, TILE):
            part = np.s_[:, column : column + TILE]
            place = grid.window(row, column, *values[part].shape)
            found = _trace(place, values[part], shares[part])
            if len(found.geometry) or not total:  # a map without a class is a layer without rows
                _append(path, found, classes, grid.crs, append=total > 0)
            total += len(found.geometry)
    return total


@final
@dataclass(frozen=True)
class _Polygons:
    geometry: NDArray[Any]
    values: NDArray[np.int64]
    probability: NDArray[np.float64]
    cells: NDArray[np.int64]


def _trace(grid: Grid, values: NDArray[Any], shares: NDArray[np.float32]) -> _Polygons:
    traced = list(shapes(values, mask=values > 0, connectivity=4, transform=grid.transform))
    outlines = np.array([shapely.geometry.shape(outline) for outline, _ in traced], dtype=object)
    owner = np.zeros(values.shape, dtype=np.int32)
    if traced:
        numbered = [(outline, i + 1) for i, outline in enumerate(outlines)]
        owner = rasterize(numbered, out_shape=values.shape, transform=grid.transform, dtype="int32")
    flat = np.asarray(owner).ravel()
    cells = np.bincount(flat, minlength=len(traced) + 1)[1:]
    sums = np.bincount(flat, np.nan_to_num(shares).ravel().astype(float), len(traced) + 1)[1:]
    found = np.array([value for _, value in traced], dtype=np.int64)
    return _Polygons(outlines, found, sums / np.maximum(cells, 1), cells)


def _append(
    path: Path, found: _Polygons, classes: Sequence[MapClass], crs: CRS, *, append: bool
) -> None:
    names = np.array([entry.name for entry in classes], dtype=object)[found.values - 1]
    verdicts = np.array([entry.verdict for entry in classes], dtype=object)[found.values - 1]
    columns = {
        "class": names, "value": found.values, "verdict": verdicts,
        "probability": found.probability, "cells": found.cells,
    }  # fmt: skip
    with writing(path, "then run again with --resume"):
        raw.write(
            path, shapely.to_wkb(found.geometry), list(columns.values()), list(columns),
            layer=_LAYER, driver="GPKG", geometry_type="Polygon", crs=crs.to_wkt(), append=append,
        )  # fmt: skip
