"""Labelled polygons and points of a vector file, in the CRS of a scene."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import CRSError as ReaderCRSError
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError
from pyogrio.raw import read as read_raw
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.features import rasterize
from rasterio.warp import transform as transform_points

from tailora.class_names import canonical_name, merged_names
from tailora.data.rasters.readers import Grid
from tailora.errors import ConfigError, DataError
from tailora.numbers import coordinates, counted

UNLABELLED: Final = -1
"""Code of ground without a label."""
MOST_CLASSES: Final = 1000
"""More values than this in the class field are ids or measurements, not classes."""

MOST_RATERS: Final = 100
"""More values than this in the field of raters are ids, not raters."""

_BETWEEN_FIELDS: Final = " / "
_POLYGONAL: Final = (3, 6)  # shapely's numbers of Polygon and MultiPolygon
_POINTS: Final = (0, 4)
_COLLECTION: Final = 7
_OF_PARTS: Final = (4, 6, _COLLECTION)
_FULL_TURN: Final = 360.0
_MOST_HEARD: Final = 3
_HEAD: Final = 1024
_LONGEST: Final = 2**26  # bytes of JSON that are inspected
_PIPELINE: Final = b"gdal_streamed_alg"
# GeoPackage, FlatGeobuf, main file of a Shapefile; GeoJSON is recognised by its brace
_FORMATS: Final = (b"SQLite format 3\0", b"fgb", b"\0\0\x27\x0a")


@final
@dataclass(frozen=True)
class Labels:
    """Polygons and points with a class each.

    Attributes:
        shapes: Shapely geometries, polygonal or points, in the scene's CRS (things,).
        codes: Index into `classes` of each (things,).
        classes: Class names, sorted.
        notes: What was repaired, skipped or reprojected, with counts.
        source: The file they come from.
        layer: Its layer.
        class_field: Field with the class names; of several, all with commas between them.
        unlabelled: Features without a class, or without a rater where there are raters, which are
            skipped.
        raters: Names of those who drew them, sorted; empty where nobody is named.
        rater_of: Index into `raters` of each (things,); None where nobody is named.
    """

    shapes: NDArray[Any]
    codes: NDArray[np.int64]
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    source: Path
    layer: str
    class_field: str
    unlabelled: int = 0
    raters: tuple[str, ...] = ()
    rater_of: NDArray[np.int64] | None = None

    def by_rater(self) -> list[tuple[str, NDArray[np.int64]]]:
        """Return each rater with their things; all of them, under no name, if nobody is named."""
        if self.rater_of is None:
            return [("", np.arange(len(self.codes)))]
        return [(name, np.flatnonzero(self.rater_of == r)) for r, name in enumerate(self.raters)]

    @property
    def is_point(self) -> NDArray[np.bool_]:
        """Which of them are points (things,)."""
        return np.isin(shapely.get_type_id(self.shapes), _POINTS)

    def on(self, grid: Grid) -> NDArray[np.int64]:
        """Return the class index of each pixel of a grid, `UNLABELLED` for none (height, width).

        Where several overlap, the last one counts: for figures, not for training.
        """
        pairs = zip(self.shapes, self.codes.tolist(), strict=True)
        burnt = rasterize(
            list(pairs), out_shape=(grid.height, grid.width), transform=grid.transform,
            fill=UNLABELLED, dtype="int32",
        )  # fmt: skip
        return np.asarray(burnt, dtype=np.int64)


def read_labels(
    path: Path,
    *,
    class_field: str,
    crs: CRS | None,
    layer: str | None = None,
    bounds: tuple[float, float, float, float] | None = None,
    rater_field: str | None = None,
) -> Labels:
    """Read polygons and points with their classes, in a given CRS.

    Invalid polygons are repaired if a polygon remains. Each part of a multi-part feature or of a
    collection is a polygon or point of its own. Empty, missing or line geometries, and features
    without a class, are skipped. All of this is counted in the notes.

    Args:
        path: GeoPackage, GeoJSON, FlatGeobuf, Shapefile, or the folder of a file geodatabase.
        class_field: Field with the class name, or several with commas between them: each
            combination that occurs is a class, as in "forest / beech", and a feature without a
            value in one of them has none.
        crs: Target CRS; None takes coordinates as they are.
        layer: Layer to read; None uses the only one.
        bounds: West, south, east and north of the scene in degrees, if `crs` is in degrees: labels
            off by 360 degrees are shifted to it.
        rater_field: Field with the name of who drew a feature, if several did; features without
            one are skipped like those without a class.

    Raises:
        DataError: The file has another format, cannot be read, has no CRS, has several layers and
            none was chosen, has no such field, has no class, or far too many classes or raters.
        ConfigError: A field is named twice.
    """
    with _heard() as said, _reading(path):
        layer = _choose_layer(path, layer)
        of_class = _class_fields(path, layer, class_field)
        wanted = of_class if rater_field is None else [*of_class, rater_field]
        _require_different(wanted)
        meta, _, shapes, columns = read_raw(path, layer=layer, columns=wanted, force_2d=True)
        fields = dict(zip((str(name) for name in meta["fields"]), columns, strict=True))
        for name in wanted:
            if name not in fields:
                raise _no_field(path, layer, name)
    if crs is not None and not meta["crs"]:
        raise DataError(
            f"labels {str(path)!r} have no coordinate reference system, so they cannot be "
            "aligned with the scene; set one (a Shapefile has it in its .prj file)"
        )
    geometries = shapely.from_wkb(np.array(shapes, dtype=object), on_invalid="ignore")
    source = None if crs is None else parse_crs(meta["crs"], path)
    columns = [fields[name] for name in wanted]
    found = _clean(path, layer, geometries, columns, source, crs, wanted, len(of_class))
    shapes = found.shapes if bounds is None else _turned_to(found.shapes, crs, bounds)
    return replace(found, shapes=shapes, notes=(*found.notes, *said))


def _choose_layer(path: Path, layer: str | None) -> str:
    if not path.exists():
        raise DataError(f"no labels {str(path)!r}; check the path")
    _require_known_format(path)
    names = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    if layer is None and len(names) == 1:
        return names[0]
    if layer in names:
        return layer
    asked = "which layer has the labels" if layer is None else f"there is no layer {layer!r}"
    shown = names[0] if names else "NAME"
    raise DataError(
        f"{str(path)!r}: {asked}? choose one of {names}, as SCENE:layer={shown} on the command "
        f'line, layer = "{shown}" in a TOML file of scenes, or `tailora assess --layer {shown}`'
    )


def _class_fields(path: Path, layer: str, class_field: str) -> list[str]:
    """Return the fields that are meant: one whose name has a comma is not several."""
    if "," not in class_field or class_field in pyogrio.read_info(path, layer=layer)["fields"]:
        return [class_field]
    return [name.strip() for name in class_field.split(",")]


def _require_different(fields: Sequence[str]) -> None:
    twice = [name for at, name in enumerate(fields) if name in fields[:at]]
    if twice:
        raise ConfigError(
            f"field {twice[0]!r} is named twice in {', '.join(fields)}; leave one out"
        )


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
        raise DataError(f"CRS of {str(path)!r} cannot be parsed: {error}") from error


def _text(value: Any) -> str:
    """Format a class as text; missing values and NaN become empty, 3.0 becomes 3."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return canonical_name(str(value))


