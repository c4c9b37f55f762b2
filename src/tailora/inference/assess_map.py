"""Accuracy and class areas of a finished map, by a labelled sample."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray

from tailora.data.scenes.labels import Labels, read_labels
from tailora.errors import ConfigError, DataError, unknown_name
from tailora.frames import Rows
from tailora.inference.map_assessment import AssessedClass, MapAssessment
from tailora.inference.map_sample import MARK, REFERENCE
from tailora.inference.maps.class_map import ClassMap, Names, Tally, open_class_map
from tailora.metrics.map_accuracy import FEWEST_POINTS, MapAccuracy, estimate_map_accuracy
from tailora.numbers import counted
from tailora.progress import Progress, silent

_SQUARE_METRES: Final = 10_000  # of a hectare


def assess_map(
    path: str | Path,
    labels: str | Path,
    *,
    field: str = REFERENCE,
    layer: str | None = None,
    names: Names = None,
    nodata: int | None = None,
    progress: Progress = silent,
) -> MapAssessment:
    """Estimate accuracy and class areas of a map from labelled points of `sample_map`.

    Points of other origin can be used if they are a simple random sample of the pixels of each
    class. Points without a label, outside the map, where it has no data, or in a pixel that has a
    point already are left out and counted. See `estimate_map_accuracy` for the estimators.

    Args:
        path: Raster with one band of integers.
        labels: Points in any CRS: GeoPackage, GeoJSON, FlatGeobuf or Shapefile.
        field: Field with the class of each point, by name or by value.
        layer: Layer with the points; None uses the only one.
        names: See `sample_map`. A class that the map lacks is given a value that it does not use.
        nodata: See `sample_map`.
        progress: Shows windows done.

    Raises:
        DataError: The map or the points cannot be used, no point is left, or the points were drawn
            from another map.
        ConfigError: A label is no class of the map.
    """
    found = open_class_map(path, names=names, nodata=nodata)
    bounds = _bounds(found) if found.crs is not None and found.crs.is_geographic else None
    given = read_labels(
        Path(labels), class_field=field, crs=found.crs, layer=layer, bounds=bounds
    )  # fmt: skip
    rows, columns, outside = _places(found, given)
    tally = found.count(rows, columns, progress)
    _check_origin(given, found, tally)
    classes, references = _matched(found, tally, given)
    index = {value: i for i, name in enumerate(classes) for value in classes[name]}
    mapped = np.array([-1 if v is None else index[v] for v in tally.found], dtype=np.int64)
    has_class = mapped >= 0
    _, first = np.unique(np.stack([rows, columns]), axis=1, return_index=True)
    is_first = np.isin(np.arange(len(rows)), first)
    used = has_class & is_first
    skipped = {
        "without a label": given.unlabelled,
        "outside the map": int(outside.sum()),
        "without data in the map": int((~has_class & ~outside).sum()),
        "in a pixel that has a point already": int((has_class & ~is_first).sum()),
    }
    if not used.any():
        left = ", ".join(f"{count} {reason}" for reason, count in skipped.items() if count)
        raise DataError(f"no point of {str(labels)!r} can be used: {left}; check both files")
    pixels, areas = tally.of(classes)
    accuracy = estimate_map_accuracy(
        mapped[used], references[used], list(classes), areas=areas, pixels=pixels,
        point_areas=None if found.pixel_areas is None else found.pixel_areas[rows[used]],
    )  # fmt: skip
    scale = None if found.pixel_areas is None else 1 / _SQUARE_METRES
    assessed = areas.sum() * accuracy.assessed_share
    return MapAssessment(
        str(path), str(labels), int(used.sum()), skipped, accuracy,
        Rows(
            AssessedClass(
                one, int(n), None if scale is None else float(area * scale),
                None if scale is None else one.area_share.times(float(assessed * scale)),
            )
            for one, n, area in zip(accuracy.classes, pixels, areas, strict=True)
        ),
        (*found.notes(tally), *_of_points(given, accuracy)),
    )  # fmt: skip


def _bounds(found: ClassMap) -> tuple[float, float, float, float]:
    height, width = found.shape
    x, y = found.coordinates(np.array([0, 0, height, height]), np.array([0, width, 0, width]))
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def _check_origin(given: Labels, found: ClassMap, tally: Tally) -> None:
    about = pyogrio.read_info(given.source, layer=given.layer)["layer_metadata"] or {}
    if about.get(MARK, own := found.mark(tally)) != own:
        raise DataError(
            f"the points of {str(given.source)!r} were drawn from another map or another version "
            f"of {str(found.path)!r}: their numbers per class say nothing about this one; draw a "
            "new sample"
        )


def _places(
    found: ClassMap, given: Labels
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return row and column of each point, -1 outside the map, and which are outside."""
    lost = shapely.is_empty(given.shapes)  # could not be reprojected
    if not (given.is_point | lost).all():
        polygons = counted(int((~given.is_point & ~lost).sum()), "polygon")
        raise DataError(
            f"{str(given.source)!r} has {polygons}; a map is "
            "assessed by points, as `tailora assess MAP --sample` draws them"
        )
    x, y = np.full((2, len(given.shapes)), np.nan)
    x[~lost], y[~lost] = shapely.get_coordinates(given.shapes[~lost]).T
    t = ~found.transform
    rows, columns = t.d * x + t.e * y + t.f, t.a * x + t.b * y + t.c
    height, width = found.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    rows, columns = (np.where(inside, one, -1).astype(np.int64) for one in (rows, columns))
    return rows, columns, ~inside


def _matched(
    found: ClassMap, tally: Tally, given: Labels
) -> tuple[dict[str, list[int]], NDArray[np.int64]]:
    """Return the classes of map and labels, and the class of each label."""
    known = found.classes(sorted({*tally.values, *found.names}))
    by_text = {str(value): name for name, own in known.items() for value in own}
    unknown = [name for name in given.classes if name not in known and name not in by_text]
    if unknown:
        error = unknown_name("class", unknown[0], known)
        raise ConfigError(
            f"field {given.class_field!r} of {str(given.source)!r} has a class that the map lacks: "
            f"{error}; name the values of the map, and classes that it lacks, with --classes"
        )
    named = [name if name in known else by_text[name] for name in given.classes]
    mapped = {found.name(value) for value in tally.values}
    classes = {name: own for name, own in known.items() if name in mapped or name in named}
    index = {name: i for i, name in enumerate(classes)}
    codes = np.array([index[name] for name in named], dtype=np.int64)
    return classes, codes[given.codes]


def _of_points(given: Labels, accuracy: MapAccuracy) -> Iterator[str]:
    yield from (text for text in given.notes if "skipped features without" not in text)
    absent = [c.name for c in accuracy.classes if c.map_share and not c.map_points]
    if absent:
        yield (
            f"no labelled point lies in {', '.join(map(repr, absent))} of the map: the estimates "
            f"are for the other {accuracy.assessed_share:.1%} of its area"
        )
    few = {
        "user's": [c.name for c in accuracy.classes if c.map_share and not c.enough_map_points],
        "producer's": [c.name for c in accuracy.classes if not c.enough_reference_points],
    }
    for which, names in few.items():
        if names:
            yield (
                f"{which} accuracy, too few to say (under {FEWEST_POINTS} points): "
                f"{', '.join(names)}"
            )
