"""Select chips of a scene by the polygon at their centre, with spatially separate splits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FieldError
from pyogrio.raw import read as read_raw
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.features import rasterize

from tailora.data.builtin.ground_sampling import (
    UNUSED,
    Amounts,
    Crops,
    Ground,
    Sample,
    draw_splits,
    equal_neighbours,
)
from tailora.data.scenes.labels import reproject
from tailora.data.splits import SPLITS
from tailora.errors import ConfigError, DataError
from tailora.numbers import counted

UNLABELLED: Final = -1


@final
@dataclass(frozen=True)
class Polygons:
    """Areas of one class each.

    Attributes:
        shapes: Shapely geometries (polygons,).
        labels: Class name of each (polygons,).
        ids: Identity of each (polygons,); parts of one feature share theirs.
    """

    shapes: NDArray[Any]
    labels: NDArray[np.str_]
    ids: NDArray[np.str_]


@final
@dataclass(frozen=True)
class LabelGrid:
    """Class and polygon of each pixel.

    Attributes:
        codes: Index into `classes` (rows, columns), `UNLABELLED` outside every polygon and where
            polygons of different classes overlap.
        owners: Index into the polygons (rows, columns), `UNLABELLED` where `codes` is; where
            several of one class overlap, the last in the file.
        classes: Class names, sorted.
        contested: Number of pixels where polygons of different classes overlap.
    """

    codes: NDArray[np.int64]
    owners: NDArray[np.int64]
    classes: tuple[str, ...]
    contested: int


def read_polygons(path: Path, *, label: str, identity: str, crs: CRS) -> Polygons:
    """Read the polygons of a vector file in a given CRS.

    Args:
        path: Any single-layer file that GDAL reads, e.g. a GeoPackage.
        label: Field with the class name.
        identity: Field that identifies parts of one feature.
        crs: Target CRS; polygons in another one are reprojected.

    Raises:
        DataError: The file cannot be read, lacks a field, or has no CRS.
    """
    try:
        meta, _, shapes, fields = read_raw(path, columns=[label, identity], force_2d=True)
    except (DataSourceError, DataLayerError, FieldError) as error:
        raise DataError(f"cannot read polygons {str(path)!r}: {error}") from error
    values = dict(zip(meta["fields"].tolist(), fields, strict=True))
    absent = sorted({label, identity} - values.keys())
    if absent or not meta["crs"]:
        raise DataError(f"polygons {str(path)!r} lack {absent or 'a coordinate reference system'}")
    found = shapely.from_wkb(shapes)
    source = CRS.from_user_input(meta["crs"])
    if source != crs:
        found = reproject(path, found, source, crs)
    return Polygons(found, values[label].astype(np.str_), values[identity].astype(np.str_))


def label_grid(polygons: Polygons, shape: tuple[int, int], transform: Affine) -> LabelGrid:
    """Assign each pixel the class of the polygon that contains its centre.

    Args:
        polygons: At least one, in the CRS of the grid.
        shape: Rows and columns.
        transform: Maps column and row to coordinates.
    """
    classes = tuple(sorted(set(polygons.labels.tolist())))
    layers = np.zeros((len(classes), *shape), dtype=bool)
    for layer, name in zip(layers, classes, strict=True):
        shapes = polygons.shapes[polygons.labels == name]
        layer[:] = rasterize(shapes, out_shape=shape, transform=transform)
    numbered = [(polygon, i) for i, polygon in enumerate(polygons.shapes)]
    owners = rasterize(
        numbered, out_shape=shape, transform=transform, fill=UNLABELLED, dtype="int32"
    )
    depth = layers.sum(axis=0)
    single = depth == 1
    return LabelGrid(
        np.where(single, layers.argmax(axis=0), UNLABELLED),
        np.where(single, owners, UNLABELLED).astype(np.int64),
        classes,
        int((depth > 1).sum()),
    )


STRIDE: Final = 4  # chips with closer centres are near-copies

_FEW_POLYGONS: Final = 5
_NOWHERE: Final = -1
_LEAST_CHIP: Final = 4  # keeps the centre's neighbourhood inside the scene


@final
@dataclass(frozen=True)
class Candidates:
    """Chips that may be sampled.

    Attributes:
        crops: Their locations.
        things: Feature of each centre (crops,), an index into the distinct polygon ids.
    """

    crops: Crops
    things: NDArray[np.int64]


def sample_chips(
    labels: LabelGrid,
    ids: NDArray[np.str_],
    *,
    chip: int,
    block: int,
    amounts: Amounts,
    seed: int,
) -> Sample:
    """Sample training chips by area, and val and test chips class by class, from separate areas.

    The scene is divided into blocks assigned to train, val or test, and a polygon is used in one
    split only, that of the block with most of its chips: the rest of a field across the border is
    too similar. Chips of different splits share neither a pixel nor a polygon.

    Args:
        labels: Class and polygon of each pixel.
        ids: Name of each polygon (polygons,); equal names are one feature.
        chip: Pixels per side of a chip, even, from 4 to the block.
        block: Pixels per side of a block.
        amounts: Numbers to sample.
        seed: Seeds blocks and chips.

    Returns:
        Chips grouped by polygon. Label and appearance are shared within a polygon, so intervals
        should resample polygons, not blocks: a large field spans several blocks, which would be
        counted as independent.

    Raises:
        ConfigError: The chip is odd, too small, or larger than a block.
        DataError: There are fewer candidates than training chips.
    """
    if chip % 2 or not _LEAST_CHIP <= chip <= block:
        raise ConfigError(
            f"chip must be even and from {_LEAST_CHIP} to {block} pixels, got {chip!r}"
        )
    rng = np.random.default_rng(seed)
    names, of_polygon = np.unique(ids, return_inverse=True)
    ground = Ground((labels.codes.shape[0], labels.codes.shape[1]), crop=chip, block=block)
    candidates = find_candidates(labels, of_polygon, chip=chip)
    sides = divide_polygons(candidates, ground, len(names), len(labels.classes), rng=rng)
    crops = candidates.crops
    chosen, dropped = draw_splits(
        crops.codes,
        sides,
        weights=np.ones(len(sides)),
        names=labels.classes,
        amounts=amounts,
        rng=rng,
    )
    groups = np.char.add("polygon ", names[candidates.things[chosen]])
    sample = Sample(crops.take(chosen), np.array(SPLITS)[sides[chosen]], groups, ())
    notes = (*_notes(amounts, block), *dropped, *_few_polygons(sample, labels.classes))
    return Sample(sample.crops, sample.splits, sample.groups, notes)


def find_candidates(labels: LabelGrid, things: NDArray[np.int64], *, chip: int) -> Candidates:
    """Find every chip in the scene whose centre has eight neighbours of its class.

    Args:
        labels: Class and polygon of each pixel.
        things: Feature of each polygon (polygons,).
        chip: Pixels per side of a chip.

    Returns:
        Those with centres at multiples of `STRIDE`, so that counts follow area and no two chips are
        nearly identical.
    """
    pure = (labels.codes != UNLABELLED) & equal_neighbours(labels.codes)
    rows, columns = np.nonzero(pure[::STRIDE, ::STRIDE])
    rows, columns = rows * STRIDE, columns * STRIDE
    half, (height, width) = chip // 2, labels.codes.shape
    fits = (rows >= half) & (rows <= height - half) & (columns >= half) & (columns <= width - half)
    rows, columns = rows[fits], columns[fits]
    crops = Crops(rows, columns, labels.codes[rows, columns])
    return Candidates(crops, things[labels.owners[rows, columns]])


def divide_polygons(
    candidates: Candidates,
    ground: Ground,
    n_things: int,
    n_classes: int,
    *,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Assign each candidate to train (0), val (1), test (2), or `UNUSED`.

    Args:
        candidates: Chips that may be sampled.
        ground: The blocks.
        n_things: Number of distinct polygon ids.
        n_classes: Number of classes.
        rng: Breaks ties.
    """
    crops, things = candidates.crops, candidates.things
    homes = _homes(candidates, ground, n_things)
    stays = ground.within_one_block(crops)
    stays &= ground.blocks(crops.rows, crops.columns) == homes[things]
    held = np.zeros((n_things, n_classes))
    np.add.at(held, (things[stays], crops.codes[stays]), 1)
    # The root is a compromise between counting polygons, which leaves chips to chance, and counting
    # chips, which lets one large polygon be all that a class has in a split.
    amounts = np.zeros((ground.n_blocks, n_classes))
    np.add.at(amounts, homes, np.sqrt(held))
    of_blocks, sides = ground.divide(crops, amounts, rng=rng)
    of_things = np.where(homes == _NOWHERE, UNUSED, of_blocks[homes])
    return np.where(sides == of_things[things], sides, UNUSED)


