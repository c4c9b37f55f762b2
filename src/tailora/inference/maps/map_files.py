"""The files of a map: rows while it grows, and the published files at the end."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from rasterio.features import sieve

from tailora.data.rasters.readers import Grid
from tailora.inference.maps.class_legend import MapClass, attribute_table, qgis_style
from tailora.inference.maps.cloud_optimised import About, RawRows, write_cloud_optimised
from tailora.inference.maps.replace_together import replace_together
from tailora.storage import write_text

_BLACK: Final = (0, 0, 0)
_NAN: Final = float("nan")
POLYGONS: Final = "polygons.gpkg"
_STRIP: Final = 256  # rows read at once


@final
@dataclass(frozen=True)
class MapFiles:
    """Output files of a map.

    Args:
        labels: Class map, `.tif`; a `.qml` and a `.tif.aux.xml` are written next to it.
        probabilities: File with one probability band per class, or None.
        confidence: Probability of the mapped class, or None.
        polygons: GeoPackage, or None.
        doubt: Where the map may be wrong, in two bands (see `DoubtRows`), or None.
    """

    labels: Path
    probabilities: Path | None = None
    confidence: Path | None = None
    polygons: Path | None = None
    doubt: Path | None = None

    def paths(self) -> list[Path]:
        """Return every file named here."""
        named = (self.labels, self.probabilities, self.confidence, self.polygons, self.doubt)
        return [path for path in named if path is not None]

    def asked(self) -> tuple[bool, ...]:
        """Return which are requested beside the map."""
        asked = [p is not None for p in (self.probabilities, self.confidence, self.polygons)]
        return (*asked, *([True] if self.doubt else []))


@final
@dataclass(frozen=True)
class MapSummary:
    """Summary of a map.

    Attributes:
        files: Its files.
        shape: Rows and columns of cells.
        cell: Scene pixels per side of a cell.
        chips: Number of chips.
        left_out: Chips with too few valid pixels.
        broken: Unreadable chips.
        no_class: Cells without a class.
        cells: Cells per class, by name.
        verdicts: `trusted`, `weak` or `untested` of each class, by name.
        polygons: Number of polygons written, or None.
        sieved: Cells whose class changed because their area was too small, or None.
    """

    files: MapFiles
    shape: tuple[int, int]
    cell: int
    chips: int
    left_out: int
    broken: int
    no_class: int
    cells: dict[str, int]
    verdicts: dict[str, str]
    polygons: int | None = None
    sieved: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object without the paths."""
        return {key: value for key, value in asdict(self).items() if key != "files"}

    @classmethod
    def from_json(cls, files: MapFiles, entry: Mapping[str, Any]) -> "MapSummary":
        """Read the output of `to_json`."""
        rows, columns = entry["shape"]
        return cls(**{**entry, "files": files, "shape": (rows, columns)})


@final
@dataclass(frozen=True)
class Rows:
    """Rows of all files of a map.

    Args:
        labels: Class values.
        confidence: Probability of that class.
        probabilities: Of every class, or None.
        doubt: Two bands, or None; see `DoubtRows`.
    """

    labels: RawRows
    confidence: RawRows
    probabilities: RawRows | None
    doubt: RawRows | None = None

    def all(self) -> list[RawRows]:
        """All files."""
        parts = (self.labels, self.confidence, self.probabilities, self.doubt)
        return [part for part in parts if part]

    def write(self, first: int, shares: NDArray[np.float32], has_data: NDArray[np.bool_]) -> None:
        """Write finished rows of cells.

        Args:
            first: Number of the first of them.
            shares: (rows, cells, classes), NaN without a usable chip.
            has_data: (rows, cells).
        """
        known, none = has_data & ~np.isnan(shares[..., 0]), np.float32(np.nan)
        best = shares.argmax(axis=2)
        highest = np.take_along_axis(shares, best[..., None], axis=2)[..., 0]
        self.labels.write(first, np.where(known, best + 1, 0)[:, None])
        self.confidence.write(first, np.where(known, highest, none)[:, None])
        if self.probabilities:
            kept = np.where(known[..., None], shares, none)
            self.probabilities.write(first, kept.swapaxes(1, 2))

    def counts(self, n_classes: int) -> NDArray[np.int64]:
        """Return the number of cells of each value from 0 to the number of classes."""
        total = np.zeros(n_classes + 1, dtype=np.int64)
        height = self.labels.shape[0]
        for row in range(0, height, _STRIP):
            values = self.labels.read(row, min(row + _STRIP, height))
            total += np.bincount(values.ravel(), minlength=n_classes + 1)
        return total


