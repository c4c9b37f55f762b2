"""Header of a raster file: grid, bands, dtype, nodata; no pixel is read."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags

from tailora.data.bands.names import described_names, name_in
from tailora.data.rasters.files import open_raster
from tailora.data.rasters.readers import Grid, reading
from tailora.errors import DataError

_TILTED: Final = 1e-6  # of a pixel per pixel
_PIXELS: Final = Affine(1.0, 0.0, 0.0, 0.0, -1.0, 0.0)


@final
@dataclass(frozen=True)
class Header:
    """Header of one raster file.

    Attributes:
        path: The file.
        grid: Grid of its pixels.
        indices: Numbers of its bands, from 1; alpha only if it is kept.
        names: Name of each band, or None.
        dtypes: Dtype of each band, as stored.
        nodata: Stored no-data value of each band, or None.
        has_mask: Whether a mask or alpha marks valid pixels.
        scales: Factor for the stored values of each band, 1 for none.
        offsets: Added after scaling, 0 for none.
        sidecars: Files that GDAL reads with it: masks, world files, `.aux.xml`, sources of a VRT.
        has_alpha: Whether a band is declared as alpha and not kept.
    """

    path: Path
    grid: Grid
    indices: tuple[int, ...]
    names: tuple[str, ...] | None
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    has_mask: tuple[bool, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    sidecars: tuple[Path, ...]
    has_alpha: bool


def read_header(
    path: Path, *, nodata: float | None = None, alpha: bool = False, anywhere: bool = False
) -> Header:
    """Read the header of a georeferenced raster.

    Args:
        path: Of a format that `open_raster` opens.
        nodata: Stored value that overrides the values declared by the file; masks still apply.
        alpha: Keep a band declared as alpha like any other band.
        anywhere: Accept a raster that does not say where it lies: its CRS is then empty, and
            coordinates are columns and negative rows.

    Raises:
        DataError: There is no such file, it cannot be read, is not a single image of real numbers,
            is not georeferenced, or is not north up.
    """
    if not path.is_file():
        raise DataError(f"no raster {str(path)!r}; check the path")
    with reading(path, ""), open_raster(path) as raster:
        _require_real_image(path, raster)
        grid = _grid(path, raster, anywhere=anywhere)
        is_alpha = [kind == ColorInterp.alpha for kind in raster.colorinterp]
        indices = tuple(
            i for i, drop in zip(raster.indexes, is_alpha, strict=True) if alpha or not drop
        )
        names = described_names([raster.descriptions[i - 1] for i in indices])
        if names is None and len(indices) == 1:
            single = name_in(path.stem)
            names = None if single is None else (single,)
        scales, offsets = zip(*(_scaling(path, raster, i) for i in indices), strict=True)
        return Header(
            path, grid, indices, names, tuple(raster.dtypes[i - 1] for i in indices),
            tuple(raster.nodatavals[i - 1] if nodata is None else nodata for i in indices),
            tuple(_is_masked(raster.mask_flag_enums[i - 1], nodata, alpha=alpha) for i in indices),
            scales, offsets, tuple(sorted({Path(name) for name in raster.files} - {path})),
            len(indices) < len(is_alpha),
        )  # fmt: skip


def _is_masked(flags: Sequence[MaskFlags], nodata: float | None, *, alpha: bool) -> bool:
    """Whether GDAL's mask of a band contains more than its no-data value."""
    if MaskFlags.all_valid in flags or list(flags) == [MaskFlags.nodata]:
        return False
    if MaskFlags.alpha in flags:
        return not alpha  # kept as a band, it does not mask the others
    return nodata is None or MaskFlags.nodata not in flags


def _scaling(path: Path, raster: Any, index: int) -> tuple[float, float]:
    scale, offset = raster.scales[index - 1], raster.offsets[index - 1]
    if not math.isfinite(scale) or not math.isfinite(offset) or scale == 0:
        raise DataError(
            f"band {index} of {str(path)!r} has scale {scale:g} and offset {offset:g} in its "
            "tags, which is invalid; fix them, e.g. with `gdal_edit -scale 1 -offset 0`"
        )
    return scale, offset


def _require_real_image(path: Path, raster: Any) -> None:
    if raster.subdatasets:
        raise DataError(
            f"{str(path)!r} contains {len(raster.subdatasets)} images; export the one you need"
        )
    if any(kind.startswith("complex") for kind in raster.dtypes):  # numpy has no complex_int16
        raise DataError(
            f"{str(path)!r} has complex pixels; convert them to amplitude or power first"
        )


def _grid(path: Path, raster: Any, *, anywhere: bool) -> Grid:
    t = raster.transform
    if t == Affine.identity():
        if anywhere and raster.crs is None and not raster.gcps[0] and raster.rpcs is None:
            return Grid(CRS(), _PIXELS, raster.height, raster.width)
        raise _nowhere(path, raster)
    if raster.crs is None:
        raise DataError(
            f"{str(path)!r} has no coordinate reference system; set it, e.g. with `rio edit-info "
            f"--crs EPSG:32633 {shell(path)}`"
        )
    if t.a <= 0 or t.e >= 0 or max(abs(t.b), abs(t.d)) > _TILTED * t.a:
        raise DataError(
            f"{str(path)!r} is not north up; warp it first, e.g. with "
            f"`rio warp {shell(path)} north-up.tif --dst-crs {_code(raster.crs)}`"
        )
    return Grid(raster.crs, t, raster.height, raster.width)


def _nowhere(path: Path, raster: Any) -> DataError:
    """Return what is missing in a file that is not georeferenced."""
    points, crs = raster.gcps
    if points:
        return DataError(
            f"{str(path)!r} is georeferenced by {len(points)} ground control points only; warp "
            f"it first, e.g. with `rio warp {shell(path)} warped.tif --dst-crs {_code(crs)}`"
        )
    if raster.rpcs is not None:
        return DataError(
            f"{str(path)!r} is georeferenced by rational polynomials (RPC) only; orthorectify it "
            f"first, e.g. with `gdalwarp -rpc -t_srs EPSG:32633 {shell(path)} ortho.tif`"
        )
    missing = "geotransform" if raster.crs else "geotransform and no coordinate reference system"
    return DataError(
        f"{str(path)!r} has no {missing}, so it is not georeferenced: add its world file (such as "
        ".tfw) or .aux.xml, or set them with `rio edit-info --transform "
        f'"[10, 0, 500000, 0, -10, 5600000]" --crs {_code(raster.crs)} {shell(path)}`'
    )


def shell(path: Path) -> str:
    """Quote a path for a shell."""
    return shlex.quote(str(path))


def _code(crs: CRS | None) -> str:
    """Return the code of a CRS for a command, or an example."""
    found = None if crs is None else crs.to_authority()
    return "EPSG:32633" if found is None else ":".join(found)