def _homes(candidates: Candidates, ground: Ground, n_things: int) -> NDArray[np.int64]:
    """Find the block with most of each feature's chips (things,).

    Only chips within one block count, since the others may become unusable; a feature without one
    gets `_NOWHERE`.
    """
    inside = ground.within_one_block(candidates.crops)
    blocks = ground.blocks(candidates.crops.rows, candidates.crops.columns)
    held = np.zeros((n_things, ground.n_blocks), dtype=np.int64)
    np.add.at(held, (candidates.things[inside], blocks[inside]), 1)
    return np.where(held.sum(axis=1) > 0, held.argmax(axis=1), _NOWHERE)


def _notes(amounts: Amounts, block: int) -> tuple[str, ...]:
    return (
        f"training: {amounts.train} chips sampled by area, so class shares are natural; val and "
        f"test: up to {amounts.val_per_class} and {amounts.test_per_class} chips per class, so "
        "theirs are not",
        f"splits consist of whole polygons in blocks of {block} pixels and share no pixel; chips "
        "of one split may overlap, so intervals should resample polygons",
    )


def _few_polygons(sample: Sample, classes: tuple[str, ...]) -> tuple[str, ...]:
    """List the classes whose test chips come from too few polygons to be informative."""
    few = []
    for code in np.unique(sample.crops.codes):
        is_tested = (sample.crops.codes == code) & (sample.splits == "test")
        n = len(np.unique(sample.groups[is_tested]))
        if n < _FEW_POLYGONS:
            few.append(f"{classes[code]!r} ({counted(n, 'polygon')})")
    return (f"tested on few polygons: {', '.join(few)}",) if few else ()