@final
@dataclass(frozen=True)
class DoubtRows:
    """Rows of the doubt about a map, by windows shifted against those of the map.

    The first band is how much more probable the shifted windows find another class than the map's:
    0 where they agree. The second is 1 minus the probability of the map's class.

    Args:
        labels: Class values of the map.
        confidence: Probability of that class.
        doubt: The two bands.
    """

    labels: RawRows
    confidence: RawRows
    doubt: RawRows

    def write(self, first: int, shares: NDArray[np.float32], has_data: NDArray[np.bool_]) -> None:
        """Write finished rows of cells; see `Rows.write`."""
        last = first + len(shares)
        values = self.labels.read(first, last)
        of_map = np.maximum(values.astype(np.int64) - 1, 0)
        own = np.take_along_axis(shares, of_map[..., None], axis=2)[..., 0]
        known = has_data & (values > 0)
        lead = np.where(known, shares.max(axis=2) - own, np.float32(np.nan))
        bands = np.stack([lead, 1 - self.confidence.read(first, last)], axis=1)
        self.doubt.write(first, bands)


def sieve_classes(labels: RawRows, least: int, out: RawRows) -> int:
    """Give connected areas of few cells the class of the largest area beside them.

    Areas are 4-connected; cells without a class neither change nor count. The class values of the
    whole map are in memory.

    Args:
        labels: Class values, 0 for none.
        least: Areas of fewer cells change.
        out: Rows for the result; made anew.

    Returns:
        The number of cells that changed.
    """
    values = labels.read(0, labels.shape[0])
    kept = sieve(values, least, mask=(values > 0).astype(np.uint8), connectivity=4)
    out.reserve()
    out.write(0, kept[:, None])
    return int((kept != values).sum())


def publish(
    files: MapFiles,
    work: Path,
    rows: Rows,
    classes: Sequence[MapClass],
    grid: Grid,
    tags: Mapping[str, str],
    cells: Mapping[str, int],
) -> None:
    """Write every file below `work`, and publish them together when all are complete.

    Args:
        files: Final names.
        work: Folder next to the map with the rows and, if requested, `polygons.gpkg`.
        rows: All rows.
        classes: In order of value.
        grid: Grid of the map.
        tags: Tags of the map.
        cells: Number of cells per class.

    Raises:
        StorageError: The disk is full; an existing map is kept.
    """
    names = [entry.name for entry in classes]
    colours = (_BLACK, *(entry.colour for entry in classes))
    rasters = (
        (rows.probabilities, About(grid, _NAN, {}, names), files.probabilities),
        (rows.confidence, About(grid, _NAN, {}, ["probability"]), files.confidence),
        (rows.doubt, About(grid, _NAN, {}, ["disagreement", "1 - probability"]), files.doubt),
        (rows.labels, About(grid, 0, tags, ["class"], colours), files.labels),
    )
    moves = [(work / POLYGONS, files.polygons)] if files.polygons else []
    for raw, about, target in rasters:
        if raw and target:
            write_cloud_optimised(raw, about, made := raw.path.with_suffix(".tif"))
            moves.append((made, target))
    of_values = {entry.value: cells[entry.name] for entry in classes}
    beside = {
        files.labels.with_suffix(".qml"): qgis_style(classes),
        files.labels.with_name(files.labels.name + ".aux.xml"): attribute_table(classes, of_values),
    }
    for target, text in beside.items():
        write_text(made := work / target.name, text)
        moves.insert(0, (made, target))
    replace_together(moves)
