"""A stratified random sample of a finished map, for a labeller."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import shapely
from numpy.typing import NDArray

from tailora.errors import ConfigError
from tailora.frames import Rows
from tailora.inference.maps.class_map import ClassMap, Names, Tally, open_class_map
from tailora.inference.maps.vector_files import VECTOR_DRIVERS, write_layer
from tailora.metrics.map_accuracy import FEWEST_POINTS, allocate_points
from tailora.numbers import counted
from tailora.progress import Progress, silent

REFERENCE: Final = "reference"
"""Field for the labeller's class."""
MARK: Final = "tailora_map"
"""Item in the metadata of the points' layer: which map they were drawn from."""

_MAP_CLASS: Final = "map_class"
_LAYER: Final = "points"


@final
@dataclass(frozen=True)
class SampledClass:
    """Points of one class of a map.

    Args:
        name: Class name.
        pixels: Its pixels in the map.
        map_share: Its share of the area of the map, in [0, 1].
        points: Points drawn from it.
    """

    name: str
    pixels: int
    map_share: float
    points: int


@final
@dataclass(frozen=True)
class MapSample:
    """A stratified random sample of a map.

    Args:
        map: The map.
        points: File with the points.
        classes: In the order of their values.
        seed: Seed of the draw.
        notes: What to know about the map.
    """

    map: str
    points: str
    classes: Rows[SampledClass]
    seed: int
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def sample_map(
    path: str | Path,
    out: str | Path,
    *,
    points: int = 300,
    per_class: int = FEWEST_POINTS,
    seed: int = 0,
    show_map_class: bool = False,
    names: Names = None,
    nodata: int | None = None,
    progress: Progress = silent,
) -> MapSample:
    """Draw a stratified random sample of a map of classes, for a labeller.

    The strata are the classes of the map. Within each, pixels are drawn with equal probability and
    without replacement; points lie at their centres, in random order, so that the first points of
    the file are such a sample too. The map is read twice, window by window.

    Args:
        path: Raster with one band of integers.
        out: GeoPackage (`.gpkg`, in the CRS of the map) or GeoJSON (`.geojson`, in longitude and
            latitude) to create, with the fields `id` and an empty `reference`.
        points: Number of points.
        per_class: Fewest points of a class, as far as it has pixels; the rest are shared out in
            proportion to pixels.
        seed: Seed of the draw.
        show_map_class: Also write the field `map_class`. A labeller who sees it is biased to it.
        names: Name of each value, or a CSV file with lines VALUE,NAME; None takes those of the
            file, then `class 3`.
        nodata: Value that means no data, besides what the file declares.
        progress: Shows windows done.

    Raises:
        ConfigError: A number of points that cannot be drawn, or an output of another format or that
            exists already: it may hold labels.
        DataError: The map cannot be used.
        StorageError: The file cannot be written.
    """
    out = Path(out)
    _check_sample(out, points, per_class, seed)
    found = open_class_map(path, names=names, nodata=nodata)
    tally = found.count(progress=progress)
    strata = found.classes(tally.values)
    sizes, areas = tally.of(strata)
    drawn = _allocated(sizes, points, per_class)
    rng = np.random.default_rng(seed)
    ranks = [np.sort(rng.choice(n, k, replace=False)) for n, k in zip(sizes, drawn, strict=True)]
    rows, columns, classes = _pick(found, tally, strata, ranks, progress)
    order = rng.permutation(len(rows))
    labels = [list(strata)[code] for code in classes[order]] if show_map_class else None
    _write_points(out, found, tally, rows[order], columns[order], labels)
    return MapSample(
        str(path), str(out),
        Rows(
            SampledClass(name, int(n), float(area / areas.sum()), int(k))
            for name, n, area, k in zip(strata, sizes, areas, drawn, strict=True)
        ),
        seed, found.notes(tally),
    )  # fmt: skip


def _check_sample(out: Path, points: int, per_class: int, seed: int) -> None:
    if out.suffix.lower() not in VECTOR_DRIVERS:
        raise ConfigError(
            f"points are written as {' or '.join(VECTOR_DRIVERS)}, got {out.name!r}; choose such a "
            "name"
        )
    if out.exists():
        raise ConfigError(f"{str(out)!r} exists and may hold labels; choose another name")
    for what, value, least in (("--sample", points, 1), ("--per-class", per_class, 0)):
        if value < least:
            raise ConfigError(f"{what} must be at least {least}, got {value}")
    if seed < 0:
        raise ConfigError(f"seed must be at least 0, got {seed}")


def _allocated(sizes: NDArray[np.int64], points: int, per_class: int) -> NDArray[np.int64]:
    total, fewest = int(sizes.sum()), int(np.minimum(sizes, per_class).sum())
    if points > total:
        raise ConfigError(f"the map has {counted(total, 'pixel')} with data, fewer than {points}")
    if points < fewest:
        raise ConfigError(
            f"{counted(points, 'point')} cannot give each of {counted(len(sizes), 'class')} "
            f"{per_class}: use --sample {fewest}, or --per-class {points // len(sizes)}"
        )
    return allocate_points(sizes, points, per_class)


def _pick(
    found: ClassMap,
    tally: Tally,
    strata: Mapping[str, Sequence[int]],
    ranks: Sequence[NDArray[np.int64]],
    progress: Progress,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return rows, columns and classes of pixels by their rank within their class, as read."""
    values = np.array(tally.values)
    index = {value: i for i, own in enumerate(strata.values()) for value in own}
    codes = np.array([index[value] for value in tally.values])
    seen = np.zeros(len(strata), dtype=np.int64)
    picked: list[NDArray[np.int64]] = []
    for row, column, block, has in found.windows("drawing points", progress):
        places = np.flatnonzero(has)
        own = codes[np.searchsorted(values, block.ravel()[places])]
        counts = np.bincount(own, minlength=len(strata))
        for code in np.flatnonzero(counts).tolist():
            first, last = np.searchsorted(ranks[code], [seen[code], seen[code] + counts[code]])
            if first == last:
                continue
            wanted = ranks[code][first:last] - seen[code]
            at = places[np.flatnonzero(own == code)[wanted]]
            i, j = np.unravel_index(at, block.shape)
            picked.append(np.stack([i + row, j + column, np.full(len(at), code)]))
        seen += counts
    rows, columns, classes = np.concatenate(picked, axis=1).astype(np.int64)
    return rows, columns, classes


def _write_points(
    out: Path,
    found: ClassMap,
    tally: Tally,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    map_classes: Sequence[str] | None,
) -> None:
    x, y = found.coordinates(rows + 0.5, columns + 0.5)
    fields: dict[str, NDArray[Any]] = {
        "id": np.arange(1, len(rows) + 1),
        REFERENCE: np.full(len(rows), None, dtype=object),
    }
    if map_classes is not None:
        fields[_MAP_CLASS] = np.array(map_classes, dtype=object)
    metadata = {MARK: found.mark(tally)}
    write_layer(out, shapely.points(x, y), fields, layer=_LAYER, crs=found.crs, metadata=metadata)
