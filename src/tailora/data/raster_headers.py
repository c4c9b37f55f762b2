"""What a raster file says about itself: grid, bands, dtype, nodata; no pixel is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from rasterio.enums import ColorInterp, MaskFlags

from tailora.data.bands import described_names, name_in
from tailora.data.raster_files import open_raster
from tailora.data.raster_readers import Grid, reading
from tailora.errors import DataError

_TILTED: Final = 1e-6  # of a pixel per pixel


@final
@dataclass(frozen=True)
class Header:
    """Facts about one raster file.

    Attributes:
        path: The file.
        grid: Where its pixels lie.
        indices: Numbers of its bands, from 1; alpha only if it is kept.
        names: Name of each of them, or None.
        dtype: Of the pixels.
        nodata: Value that means "no data", or None.
        has_mask: Whether a mask or alpha says where data are.
        has_alpha: Whether a band is declared alpha.
    """

    path: Path
    grid: Grid
    indices: tuple[int, ...]
    names: tuple[str, ...] | None
    dtype: str
    nodata: float | None
    has_mask: bool
    has_alpha: bool


def read_header(path: Path, *, nodata: float | None = None, alpha: bool = False) -> Header:
    """Read the header of a raster that lies somewhere on Earth.

    Args:
        path: Of a format that `open_raster` opens.
        nodata: Overrides what the file declares.
        alpha: Keep a band declared alpha as a band like the others.

    Raises:
        DataError: There is no such file, it cannot be read, is no single image of real numbers, has
            no coordinates, or is not north up.
    """
    if not path.is_file():
        raise DataError(f"no raster {str(path)!r}; check the path")
    with reading(path, ""), open_raster(path) as raster:
        _require_real_image(path, raster)
        grid = _grid(path, raster)
        is_alpha = [kind == ColorInterp.alpha for kind in raster.colorinterp]
        indices = tuple(
            i for i, drop in zip(raster.indexes, is_alpha, strict=True) if alpha or not drop
        )
        names = described_names([raster.descriptions[i - 1] for i in indices])
        if names is None and len(indices) == 1:
            single = name_in(path.stem)
            names = None if single is None else (single,)
        flags = {flag for band in raster.mask_flag_enums for flag in band}
        has_alpha = any(is_alpha)
        declared = raster.nodata if nodata is None else nodata
        masks = MaskFlags.per_dataset in flags and not (has_alpha and alpha)
        return Header(
            path, grid, indices, names, str(np.result_type(*raster.dtypes)), declared,
            masks, has_alpha,
        )  # fmt: skip


def _require_real_image(path: Path, raster: Any) -> None:
    if raster.subdatasets:
        raise DataError(
            f"{str(path)!r} holds {len(raster.subdatasets)} images; export the one wanted"
        )
    if any(np.issubdtype(np.dtype(kind), np.complexfloating) for kind in raster.dtypes):
        raise DataError(f"{str(path)!r} has complex pixels; write amplitude or power first")


def _grid(path: Path, raster: Any) -> Grid:
    if raster.crs is None:
        raise DataError(
            f"{str(path)!r} has no coordinate reference system, so labels cannot be laid on it; "
            "set one, e.g. with `rio edit-info --crs EPSG:32633`"
        )
    t = raster.transform
    if t.a <= 0 or t.e >= 0 or max(abs(t.b), abs(t.d)) > _TILTED * t.a:
        raise DataError(f"{str(path)!r} is not north up; warp it first, e.g. with `rio warp`")
    return Grid(raster.crs, t, raster.height, raster.width)