def _clean(
    path: Path,
    layer: str,
    shapes: NDArray[Any],
    columns: Sequence[Sequence[Any]],
    source: CRS | None,
    target: CRS | None,
    fields: Sequence[str],
    of_class: int,
) -> Labels:
    """Keep shapes with a value in each field: the first ones of the class, then of the rater."""
    given, texts = len(shapes), [[_text(value) for value in values] for values in columns]
    shapes, owners = _parts(shapes, (_COLLECTION,))
    shapes, repaired = _repair(shapes)
    shapes, inner = _parts(shapes, _OF_PARTS)
    owners = owners[inner]
    is_shape = np.isin(shapely.get_type_id(shapes), (*_POLYGONAL, *_POINTS))
    shapes, owners = shapes[is_shape], owners[is_shape]
    is_usable = np.isin(np.arange(given), owners)
    filled = np.array([[bool(text) for text in values] for values in texts], dtype=bool)
    complete = np.logical_and.reduce(filled)
    kept = complete[owners]
    several = np.bincount(owners[kept], minlength=given)
    counts = {
        "repaired invalid geometries": repaired,
        "skipped empty, broken or line geometries": int((~is_usable).sum()),
        **{
            f"skipped features without {field!r}": int((is_usable & ~has).sum())
            for field, has in zip(fields, filled, strict=True)
        },
    }
    notes = [f"labels: {what}: {count}" for what, count in counts.items() if count]
    if (several > 1).any():
        notes.append(
            f"labels: split {counted(int((several > 1).sum()), 'multi-part feature')} into "
            f"{several[several > 1].sum()} polygons or points"
        )
    for values in columns[:of_class]:
        notes += [f"labels: {text}" for text in merged_names(_spelt(values))]
    class_field = ", ".join(fields[:of_class])
    if not kept.any():
        raise DataError(
            f"no polygon or point of labels {str(path)!r} has a class in field {class_field!r}"
            f"{f' and a rater in field {fields[-1]!r}' if fields[of_class:] else ''}: "
            f"{', '.join(note.removeprefix('labels: ') for note in notes) or 'the layer is empty'}"
        )
    combined = [_BETWEEN_FIELDS.join(values) for values in zip(*texts[:of_class], strict=True)]
    coded = [
        _coded([names[owner] for owner in owners[kept]]) for names in (combined, *texts[of_class:])
    ]
    classes, codes = coded[0]
    raters, rater_of = coded[1] if coded[1:] else ((), None)
    _require_few(path, classes, len(codes), class_field)
    if len(raters) > MOST_RATERS:
        raise DataError(
            f"field {fields[-1]!r} of {str(path)!r} has {len(raters)} different values in "
            f"{len(codes)} features, more than {MOST_RATERS}: ids, not raters; choose the field "
            "with the name of who drew a feature"
        )
    placed = shapes[kept]
    if source is not None and target is not None and source != target:
        placed = reproject(path, placed, source, target)
        notes.append(f"labels: reprojected from {source.to_string()} to the scene's CRS")
    return Labels(
        placed, codes, classes, tuple(notes), path, layer, class_field,
        int((is_usable & ~complete).sum()), raters, rater_of,
    )  # fmt: skip


