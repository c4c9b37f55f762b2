"""The built-in dataset `shapes-dota`: drawn objects that differ by form, with known oriented boxes.

Nothing here is imagery. It is for trying and testing detection where the truth is exact.
"""

from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tailora.boxes import Tile, to_corners
from tailora.data.dataset import Dataset, assemble_targets
from tailora.data.objects import Objects, TiledObjects
from tailora.data.splits import SPLITS
from tailora.errors import DataError

FORMS: Final = ("bar", "ellipse", "cross", "triangle", "ring", "tee")
"""Classes, from the most to the least frequent."""
SIDE: Final = 128
"""Pixels along a side of an image."""

_LENGTHS: Final = (26.0, 46.0)  # pixels along the long side
_ASPECTS: Final = {  # short over long side
    "bar": (0.3, 0.45), "ellipse": (0.4, 0.6), "cross": (0.9, 1.0), "triangle": (0.6, 0.9),
    "ring": (1.0, 1.0), "tee": (0.7, 0.9),
}  # fmt: skip
_MOST: Final = 5  # objects in an image
_EMPTY: Final = 0.1  # of the images
_TRIES: Final = 30  # places for each object
_FINE: Final = 4  # samples along a side of a pixel
_CONTRAST: Final = 60.0
_LEAST_OBJECTS: Final = 4  # of a class in training


