"""Ground area of the pixels of a map.

Reference: Snyder, "Map projections: a working manual", U.S. Geological Survey Professional Paper
1395, 1987 (area of a zone of the ellipsoid, equation 3-12; radii of curvature, 4-18 and 4-20).
"""

import math
import re
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform as transform_points

from tailora.errors import DataError

_ELLIPSOID: Final = re.compile(r'(?:SPHEROID|ELLIPSOID)\["[^"]*",\s*([\d.eE+]+),\s*([\d.eE+]+)')
_TILTED: Final = 1e-6  # of a pixel per pixel
_QUARTER: Final = math.pi / 2
_PLACES: Final = 5  # along each side


def pixel_areas(
    shape: tuple[int, int], transform: Affine, crs: CRS | None
) -> NDArray[np.float64] | None:
    """Return the area of a pixel of each row in square metres.

    In a projected CRS that is its area in the plane of the projection. In degrees it is the part of
    the ellipsoid between two parallels, so it shrinks towards the poles.

    Args:
        shape: Rows and columns.
        transform: Maps (column, row) to coordinates.
        crs: None, or one that is neither projected nor in degrees, has no scale.

    Returns:
        (rows,), or None without a scale.

    Raises:
        DataError: A grid in degrees that is rotated.
    """
    if crs is None or transform.is_identity:
        return None
    if crs.is_projected:
        area = abs(transform.determinant) * crs.units_factor[1] ** 2
        return np.full(shape[0], area)
    if not crs.is_geographic:
        return None
    if max(abs(transform.b), abs(transform.d)) > _TILTED * abs(transform.a):
        raise DataError(
            "it is in degrees but rotated, so its pixels have no known area; warp it first, e.g. "
            "with `rio warp map.tif north-up.tif --dst-crs EPSG:4326 --resampling nearest`"
        )
    radians = crs.units_factor[1]
    edges = transform.f + transform.e * np.arange(shape[0] + 1)
    latitudes = (edges * radians).clip(-_QUARTER, _QUARTER)
    return zone_areas(latitudes, *_ellipsoid(crs)) * abs(transform.a) * radians


def zone_areas(
    latitudes: NDArray[np.float64], axis: float, flattening: float
) -> NDArray[np.float64]:
    """Return the area between neighbouring latitudes on an ellipsoid, per radian of longitude.

    Args:
        latitudes: In radians (edges,).
        axis: Semi-major axis in metres.
        flattening: Of the ellipsoid, 0 for a sphere.

    Returns:
        Square metres per radian (edges - 1,).
    """
    squared = flattening * (2 - flattening)
    sine = np.sin(latitudes)
    e = math.sqrt(squared)
    curved = np.arctanh(e * sine) / e if e else sine
    part = sine / (1 - squared * sine**2) + curved
    return np.abs(np.diff(axis**2 * (1 - squared) / 2 * part))


def area_scale(shape: tuple[int, int], transform: Affine, crs: CRS) -> tuple[float, float] | None:
    """Return the smallest and largest ratio of true to projected area, at a few places of a map.

    Args:
        shape: Rows and columns.
        transform: Maps (column, row) to coordinates.
        crs: A projected CRS.

    Returns:
        None where the places have no coordinates on Earth.
    """
    rows, columns = np.meshgrid(
        *(np.linspace(0, side, _PLACES) for side in shape), indexing="ij"
    )  # fmt: skip
    # a pixel as the corner and the ends of the two sides that leave it
    row = np.stack([rows, rows, rows + 1]).ravel()
    column = np.stack([columns, columns + 1, columns]).ravel()
    x = transform.a * column + transform.b * row + transform.c
    y = transform.d * column + transform.e * row + transform.f
    try:
        degrees = transform_points(crs, CRS.from_epsg(4326), x, y)
    except RasterioError:
        return None
    east, north = (np.radians(one).reshape(3, -1) for one in degrees[:2])
    axis, flattening = _ellipsoid(crs)
    squared = flattening * (2 - flattening)
    bend = 1 - squared * np.sin(north[0]) ** 2
    to_east = axis / np.sqrt(bend) * np.cos(north[0])
    to_north = axis * (1 - squared) / bend**1.5
    sides_east = ((east[1:] - east[0] + math.pi) % (2 * math.pi) - math.pi) * to_east
    sides_north = (north[1:] - north[0]) * to_north
    true = np.abs(sides_east[0] * sides_north[1] - sides_east[1] * sides_north[0])
    ratio = true / (abs(transform.determinant) * crs.units_factor[1] ** 2)
    ratio = ratio[np.isfinite(ratio)]
    return (float(ratio.min()), float(ratio.max())) if len(ratio) else None


def _ellipsoid(crs: CRS) -> tuple[float, float]:
    """Return semi-major axis in metres, and flattening."""
    found = _ELLIPSOID.search(crs.to_wkt())
    if found is None:
        raise DataError(f"its CRS has no ellipsoid: {crs.to_string()}")
    axis, inverse = map(float, found.groups())
    return axis, 1 / inverse if inverse else 0.0