def _coded(names: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the different names, sorted, and the index of each among them."""
    known = tuple(sorted(set(names)))
    index = {name: code for code, name in enumerate(known)}
    return known, np.array([index[name] for name in names], dtype=np.int64)


def _require_few(path: Path, classes: Sequence[str], count: int, class_field: str) -> None:
    if len(classes) > MOST_CLASSES:
        raise DataError(
            f"field {class_field!r} of {str(path)!r} has {len(classes)} different values in "
            f"{count} features, more than {MOST_CLASSES}: ids or measurements; choose the field "
            "with the class name"
        )


def _repair(shapes: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Make polygons valid, preserving their areas; empty if no polygon remains."""
    is_broken = ~shapely.is_valid(shapes) & ~shapely.is_missing(shapes) & ~shapely.is_empty(shapes)
    is_broken &= np.isin(shapely.get_type_id(shapes), _POLYGONAL)
    if not is_broken.any():
        return shapes, 0
    mended = shapes.copy()
    # preserves holes, which the older repair fills where they touch a border or each other
    mended[is_broken] = shapely.make_valid(
        shapes[is_broken], method="structure", keep_collapsed=False
    )
    left = is_broken & ~shapely.is_empty(mended)
    return mended, int(left.sum())


def _parts(shapes: NDArray[Any], kinds: Sequence[int]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Split multi-part shapes, however nested, and return the owner of each part (parts,).

    Missing or empty shapes have no part.
    """
    owners = np.flatnonzero(~shapely.is_missing(shapes) & ~shapely.is_empty(shapes))
    shapes = shapes[owners]
    while True:
        apart = np.isin(shapely.get_type_id(shapes), kinds)
        if not apart.any():
            return shapes, owners
        inner, index = shapely.get_parts(shapes[apart], return_index=True)
        filled = ~shapely.is_empty(inner)
        shapes = np.concatenate([shapes[~apart], inner[filled]])
        owners = np.concatenate([owners[~apart], owners[apart][index[filled]]])
        order = np.argsort(owners, kind="stable")
        shapes, owners = shapes[order], owners[order]


def reproject(path: Path, shapes: NDArray[Any], source: CRS, target: CRS) -> NDArray[Any]:
    """Reproject shapes; those without coordinates in the target become an empty polygon.

    Args:
        path: Their file, for errors.
        shapes: Shapely geometries (things,).
        source: Source CRS.
        target: Target CRS.

    Raises:
        DataError: They are not in the CRS they claim, or cannot be transformed.
    """
    west, south, east, north = shapely.total_bounds(shapes)
    degrees = source.is_geographic and source.linear_units in ("degree", "unknown")
    if degrees and not (-_FULL_TURN <= west <= east <= _FULL_TURN and -90 <= south <= north <= 90):
        raise DataError(
            f"labels {str(path)!r} claim to be in degrees ({source.to_string()}) but extend over "
            f"{coordinates((west, south, east, north))}: they are projected; save them as "
            "GeoPackage with their CRS (GeoJSON is always in degrees)"
        )
    try:
        placed = shapely.transform(shapes, lambda points: _project(points, source, target))
    except CPLE_BaseError as error:
        raise DataError(
            f"labels {str(path)!r} cannot be reprojected from {source.to_string()} to the "
            f"scene's CRS: {error}; check that the declared CRS is correct"
        ) from error
    placed[~np.isfinite(shapely.bounds(placed)).all(axis=1)] = shapely.Polygon()
    return placed


def _project(points: NDArray[np.float64], source: CRS, target: CRS) -> NDArray[np.float64]:
    return np.column_stack(transform_points(source, target, points[:, 0], points[:, 1])[:2])


def _turned_to(
    shapes: NDArray[Any], crs: CRS, bounds: tuple[float, float, float, float]
) -> NDArray[Any]:
    """Shift shapes in degrees by 360 if that moves them onto a scene across the antimeridian."""
    if not crs.is_geographic:
        return shapes
    box, turned = shapely.box(*bounds), shapes.copy()
    for turn in (-_FULL_TURN, _FULL_TURN):
        away = np.flatnonzero(~shapely.intersects(turned, box))
        moved = shapely.transform(
            shapes[away], lambda points, by=turn: points + np.array([by, 0.0])
        )
        meets = shapely.intersects(moved, box)
        turned[away[meets]] = moved[meets]
    return turned


@contextmanager
def _heard() -> Iterator[list[str]]:
    """Collect the reader's warnings, each once, for the notes."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
    messages = dict.fromkeys(" ".join(str(one.message).split()) for one in caught)
    said += [f"labels: {message}" for message in list(messages)[:_MOST_HEARD]]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (
        DataSourceError,
        DataLayerError,
        FieldError,
        FeatureError,
        ReaderCRSError,
        UnicodeDecodeError,  # texts of a Shapefile or GeoJSON
        OSError,
    ) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"cannot read labels {str(path)!r}: {reason}") from error


def _require_known_format(path: Path) -> None:
    """Reject formats that may read further files or access the network, before GDAL sees them."""
    if path.is_dir():
        known = path.suffix.lower() == ".gdb"
    else:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
        known = head.startswith(_FORMATS) or (text.startswith(b"{") and _is_features(path))
    if not known:
        raise DataError(
            f"labels {str(path)!r} are not GeoPackage, GeoJSON, FlatGeobuf, Shapefile (.shp) or "
            "file geodatabase, nor a raster by extension; save them as GeoPackage or GeoTIFF"
        )


def _is_features(path: Path) -> bool:
    """Whether JSON is data: GDAL would run a pipeline described by another kind of file."""
    with path.open("rb") as file:
        return _PIPELINE not in b"".join(file.read(_LONGEST).split())


def _spelt(values: Sequence[Any]) -> list[str]:
    return [value for value in values if isinstance(value, str) and value.strip()]
