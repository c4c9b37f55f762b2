"""One place on Earth as a grid of pixels, its bands in one file or several, read by windows.

Nothing is held but headers: a window costs its own size, whatever the size of the scene. Bands of
other pixel sizes (10, 20 and 60 m of Sentinel-2) are brought to the finest grid as they are read.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window

from tailora.data.bands import (
    band_wavelengths,
    canonical_names,
    find_band,
    find_sensor,
    sensor_bands,
    stated_names,
)
from tailora.data.raster_headers import Header, read_header
from tailora.data.raster_readers import Grid, reader, reading
from tailora.errors import DataError, unknown_name

SCENE_EXTENSIONS: Final = (".tif", ".tiff", ".jp2", ".vrt", ".img")
RESAMPLINGS: Final = ("nearest", "bilinear", "cubic", "average")


@final
@dataclass(frozen=True)
class SceneBand:
    """Where a band lies: file, number in it from 1, and its own grid."""

    path: Path
    index: int
    grid: Grid
    nodata: float | None
    has_mask: bool


@final
@dataclass(frozen=True)
class Scene:
    """Bands of one place on one grid.

    Attributes:
        name: For ids and reports.
        bands: Where each band lies.
        names: Name of each band, or None where they are not known.
        wavelengths: Centre of each band in micrometres, where all are known.
        grid: Common grid: the finest of the bands', over the ground that all of them cover.
        dtype: Of what `read` gives.
        resampling: How bands of other grids are brought to it.
    """

    name: str
    bands: tuple[SceneBand, ...]
    names: tuple[str, ...] | None
    wavelengths: tuple[float, ...] | None
    grid: Grid
    dtype: str
    resampling: str = "bilinear"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.grid.height, self.grid.width

    @property
    def may_have_gaps(self) -> bool:
        """Whether any pixel can be without data: declared by the file, the user, or NaN."""
        is_float = np.issubdtype(np.dtype(self.dtype), np.floating)
        return is_float or any(b.has_mask or b.nodata is not None for b in self.bands)

    def read(
        self, row: int, column: int, height: int, width: int
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a window; called from several threads.

        Args:
            row: First row.
            column: First column.
            height: Rows, all within the scene.
            width: Columns, all within the scene.

        Returns:
            Values (bands, height, width) as stored, and which pixels have data in every band
            (height, width).

        Raises:
            DataError: A file, or a block in the middle of one, cannot be read.
        """
        rows, columns = self.shape
        if min(row, column) < 0 or row + height > rows or column + width > columns:
            raise DataError(
                f"window at row {row}, column {column} of {height} x {width} pixels leaves scene "
                f"{self.name!r} of {rows} x {columns}"
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
        values = np.empty((len(self.bands), *size), dtype=self.dtype)
        valid = np.ones(size, dtype=bool)
        for layer, band in zip(values, self.bands, strict=True):
            valid &= self._read_band(band, window, layer)
        return values, valid

    def _read_band(
        self, band: SceneBand, window: tuple[int, int, int, int], layer: NDArray[Any]
    ) -> NDArray[np.bool_]:
        row, column, height, width = window
        offset = self.grid.offset_in(band.grid)
        down, right = offset or (0, 0)
        place = Window(column + right, row + down, width, height)  # type: ignore[call-arg]
        where = f"rows {row} to {row + height - 1}, columns {column} to {column + width - 1} of"
        with reading(band.path, where):
            file = reader(band.path, None if offset else self.grid, self.resampling, band.nodata)
            how = {"window": place, "out_shape": layer.shape, "resampling": Resampling.nearest}
            layer[:] = file.read(band.index, **how)
            return _has_data(
                layer, band, file.read_masks(band.index, **how) if band.has_mask else None
            )


def _has_data(
    values: NDArray[Any], band: SceneBand, mask: NDArray[np.uint8] | None
) -> NDArray[np.bool_]:
    valid = np.ones(values.shape, dtype=bool) if mask is None else mask > 0
    if np.issubdtype(values.dtype, np.floating):
        valid &= np.isfinite(values)
    if band.nodata is not None and not math.isnan(band.nodata):
        valid &= values != band.nodata
    return valid


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
) -> Scene:
    """Open the bands of one place; only headers are read.

    Args:
        files: Rasters in one coordinate system, of one band or several each.
        name: For ids and reports; None takes the first file's.
        bands: Names of the bands to read, in the order wanted; empty takes all in the order of
            the sensor where it is known, else of the files.
        band_names: Name of each band of all files, in order; empty takes what the files say in
            their descriptions or, with one band a file, in their own names.
        sensor: One of `bands.SENSORS`.
        nodata: Value that means "no data"; None takes what each file declares.
        resampling: For bands of coarser pixels: one of `RESAMPLINGS`.
        alpha: Keep a band that the file declares as alpha; else it says where data are.

    Raises:
        DataError: A file cannot be read, has no coordinates or is not north up; files lie apart or
            in different coordinates.
        ConfigError: An unknown band, sensor or resampling.
    """
    if resampling not in RESAMPLINGS:
        raise unknown_name("resampling", resampling, RESAMPLINGS)
    headers = [read_header(path, nodata=nodata, alpha=alpha) for path in files]
    names = _names(headers, band_names, sensor)
    found = [
        SceneBand(header.path, index, header.grid, header.nodata, header.has_mask)
        for header in headers
        for index in header.indices
    ]
    dtypes = [header.dtype for header in headers for _ in header.indices]
    chosen = _choose(names, bands, sensor, len(found))
    kept = [found[i] for i in chosen]
    written = None if names is None else tuple(names[i] for i in chosen)
    return Scene(
        name or files[0].stem,
        tuple(kept),
        written,
        None if written is None else band_wavelengths(written, sensor),
        _common_grid([band.grid for band in kept], kept),
        str(np.result_type(*(np.dtype(dtypes[i]) for i in chosen))),
        resampling,
    )


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
            f"bands {list(wanted)} are asked for, but the files do not name theirs; state "
            "band_names or sensor"
        )
    return [find_band(name, names, sensor=sensor) for name in wanted]


def _common_grid(grids: Sequence[Grid], bands: Sequence[SceneBand]) -> Grid:
    """Take the finest grid, cut to the ground that all bands cover."""
    finest = min(grids, key=lambda grid: grid.pixel[0])
    for band in bands:
        if band.grid.crs != finest.crs:
            raise DataError(
                f"bands lie in different coordinates: {bands[0].path.name!r} in "
                f"{bands[0].grid.crs}, {band.path.name!r} in {band.grid.crs}; re-project one"
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
        raise DataError(f"bands {names} do not lie on the same ground; open them as two scenes")
    return finest.window(*first, last[0] - first[0], last[1] - first[1])


def starts(length: int, size: int, step: int) -> list[int]:
    """First pixels of windows that cover a line; the last is shifted back to end with it.

    Args:
        length: Pixels of the line.
        size: Pixels of a window; a shorter line gets one window at 0.
        step: From one window to the next, at least 1.

    Example:
        >>> starts(2000, 1024, 824)
        [0, 824, 976]
    """
    if length <= size:
        return [0]
    count = math.ceil((length - size) / step) + 1
    return [min(i * step, length - size) for i in range(count)]
