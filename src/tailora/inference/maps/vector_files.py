"""Write points and polygons as GeoPackage or GeoJSON."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import shapely
from numpy.typing import NDArray
from pyogrio import get_gdal_config_option, raw, set_gdal_config_options
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.crs import CRS

from tailora.data.rasters.files import quietly
from tailora.errors import StorageError
from tailora.storage import write_atomically

VECTOR_DRIVERS: Final[Mapping[str, str]] = {".gpkg": "GPKG", ".geojson": "GeoJSON"}
"""GDAL's driver for each extension that `write_layer` takes."""

_DATE: Final = "OGR_CURRENT_DATE"
_NO_DATE: Final = "1970-01-01T00:00:00.000Z"  # the format wants one; equal maps are equal files


def write_layer(
    out: Path,
    shapes: NDArray[Any],
    fields: Mapping[str, NDArray[Any]],
    *,
    layer: str,
    crs: CRS | None,
    geometry_type: str = "Point",
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write geometries with fields as a GeoPackage, or as GeoJSON in longitude and latitude.

    Args:
        out: File to write, with an extension of `VECTOR_DRIVERS`.
        shapes: Geometries of shapely (rows,).
        fields: Name and values (rows,) of each field.
        layer: Name of the layer.
        crs: Of the coordinates; None if unknown.
        geometry_type: As in GDAL.
        metadata: Of the layer of a GeoPackage.

    Raises:
        StorageError: It cannot be written.
    """

    def write(path: Path) -> None:
        with writing(out):
            add_to_layer(
                path, shapes, fields, layer=layer, crs=crs, geometry_type=geometry_type,
                metadata=metadata,
            )  # fmt: skip

    write_atomically(out, write)


def add_to_layer(
    path: Path,
    shapes: NDArray[Any],
    fields: Mapping[str, NDArray[Any]],
    *,
    layer: str,
    crs: CRS | None,
    geometry_type: str,
    metadata: Mapping[str, str] | None = None,
    append: bool = False,
) -> None:
    """Write geometries with fields as they come; see `write_layer`.

    Args:
        path: File to write, where a partial one does no harm.
        shapes: Geometries of shapely (rows,).
        fields: Name and values (rows,) of each field.
        layer: Name of the layer.
        crs: Of the coordinates; None if unknown.
        geometry_type: As in GDAL.
        metadata: Of the layer of a GeoPackage.
        append: Add to the layer of a GeoPackage that is there.
    """
    driver = VECTOR_DRIVERS[path.suffix.lower()]
    more: dict[str, Any] = {"layer_metadata": dict(metadata)} if metadata else {}
    if driver == "GeoJSON":
        more = {"COORDINATE_PRECISION": 10} | ({"RFC7946": "YES"} if crs else {})
    with quietly(UserWarning):
        raw.write(
            path, shapely.to_wkb(shapes), list(fields.values()), list(fields),
            layer=layer, driver=driver, geometry_type=geometry_type, append=append,
            crs=None if crs is None else crs.to_wkt(), **more,
        )  # fmt: skip


@contextmanager
def writing(path: Path, then: str = "then run again") -> Iterator[None]:
    """Write vectors so that equal ones are equal files, and turn GDAL's errors into one line.

    Args:
        path: The file.
        then: Advice after that on disk space.
    """
    before = get_gdal_config_option(_DATE)
    set_gdal_config_options({_DATE: _NO_DATE})
    try:
        yield
    except (DataSourceError, DataLayerError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise StorageError(
            f"cannot write {path.name!r}: {reason}; check the free disk space, {then}"
        ) from error
    finally:
        set_gdal_config_options({_DATE: before})
