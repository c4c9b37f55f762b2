"""The built-in dataset `tree-crowns`: airborne images of forest at 0.1 m with a box for each crown.

Reference: Weinstein et al., "DeepForest: A Python package for RGB deep learning tree crown
delineation", Methods in Ecology and Evolution 11 (2020); images of the National Ecological
Observatory Network, as shipped in the Python package deepforest (MIT).
"""

from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from tailora.boxes import Tile, objects_in_tile
from tailora.data.builtin.packaged_files import find_packaged
from tailora.data.dataset import Dataset, assemble_targets
from tailora.data.objects import Objects, ObjectTiles, TiledObjects
from tailora.data.readers.object_tiles import one_class
from tailora.data.readers.picture_windows import picture_size
from tailora.data.splits import SPLITS, divide_groups
from tailora.errors import DataError

PICTURES: Final = (
    "2019_YELL_2_528000_4978000_image_crop2", "2019_YELL_2_541000_4977000_image_crop", "OSBS_029",
    "SOAP_061",
)  # fmt: skip
"""Images whose every crown has a box: three sites of Wyoming, Florida and California."""
PIXEL: Final = 0.1
"""Metres on the ground."""

_INSTALL: Final = "pip install --no-deps deepforest==2.1.0"
_SHARES: Final = (0.6, 0.15, 0.25)
_SIDES: Final = ("xmin", "ymin", "xmax", "ymax")
_LEAST_TILE: Final = 64


def open_tree_crowns(*, large: float = 6.0, tile: int = 320, seed: int = 0) -> Dataset:
    """Open tiles of four images with level boxes of some 950 tree crowns in two classes by size.

    A crown is `large` if the root of the area of its box is at least that many metres, else
    `small`: two classes made of one, so that there is a frequent and a rarer one. Tiles lie side by
    side and share no pixel; each is in one split.

    Args:
        large: Metres; 0 leaves one class, `crown`.
        tile: Pixels along a side of a tile, from 64 to the 400 of the smallest image.
        seed: Seeds the splits.

    Raises:
        DataError: The package is not installed, or an option leaves a class without training or
            test objects.
    """
    paths = [_file(name, ".png") for name in PICTURES]
    sizes = [picture_size(path) for path in paths]
    if not _LEAST_TILE <= tile <= min(map(min, sizes)):
        raise DataError(
            f"tree-crowns:tile must lie in [{_LEAST_TILE}, {min(map(min, sizes))}], got {tile}"
        )
    classes = ("large", "small") if large > 0 else ("crown",)
    found = [_crowns(_file(name, ".xml"), large) for name in PICTURES]
    tiles, owners = [], []
    for number, (height, width) in enumerate(sizes):
        for top in range(0, height - tile + 1, tile):
            for left in range(0, width - tile + 1, tile):
                tiles.append(Tile(left, top, tile))
                owners.append(number)
    # a tile is a picture of its own: what its border cuts is neither found nor missed
    objects = [_of_tile(found[number], one) for number, one in zip(owners, tiles, strict=True)]
    places = np.array(owners, dtype=np.int64)
    source = ObjectTiles(paths, PICTURES, places, tiles)
    targets = TiledObjects(
        [source.id(i) for i in range(len(tiles))], objects, np.arange(len(tiles)), tiles,
        len(classes), [PIXEL] * len(tiles),
    )  # fmt: skip
    sides = divide_groups(
        targets.tally().astype(np.float64), fractions=_SHARES, rng=np.random.default_rng(seed)
    )
    notes = [
        f"boxes are level; tiles of {tile} pixels (0.1 m) lie side by side without a margin, and "
        "what their borders cut does not count",
        "three sites of one country: nothing on it says how well crowns are found elsewhere",
        *one_class(classes),
    ]
    if large > 0:
        notes.append(
            f"classes are made, not labelled: a crown is large if the root of the area of its box "
            f"is at least {large:g} m"
        )
    return assemble_targets(
        "tree-crowns", source, targets, classes=classes,
        splits=[SPLITS[side] for side in sides.tolist()], seed=seed, notes=tuple(notes),
    )  # fmt: skip


def _file(name: str, ending: str) -> Path:
    return find_packaged(
        "deepforest", f"data/{name}{ending}", dataset="tree-crowns", install=_INSTALL
    )


def _crowns(path: Path, large: float) -> Objects:
    """Boxes of an image, whose bounds count from 1 as in Pascal VOC."""
    try:
        boxes = np.array(
            [
                [float(box.findtext(side, "")) for side in _SIDES]
                for box in ElementTree.parse(path).iter("bndbox")
            ]
        )
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"cannot read {str(path)!r}: {error}") from error
    left, top, right, bottom = (boxes - (1, 1, 0, 0)).T
    corners = np.stack(
        [np.stack(point, axis=-1) for point in
         ((left, top), (right, top), (right, bottom), (left, bottom))], axis=1
    )  # fmt: skip
    side = PIXEL * np.sqrt((right - left) * (bottom - top))
    codes: NDArray[np.int64] = np.where((side >= large) | (large <= 0), 0, 1).astype(np.int64)
    return Objects(corners, codes, np.zeros(len(codes), dtype=np.int64))


def _of_tile(objects: Objects, tile: Tile) -> Objects:
    """Objects that reach into a tile, in pixels of the image; those cut by it are difficult."""
    rows, _, flags = objects_in_tile(objects.corners, objects.difficult, tile, least_inside=0.05)
    return Objects(objects.corners[rows], objects.classes[rows], flags)
