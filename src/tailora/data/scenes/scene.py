"""One area as a pixel grid, its bands in one or several files, read in windows.

Only headers are kept in memory: a window costs its own size, whatever the size of the scene. Bands
of other resolutions (10, 20 and 60 m of Sentinel-2) are resampled to the finest grid on reading.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.data.bands.names import (
    band_wavelengths,
    canonical_names,
    find_band,
    find_sensor,
    sensor_bands,
    stated_names,
)
from tailora.data.rasters.headers import Header, read_header
from tailora.data.rasters.readers import Grid
from tailora.data.scenes.scene_bands import SceneBand
from tailora.data.sources import path_mark
from tailora.errors import DataError, unknown_name

SCENE_EXTENSIONS: Final = (".tif", ".tiff", ".jp2", ".vrt", ".img")
RESAMPLINGS: Final = ("nearest", "bilinear", "cubic", "average")


@final
@dataclass(frozen=True)
class Scene:
    """Bands of one area on one grid.

    Attributes:
        name: For ids and reports.
        bands: The bands.
        names: Name of each band, or None if unknown.
        wavelengths: Centre of each band in micrometres, if all are known.
        grid: Common grid: the finest of the bands', over the area that all of them cover.
        dtype: Of the values returned by `read`.
        resampling: How bands on other grids are resampled to it.
        notes: What a user should know of how it is read.
    """

    name: str
    bands: tuple[SceneBand, ...]
    names: tuple[str, ...] | None
    wavelengths: tuple[float, ...] | None
    grid: Grid
    dtype: str
    resampling: str = "bilinear"
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.grid.height, self.grid.width

    @property
    def may_have_gaps(self) -> bool:
        """Whether any pixel can be without data: declared by the file, the user, or NaN."""
        return any(band.may_have_gaps for band in self.bands)

    @property
    def conversion(self) -> str:
        """How tags convert stored values, e.g. `uint16 x 0.0001 - 0.1`; empty if they do not."""
        kinds = {(band.dtype, band.scale, band.offset) for band in self.bands if band.is_scaled}
        return ", ".join(
            f"{dtype} x {scale:g} {'-' if offset < 0 else '+'} {abs(offset):g}"
            for dtype, scale, offset in sorted(kinds)
        )

    def read(
        self, row: int, column: int, height: int, width: int
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a window; thread-safe.

        Args:
            row: First row.
            column: First column.
            height: Rows, all within the scene.
            width: Columns, all within the scene.

        Returns:
            Values (bands, height, width), physical if the files have scale and offset tags, else as
            stored, and which pixels are valid in every band (height, width). Values of invalid
            pixels are meaningless.

        Raises:
            DataError: A file, or a block inside one, cannot be read.
        """
        rows, columns = self.shape
        if min(row, column) < 0 or row + height > rows or column + width > columns:
            raise DataError(
                f"window at row {row}, column {column} of {height} x {width} pixels exceeds "
                f"scene {self.name!r} of {rows} x {columns}"
            )
        return self._read((row, column, height, width), (height, width))

    def overview(self, at_most: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read every n-th pixel of the whole scene, so that no side exceeds `at_most`.

        Returns:
            As `read`; values are those of single pixels, so their statistics are the scene's.
        """
        step = max(1, math.ceil(max(self.shape) / at_most))
        size = math.ceil(self.shape[0] / step), math.ceil(self.shape[1] / step)
        return self._read((0, 0, *self.shape), size)

    def _read(
        self, window: tuple[int, int, int, int], size: tuple[int, int]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        row, column, height, width = window
        ground = self.grid.window(*window)
        where = f"rows {row} to {row + height - 1}, columns {column} to {column + width - 1} of"
        values = np.empty((len(self.bands), *size), dtype=self.dtype)
        valid = np.ones(size, dtype=bool)
        for layer, band in zip(values, self.bands, strict=True):
            layer[:], has = band.read(ground, size, self.resampling, where)
            valid &= has
        return values, valid


def open_scene(
    files: Sequence[Path],
    *,
    name: str | None = None,
    bands: Sequence[str] = (),
    band_names: Sequence[str] = (),
    sensor: str | None = None,
    nodata: float | None = None,
    resampling: str = "bilinear",
    alpha: bool = False,
    anywhere: bool = False,
) -> Scene:
    """Open the bands of one area; only headers are read.

    Args:
        files: Rasters in one CRS, with one or several bands each.
        name: For ids and reports; None uses the first file's.
        bands: Names of the bands to read, in the desired order; empty reads all, in sensor order if
            known, else in file order.
        band_names: Name of each band of all files, in order; empty uses the descriptions in the
            files or, with one band per file, the file names.
        sensor: One of `bands.SENSORS`.
        nodata: Stored no-data value of every band; None uses what each declares.
        resampling: For bands of coarser resolution: one of `RESAMPLINGS`.
        alpha: Keep a band declared as alpha; otherwise it marks valid pixels.
        anywhere: Accept files that do not say where they lie; see `read_header`.

    Raises:
        DataError: A file cannot be read, is not georeferenced or not north up; files do not overlap
            or have different CRSs.
        ConfigError: An unknown band, sensor or resampling.
    """
    if resampling not in RESAMPLINGS:
        raise unknown_name("resampling", resampling, RESAMPLINGS)
    headers = [read_header(path, nodata=nodata, alpha=alpha, anywhere=anywhere) for path in files]
    names = _names(headers, band_names, sensor)
    found = [band for header in headers for band in _bands(header)]
    chosen = _choose(names, bands, sensor, len(found))
    kept = [found[i] for i in chosen]
    written = None if names is None else tuple(names[i] for i in chosen)
    return Scene(
        name or files[0].stem,
        tuple(kept),
        written,
        None if written is None else band_wavelengths(written, sensor),
        _common_grid([band.grid for band in kept], kept),
        str(np.result_type(*(np.dtype(band.value_dtype) for band in kept))),
        resampling,
        tuple(_without_alpha(header.path) for header in headers if header.has_alpha),
    )


def _without_alpha(path: Path) -> str:
    return (
        f"{path.name!r} declares its last band as alpha, so it marks pixels without data; if it is "
        "a band such as near infrared, train on it with SCENE:alpha=true, or "
        "data.alpha=band for image files"
    )


def _bands(header: Header) -> list[SceneBand]:
    marks = tuple(path_mark(path) for path in header.sidecars)
    facts = zip(
        header.indices, header.dtypes, header.nodata, header.has_mask, header.scales,
        header.offsets, strict=True,
    )  # fmt: skip
    return [
        SceneBand(header.path, index, header.grid, *others, sidecars=marks)
        for index, *others in facts
    ]


def _names(
    headers: Sequence[Header], band_names: Sequence[str], sensor: str | None
) -> tuple[str, ...] | None:
    count = sum(len(header.indices) for header in headers)
    if band_names:
        return stated_names(count, band_names=band_names, sensor=sensor)
    given = [name for header in headers for name in header.names or (None,) * len(header.indices)]
    named = [name for name in given if name is not None]
    if len(named) == count:
        return canonical_names(named, sensor)
    return stated_names(count, sensor=sensor)


def _choose(
    names: tuple[str, ...] | None, wanted: Sequence[str], sensor: str | None, count: int
) -> list[int]:
    if not wanted:
        order = list(range(count))
        found = sensor or (find_sensor(names) if names else None)
        if names and found:  # files are listed by name, where B8A comes after B12
            own = [band.name for band in sensor_bands(found)]
            order.sort(key=lambda i: own.index(names[i]))
        return order
    if names is None:
        raise DataError(
            f"bands {list(wanted)} were requested, but the files do not name theirs; set "
            "band_names or sensor"
        )
    return [find_band(name, names, sensor=sensor) for name in wanted]


def _common_grid(grids: Sequence[Grid], bands: Sequence[SceneBand]) -> Grid:
    """Return the finest grid, cropped to the area that all bands cover."""
    finest = min(grids, key=lambda grid: grid.pixel[0])
    for band in bands:
        if band.grid.crs != finest.crs:
            raise DataError(
                f"bands have different CRSs: {bands[0].path.name!r} {bands[0].grid.crs}, "
                f"{band.path.name!r} {band.grid.crs}; reproject one"
            )
    edges = np.array([grid.bounds for grid in grids])
    west, south = edges[:, :2].max(axis=0)
    east, north = edges[:, 2:].min(axis=0)
    top, left = finest.find(west, north)
    bottom, right = finest.find(east, south)
    first = math.ceil(top - 0.01), math.ceil(left - 0.01)
    last = math.floor(bottom + 0.01), math.floor(right + 0.01)
    if last[0] <= first[0] or last[1] <= first[1]:
        names = sorted({band.path.name for band in bands})
        raise DataError(f"bands {names} do not overlap; open them as two scenes")
    return finest.window(*first, last[0] - first[0], last[1] - first[1])


def starts(length: int, size: int, step: int) -> list[int]:
    """Return the first pixels of windows that cover a line; the last ends with it.

    Args:
        length: Pixels of the line.
        size: Pixels of a window; a shorter line gets one window at 0.
        step: Stride between windows, at least 1.

    Example:
        >>> starts(2000, 1024, 824)
        [0, 824, 976]
    """
    if length <= size:
        return [0]
    count = math.ceil((length - size) / step) + 1
    return [min(i * step, length - size) for i in range(count)]
