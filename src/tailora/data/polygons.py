"""Labelled polygons from a vector file, and the class they give each pixel of a grid."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FieldError
from pyogrio.raw import read as read_raw
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.features import rasterize

from tailora.data.labels import reproject
from tailora.errors import DataError

UNLABELLED: Final = -1


@final
@dataclass(frozen=True)
class Polygons:
    """Areas of one class each.

    Attributes:
        shapes: Shapely geometries (polygons,).
        labels: Class name of each (polygons,).
        ids: Identity of each (polygons,); the parts of one thing share theirs.
    """

    shapes: NDArray[Any]
    labels: NDArray[np.str_]
    ids: NDArray[np.str_]


@final
@dataclass(frozen=True)
class LabelGrid:
    """Class and polygon of each pixel.

    Attributes:
        codes: Index into `classes` (rows, columns), `UNLABELLED` outside every polygon and where
            polygons of different classes overlap.
        owners: Index into the polygons (rows, columns), `UNLABELLED` where `codes` is; of several
            of one class the last in the file.
        classes: Class names, sorted.
        contested: How many pixels polygons of different classes overlap.
    """

    codes: NDArray[np.int64]
    owners: NDArray[np.int64]
    classes: tuple[str, ...]
    contested: int


def read_polygons(path: Path, *, label: str, identity: str, crs: CRS) -> Polygons:
    """Read the polygons of a vector file in the wanted coordinates.

    Args:
        path: Anything GDAL reads with a single layer, e.g. a GeoPackage.
        label: Field that names the class.
        identity: Field that says which parts belong together.
        crs: Coordinates wanted; the polygons are re-projected where theirs are others.

    Raises:
        DataError: The file cannot be read, lacks a field, or does not say its coordinates.
    """
    try:
        meta, _, shapes, fields = read_raw(path, columns=[label, identity], force_2d=True)
    except (DataSourceError, DataLayerError, FieldError) as error:
        raise DataError(f"cannot read polygons {str(path)!r}: {error}") from error
    values = dict(zip(meta["fields"].tolist(), fields, strict=True))
    absent = sorted({label, identity} - values.keys())
    if absent or not meta["crs"]:
        raise DataError(f"polygons {str(path)!r} lack {absent or 'a coordinate reference system'}")
    found = shapely.from_wkb(shapes)
    source = CRS.from_user_input(meta["crs"])
    if source != crs:
        found = reproject(path, found, source, crs)
    return Polygons(found, values[label].astype(np.str_), values[identity].astype(np.str_))


def label_grid(polygons: Polygons, shape: tuple[int, int], transform: Affine) -> LabelGrid:
    """Give each pixel the class of the polygon that holds its centre.

    Args:
        polygons: At least one, in the coordinates of the grid.
        shape: Rows and columns.
        transform: Takes column and row to coordinates.
    """
    classes = tuple(sorted(set(polygons.labels.tolist())))
    layers = np.zeros((len(classes), *shape), dtype=bool)
    for layer, name in zip(layers, classes, strict=True):
        shapes = polygons.shapes[polygons.labels == name]
        layer[:] = rasterize(shapes, out_shape=shape, transform=transform)
    numbered = [(polygon, i) for i, polygon in enumerate(polygons.shapes)]
    owners = rasterize(
        numbered, out_shape=shape, transform=transform, fill=UNLABELLED, dtype="int32"
    )
    depth = layers.sum(axis=0)
    single = depth == 1
    return LabelGrid(
        np.where(single, layers.argmax(axis=0), UNLABELLED),
        np.where(single, owners, UNLABELLED).astype(np.int64),
        classes,
        int((depth > 1).sum()),
    )
