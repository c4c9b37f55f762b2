"""Labelled polygons and points of a vector file, in the coordinates of a scene."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FieldError
from pyogrio.raw import read as read_raw
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform as transform_points

from tailora.errors import DataError

MOST_CLASSES: Final = 1000
"""More values than this in the class field are ids or measurements, not classes."""

_POLYGONAL: Final = (3, 6)  # shapely's numbers of Polygon and MultiPolygon
_POINTS: Final = (0, 4)


@final
@dataclass(frozen=True)
class Labels:
    """Polygons and points with a class each.

    Attributes:
        shapes: Shapely geometries, polygonal or points, in the scene's coordinates (things,).
        codes: Index into `classes` of each (things,).
        classes: Class names, sorted.
        notes: What was repaired, skipped or re-projected, with counts.
        source: Where they come from.
    """

    shapes: NDArray[Any]
    codes: NDArray[np.int64]
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    source: Path

    @property
    def is_point(self) -> NDArray[np.bool_]:
        """Which of them are points (things,)."""
        return np.isin(shapely.get_type_id(self.shapes), _POINTS)


def read_labels(path: Path, *, class_field: str, crs: CRS, layer: str | None = None) -> Labels:
    """Read polygons and points with their classes, in the wanted coordinates.

    Invalid polygons are repaired where a polygon is left of them; geometries that are empty, absent
    or lines, and features without a class, are skipped. Both are counted in the notes.

    Args:
        path: GeoPackage, GeoJSON, Shapefile or anything else GDAL reads.
        class_field: Field that names the class.
        crs: Coordinates wanted.
        layer: Which layer; None takes the only one.

    Raises:
        DataError: The file cannot be read, does not say its coordinates, has several layers and
            none was chosen, has no such field, names no class, or far too many.
    """
    layer = _choose_layer(path, layer)
    try:
        meta, _, shapes, fields = read_raw(path, layer=layer, columns=[class_field], force_2d=True)
    except (DataSourceError, DataLayerError, FieldError) as error:
        raise DataError(f"cannot read labels {str(path)!r}: {error}") from error
    if not len(fields):
        raise _no_field(path, layer, class_field)
    if not meta["crs"]:
        raise DataError(
            f"labels {str(path)!r} have no coordinate reference system, so they cannot be laid on "
            "the scene; set one (a Shapefile keeps it in its .prj file)"
        )
    names = [_text(value) for value in fields[0]]
    geometries = shapely.from_wkb(np.array(shapes, dtype=object), on_invalid="ignore")
    return _clean(path, geometries, names, parse_crs(meta["crs"], path), crs, class_field)


def _choose_layer(path: Path, layer: str | None) -> str:
    if not path.exists():
        raise DataError(f"no labels {str(path)!r}; check the path")
    try:
        listed = pyogrio.list_layers(path)
    except (DataSourceError, OSError) as error:
        raise DataError(f"cannot read labels {str(path)!r}: {error}") from error
    names = [str(name) for name, kind in listed if kind is not None]
    if layer is None and len(names) == 1:
        return names[0]
    if layer in names:
        return layer
    asked = "which layer holds the labels" if layer is None else f"there is no layer {layer!r}"
    raise DataError(f"{str(path)!r}: {asked}? choose one of {names} (layer)")


def _no_field(path: Path, layer: str, class_field: str) -> DataError:
    present = [str(name) for name in pyogrio.read_info(path, layer=layer)["fields"]]
    near = get_close_matches(class_field, present, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return DataError(f"labels {str(path)!r} have no field {class_field!r}, only {present}{hint}")


def parse_crs(text: str, path: Path) -> CRS:
    """Read a coordinate reference system.

    Raises:
        DataError: Its text cannot be understood.
    """
    try:
        return CRS.from_user_input(text)
    except CRSError as error:
        raise DataError(f"coordinates of {str(path)!r} are unknown: {error}") from error


def _text(value: Any) -> str:
    """Write a class as text; absent values and NaN become empty, 3.0 becomes 3."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _clean(
    path: Path,
    shapes: NDArray[Any],
    names: Sequence[str],
    source: CRS,
    target: CRS,
    class_field: str,
) -> Labels:
    shapes, repaired = _repair(shapes)
    kinds = shapely.get_type_id(shapes)
    is_usable = np.isin(kinds, (*_POLYGONAL, *_POINTS)) & ~shapely.is_empty(shapes)
    has_class = np.array([bool(name) for name in names], dtype=bool)
    kept = is_usable & has_class
    counts = {
        "repaired invalid geometries": repaired,
        "skipped empty, broken or line geometries": int((~is_usable).sum()),
        f"skipped features without {class_field!r}": int((is_usable & ~has_class).sum()),
    }
    notes = [f"labels: {what}: {count}" for what, count in counts.items() if count]
    if not kept.any():
        raise DataError(
            f"labels {str(path)!r} hold no polygon or point with a {class_field!r}: "
            f"{', '.join(notes) or 'the layer is empty'}"
        )
    named = [name for name, keep in zip(names, kept, strict=True) if keep]
    classes = tuple(sorted(set(named)))
    _require_few(path, classes, len(named), class_field)
    index = {name: code for code, name in enumerate(classes)}
    placed = shapes[kept]
    if source != target:
        placed = shapely.transform(placed, lambda points: _project(points, source, target))
        notes.append(f"labels: re-projected from {source.to_string()} to the scene's coordinates")
    codes = np.array([index[name] for name in named], dtype=np.int64)
    return Labels(placed, codes, classes, tuple(notes), path)


def _require_few(path: Path, classes: Sequence[str], count: int, class_field: str) -> None:
    if len(classes) > MOST_CLASSES:
        raise DataError(
            f"field {class_field!r} of {str(path)!r} has {len(classes)} different values in "
            f"{count} features, more than {MOST_CLASSES}: it holds ids or measurements; choose the "
            "field that names the class"
        )


def _repair(shapes: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Make polygons valid, keeping their areas; of what no polygon is left is empty."""
    is_broken = ~shapely.is_valid(shapes) & ~shapely.is_missing(shapes) & ~shapely.is_empty(shapes)
    is_broken &= np.isin(shapely.get_type_id(shapes), _POLYGONAL)
    if not is_broken.any():
        return shapes, 0
    mended = shapes.copy()
    for i in np.flatnonzero(is_broken):
        parts = shapely.get_parts(shapely.make_valid(shapes[i]))
        areas = parts[np.isin(shapely.get_type_id(parts), _POLYGONAL)]
        mended[i] = shapely.union_all(areas) if len(areas) else shapely.Polygon()
    left = is_broken & ~shapely.is_empty(mended)
    return mended, int(left.sum())


def _project(points: NDArray[np.float64], source: CRS, target: CRS) -> NDArray[np.float64]:
    return np.column_stack(transform_points(source, target, points[:, 0], points[:, 1])[:2])
