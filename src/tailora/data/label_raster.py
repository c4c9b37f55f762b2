"""A raster of classes as labels: of any grid and coordinates, the pixel under each pixel's middle.

Read window by window on the grid of the scene, so memory does not grow with either.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import MaskFlags, Resampling
from rasterio.vrt import WarpedVRT

from tailora.class_names import merged_names
from tailora.data.label_names import named, value_names
from tailora.data.labels import MOST_CLASSES, UNLABELLED
from tailora.data.raster_files import open_raster
from tailora.data.raster_readers import Grid, reading
from tailora.errors import ConfigError, DataError

_TILE: Final = 1024
_LARGEST: Final = 2**53  # whole numbers beyond are not exact as float64


@final
@dataclass(frozen=True)
class LabelRaster:
    """Classes of ground as a raster has them.

    Attributes:
        values: Stored values that are classes, ascending (values,).
        codes: Index into `classes` of each (values,).
        classes: Class names, sorted.
        notes: How it was read.
        source: The file.
        unlabelled: Stored value that means "no class" besides what the file declares, or None.
    """

    values: NDArray[np.int64]
    codes: NDArray[np.int64]
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    source: Path
    unlabelled: float | None = None

    def on(self, grid: Grid) -> NDArray[np.int64]:
        """Class index of each pixel of a grid, `UNLABELLED` where none is (height, width).

        Raises:
            DataError: That part of the file cannot be read.
        """
        stored, has = _stored(self.source, grid, self.unlabelled)
        place = np.searchsorted(self.values, stored).clip(0, len(self.values) - 1)
        known = has & (self.values[place] == stored)
        return np.where(known, self.codes[place], UNLABELLED)


def read_label_raster(
    path: Path, grid: Grid, *, column: str | None = None, unlabelled: float | None = None
) -> LabelRaster:
    """Find the classes that a raster gives to the ground of a scene.

    Args:
        path: A raster of one band of whole numbers, of a format that `open_raster` opens.
        grid: Of the scene.
        column: Column of its attribute table that names the class; see `value_names`.
        unlabelled: Stored value that means "no class", besides what the file declares as nodata.

    Raises:
        DataError: It cannot be read, has several bands or no coordinates, holds measurements, far
            too many values, or no class on the ground of the scene.
        ConfigError: There is no such column.
    """
    if not path.is_file():
        raise DataError(f"no labels {str(path)!r}; check the path")
    with reading(path, "labels"), open_raster(path) as raster:
        _require_classes(path, raster)
        names = value_names(path, raster, column)
        crs = raster.crs.to_string()
        pixel = " x ".join(f"{side:g}" for side in raster.res)
    values = _values_on(path, grid, unlabelled)
    if not len(values):
        raise DataError(
            f"labels {str(path)!r} give no class to any pixel of the scene: they lie elsewhere, or "
            "have no data there; check that both belong together"
        )
    called, unnamed = named(values.tolist(), names)
    classes = tuple(sorted(set(called)))
    codes = np.array([classes.index(name) for name in called], dtype=np.int64)
    notes = [f"labels: raster of {pixel} pixels in {crs}, read at the middle of each scene pixel"]
    if names and unnamed:
        notes.append(f"labels: {unnamed} value(s) without a name are called by their number")
    if names and len(classes) < len(called):
        notes.append(f"labels: {len(called)} values have {len(classes)} different names")
    notes += [f"labels: {text}" for text in merged_names(classes)]
    if 0 in values and 0 not in names and unlabelled is None:
        notes.append(
            "labels: 0 is read as a class; if it means that nothing is known, say unlabelled=0"
        )
    return LabelRaster(values, codes, classes, tuple(notes), path, unlabelled)


def _require_classes(path: Path, raster: Any) -> None:
    alpha = [flags for flags in raster.mask_flag_enums if MaskFlags.alpha in flags]
    bands = raster.count - (1 if alpha else 0)
    if bands != 1:
        raise DataError(
            f"labels {str(path)!r} have {bands} bands; labels are one band of class numbers, so "
            "write that band alone (colours of a picture are no classes)"
        )
    if raster.dtypes[0].startswith("complex"):
        raise DataError(f"labels {str(path)!r} are complex numbers, not classes")
    if raster.crs is None or raster.transform.is_identity:
        raise DataError(
            f"labels {str(path)!r} have no coordinates, so they cannot be laid on the scene; copy "
            "them from the image they were drawn on, e.g. with `rio edit-info --like image.tif`"
        )


def _values_on(path: Path, grid: Grid, unlabelled: float | None) -> NDArray[np.int64]:
    """Whole numbers on the ground of a scene, ascending."""
    found: set[int] = set()
    for row in range(0, grid.height, _TILE):
        for column in range(0, grid.width, _TILE):
            size = min(_TILE, grid.height - row), min(_TILE, grid.width - column)
            stored, has = _stored(path, grid.window(row, column, *size), unlabelled)
            found.update(np.unique(stored[has]).tolist())
            if len(found) > MOST_CLASSES:
                raise DataError(
                    f"labels {str(path)!r} hold more than {MOST_CLASSES} different values on the "
                    "scene: ids or measurements, not classes"
                )
    return np.array(sorted(found), dtype=np.int64)


def _stored(
    path: Path, grid: Grid, unlabelled: float | None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Stored values at the middles of pixels, and where they are labels."""
    with reading(path, "labels"), _warped(path, grid) as (raster, warped):
        values = warped.read(1)
        has = warped.read(warped.count) > 0  # alpha: on the raster, and where its mask has data
        for absent in (raster.nodatavals[0], unlabelled):
            if absent is not None:
                has &= values != absent
    if np.issubdtype(values.dtype, np.floating):
        has &= np.isfinite(values)
        whole = np.where(has, values, 0)
        if (whole != np.floor(whole)).any() or (np.abs(whole) > _LARGEST).any():
            raise DataError(
                f"labels {str(path)!r} hold numbers that are not whole: measurements, not classes"
            )
        values = whole
    return values.astype(np.int64), has


@contextmanager
def _warped(path: Path, grid: Grid) -> Iterator[tuple[Any, Any]]:
    with (
        open_raster(path) as raster,
        WarpedVRT(
            raster, crs=grid.crs, transform=grid.transform, height=grid.height, width=grid.width,
            resampling=Resampling.nearest, src_nodata=None, nodata=None,
            # ground beyond the raster would else come back as class 0
            add_alpha=not any(MaskFlags.alpha in flags for flags in raster.mask_flag_enums),
        ) as warped,
    ):  # fmt: skip
        yield raster, warped


def require_vector_options(path: Path, *, layer: str | None) -> None:
    """Refuse options that a raster of classes does not have.

    Raises:
        ConfigError: One is given.
    """
    if layer is not None:
        raise ConfigError(f"labels {str(path)!r} are a raster, which has no layer; leave layer out")