def open_shapes_dota(
    *, train: int = 240, test: int = 120, ratio: float = 40.0, seed: int = 0
) -> Dataset:
    """Open drawn images of 128 x 128 pixels with up to five objects each.

    Classes differ by form alone; colours, sizes and angles are drawn alike for all. Training
    objects fall geometrically from the first class to the last, test and validation objects are
    equally frequent in all, so that rare classes are measured as well as frequent ones. A tenth of
    the images is empty.

    Args:
        train: Training images.
        test: Test images; a third as many are for validation.
        ratio: Training objects of the most over the least frequent class, at least 1.
        seed: Seeds places, classes and pixels.

    Raises:
        DataError: Too few images for at least four training objects and a test object of each
            class, or a ratio below 1.
    """
    if not ratio >= 1:
        raise DataError(f"shapes-dota:ratio must be at least 1, got {ratio:g}")
    steep = ratio ** -np.linspace(0, 1, len(FORMS))
    even = np.ones(len(FORMS))
    rng = np.random.default_rng(seed)
    images = {"train": train, "val": test // 3, "test": test}
    objects = [
        drawn
        for split in SPLITS
        for drawn in _placed(images[split], steep if split == "train" else even, rng)
    ]
    splits = [split for split in SPLITS for _ in range(images[split])]
    learnt = sum((one.counted(len(FORMS)) for one in objects[:train]), np.zeros(len(FORMS), int))
    if learnt.min() < _LEAST_OBJECTS:
        raise DataError(
            f"too few training objects of the rarest class ({learnt.min()}, at least "
            f"{_LEAST_OBJECTS} are needed): raise train={train} or lower ratio={ratio:g}"
        )
    names = [f"shape-{i:04d}" for i in range(len(objects))]
    tile = Tile(0, 0, SIDE)
    owners = np.arange(len(objects))
    return assemble_targets(
        "shapes-dota",
        Drawings(names, objects, seed),
        TiledObjects(names, objects, owners, [tile] * len(objects), len(FORMS)),
        classes=FORMS,
        splits=splits,
        seed=seed,
        notes=(
            "drawn, not imagery; training objects fall geometrically by class, validation and test "
            "objects are equally frequent in all classes",
        ),
    )


def _placed(n: int, shares: NDArray[np.float64], rng: np.random.Generator) -> list[Objects]:
    """Draw images without overlapping objects, classes by their shares as exactly as possible."""
    numbers = rng.integers(1, _MOST + 1, n)
    numbers[rng.permutation(n)[: round(_EMPTY * n)]] = 0
    total = int(numbers.sum())
    borders = np.round(np.cumsum(shares / shares.sum()) * total).astype(int)
    classes = rng.permutation(np.searchsorted(borders, np.arange(total), side="right"))
    return [_one(part, rng) for part in np.split(classes, np.cumsum(numbers)[:-1])]


def _one(classes: NDArray[np.int64], rng: np.random.Generator) -> Objects:
    """Place objects one after the other where the circle around them is free."""
    boxes: list[list[float]] = []
    owners: list[int] = []
    for c in classes.tolist():
        long = rng.uniform(*_LENGTHS)
        short = long * rng.uniform(*_ASPECTS[FORMS[c]])
        reach = np.hypot(long, short) / 2
        for x, y in rng.uniform(reach, SIDE - reach, (_TRIES, 2)):
            apart = [np.hypot(x - u, y - v) - np.hypot(w, h) / 2 for u, v, w, h, _ in boxes]
            if min(apart, default=np.inf) > reach:
                boxes.append([x, y, long, short, rng.uniform(-np.pi / 2, np.pi / 2)])
                owners.append(c)
                break
    own = np.array(owners, dtype=np.int64)
    return Objects(to_corners(np.reshape(boxes, (-1, 5))), own, np.zeros(len(own), dtype=np.int64))


@final
class Drawings:
    """Images of objects, drawn when read.

    Args:
        names: Name of each image.
        objects: Its objects.
        seed: Of colours and textures.
    """

    def __init__(self, names: list[str], objects: list[Objects], seed: int) -> None:
        self.names, self.objects, self.seed = names, objects, seed

    def __len__(self) -> int:
        return len(self.names)

    def id(self, i: int) -> str:
        """Name of image `i`."""
        return self.names[i]

    def mark(self, i: int) -> tuple[int, int]:
        """What image `i` is drawn from, beside its objects."""
        return SIDE, self.seed * len(self) + i

    def read(self, i: int) -> NDArray[Any]:
        """Draw image `i` (3, side, side), uint8."""
        rng = np.random.default_rng([self.seed, i])
        ground = rng.uniform(50, 200, 3)[:, None, None]
        rough = np.stack(
            [ndimage.gaussian_filter(rng.normal(0, 1, (SIDE, SIDE)), s) for s in (8, 2)]
        )
        rough /= rough.std(axis=(1, 2), keepdims=True)
        picture = ground + 14 * rough[0] + 6 * rough[1] + rng.normal(0, 4, (3, SIDE, SIDE))
        fine = (np.arange(SIDE * _FINE) + 0.5) / _FINE
        one = self.objects[i]
        for box, c in zip(one.boxes, one.classes, strict=True):
            away = rng.choice([-1, 1]) * rng.uniform(_CONTRAST, 2 * _CONTRAST)
            colour = ground + away + rng.uniform(-25, 25, 3)[:, None, None]
            x, y = fine[None] - box[0], fine[:, None] - box[1]
            cos, sin = np.cos(box[4]), np.sin(box[4])
            ahead = rng.choice([-1, 1]) * 2  # a box does not say which end is the front
            u, v = (cos * x + sin * y) / box[2] * ahead, (cos * y - sin * x) / box[3] * 2
            inside = _inside(FORMS[c], u, v).reshape(SIDE, _FINE, SIDE, _FINE).mean(axis=(1, 3))
            picture = picture * (1 - inside) + colour * inside
        return picture.clip(0, 255).round().astype(np.uint8)


def _inside(form: str, u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether points lie in a form, by their place in its box: -1 to 1 along both sides."""
    box = (np.abs(u) <= 1) & (np.abs(v) <= 1)
    if form == "ellipse":
        return u**2 + v**2 <= 1
    if form == "ring":
        return (u**2 + v**2 <= 1) & (u**2 + v**2 >= 0.4)
    if form == "cross":
        return box & ((np.abs(u) <= 0.33) | (np.abs(v) <= 0.33))
    if form == "triangle":
        return box & (np.abs(v) <= (u + 1) / 2)
    if form == "tee":
        return box & ((u >= 0.4) | (np.abs(v) <= 0.3))
    return box
