"""Augmentation that moves objects: any angle, other sizes, and rare objects pasted elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tailora.augment.options import check_augment_options
from tailora.backbones.symmetries import VIEWS, turn_all
from tailora.boxes import Tile, moved_boxes, objects_in_tile, to_corners, turned_boxes
from tailora.errors import ConfigError

OBJECTS: Final = "objects"
_LEAST_INSIDE: Final = 0.5  # share of an object, below which it has left the image
_MARGIN: Final = 1.0  # pixels around a box that are pasted with it
_LEAST_SIDE: Final = 4.0  # pixels; a cell of the finest level of the pyramid
_TRIES: Final = 20  # places for a pasted object

Boxes = NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class ImageObjects:
    """Objects of one image as a model sees it.

    Args:
        boxes: In image pixels (objects, 5).
        classes: Class indices (objects,).
        counts: False where neither presence nor absence is to be learnt (objects,).
        seen: The part of the image that shows anything, as a box (5,); None for all of it.
        gsd: Ground sampling distance in metres per pixel; None if it is not known.
    """

    boxes: Boxes
    classes: NDArray[np.int64]
    counts: NDArray[np.bool_]
    seen: Boxes | None = None
    gsd: float | None = None

    def turned(self, turn: int, side: float) -> "ImageObjects":
        """The same after a symmetry of the square, 0 to 7; see `dihedral`."""
        return replace(self, boxes=turned_boxes(self.boxes, turn, side))

    def moved(self, angle: float, scale: float, side: float) -> "ImageObjects":
        """The same after the image was turned and scaled about its centre.

        Objects of which less than half is left are dropped, and others that the border cuts do not
        count.
        """
        boxes = moved_boxes(self.boxes, angle, scale, side)
        whole = np.array([[side / 2, side / 2, side, side, 0.0]])
        tile, difficult = Tile(0, 0, int(side)), (~self.counts).astype(np.int64)
        kept, _, flags = objects_in_tile(
            to_corners(boxes), difficult, tile, least_inside=_LEAST_INSIDE
        )
        return ImageObjects(
            boxes[kept], self.classes[kept], flags == 0, moved_boxes(whole, angle, scale, side)[0],
            None if self.gsd is None else self.gsd / scale,
        )  # fmt: skip


@final
@dataclass(frozen=True)
class MovedObjects:
    """Flips and quarter turns of tiles with their boxes, and what else is asked for.

    What lies beyond the turned or shrunk image has its mean colour, and is not learnt from.

    Args:
        angle: Turn by any angle.
        scale: Enlarge or shrink by up to this share, at least 0 and below 1.
        paste: Probability of pasting an object of another training tile, in [0, 1]: a class by the
            inverse of its number of objects, as large as it is on the ground, flipped or turned by
            quarters, where no other object lies. Where no image has a ground sampling distance it
            keeps its size in pixels; where some have, those without take no part. An object that
            would shrink to less than 4 pixels is not pasted.

    Raises:
        ConfigError: An option is out of range.

    Reference:
        Pasting after Ghiasi et al., Simple Copy-Paste Is a Strong Data Augmentation Method for
        Instance Segmentation, CVPR 2021; which objects, and that sizes are kept, is ours.
    """

    angle: bool = True
    scale: float = 0.2
    paste: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.scale < 1:
            raise ConfigError(f"train.augment_options.scale must lie in [0, 1), got {self.scale}")
        if not 0 <= self.paste <= 1:
            raise ConfigError(f"train.augment_options.paste must lie in [0, 1], got {self.paste}")

    def __call__(
        self,
        images: Tensor,
        objects: Sequence[ImageObjects],
        generator: np.random.Generator,
        stock: "Stock | None" = None,
    ) -> tuple[Tensor, list[ImageObjects]]:
        """Augment a batch.

        Args:
            images: Stored values of any real type (batch, bands, size, size).
            objects: Of each image.
            generator: Source of all randomness.
            stock: Objects to paste.

        Returns:
            New images of the same type, and where their objects are.
        """
        pairs = [
            self._one(image, own, generator, stock)
            for image, own in zip(images, objects, strict=True)
        ]
        return torch.stack([image for image, _ in pairs]), [own for _, own in pairs]

    def _one(
        self,
        image: Tensor,
        own: ImageObjects,
        generator: np.random.Generator,
        stock: "Stock | None",
    ) -> tuple[Tensor, ImageObjects]:
        side = image.shape[-1]
        draws = generator.random(4)
        if stock is not None and draws[0] < self.paste and stock.suits(own):
            image, own = pasted(image, own, *stock.draw(generator, own.gsd), generator)
        turn = int(draws[1] * VIEWS)
        image, own = turn_all(image[None], turn)[0], own.turned(turn, side)
        angle = (draws[2] - 0.5) * np.pi / 2 * self.angle  # quarter turns do the rest
        scale = (1 + self.scale) ** (2 * draws[3] - 1)
        if angle or scale != 1:
            image, own = move_image(image, angle, scale), own.moved(angle, scale, side)
        return image, own


@final
@dataclass(frozen=True, eq=False)
class Stock:
    """Objects of the training tiles that can be pasted elsewhere.

    Args:
        images: Gives images by sample number.
        samples: Number of the tile of each object (objects,).
        boxes: In image pixels (objects, 5).
        classes: Class indices (objects,).
        gsd: Metres per pixel of the tile of each object (objects,); None where they are not known.
    """

    images: Callable[[NDArray[np.int64]], Tensor]
    samples: NDArray[np.int64]
    boxes: Boxes
    classes: NDArray[np.int64]
    gsd: NDArray[np.float64] | None = None

    def suits(self, own: ImageObjects) -> bool:
        """Whether it is known how large its objects are in an image, or nothing is of any."""
        return self.gsd is None or own.gsd is not None

    def draw(
        self, generator: np.random.Generator, gsd: float | None = None
    ) -> tuple[Tensor, Boxes, int, float]:
        """Draw a class by the inverse of its number, and an object of it, flipped or turned.

        Args:
            generator: Source of all randomness.
            gsd: Metres per pixel of the image that it is for.

        Returns:
            Its image (bands, size, size), box (5,) and class index, and how many times as large it
            is in the other image.
        """
        k = int(generator.choice(len(self.classes), p=self._shares))
        image, turn = self.images(self.samples[k : k + 1]), int(generator.integers(VIEWS))
        box = turned_boxes(self.boxes[k : k + 1], turn, image.shape[-1])[0]
        scale = 1.0 if self.gsd is None or gsd is None else float(self.gsd[k]) / gsd
        return turn_all(image, turn)[0], box, int(self.classes[k]), scale

    @cached_property
    def _shares(self) -> NDArray[np.float64]:
        shares = 1 / np.bincount(self.classes)[self.classes] ** 2
        return shares / shares.sum()


def stock_of(
    images: Callable[[NDArray[np.int64]], Tensor],
    samples: NDArray[np.int64],
    found: Sequence[ImageObjects],
) -> Stock | None:
    """Collect the objects that count; if any ground sampling distance is known, of such images.

    Args:
        images: Gives images by sample number.
        samples: Numbers of the training tiles (tiles,).
        found: Their objects.

    Returns:
        None if there is no object.
    """
    known = np.array([np.nan if one.gsd is None else one.gsd for one in found])
    measured = np.isfinite(known).any()
    used = np.flatnonzero(np.isfinite(known) | (not measured)).tolist()
    numbers = np.repeat(used, [found[i].counts.sum() for i in used])
    if not len(numbers):
        return None
    return Stock(
        images,
        samples[numbers],
        np.concatenate([found[i].boxes[found[i].counts] for i in used]),
        np.concatenate([found[i].classes[found[i].counts] for i in used]),
        known[numbers] if measured else None,
    )


def pasted(
    image: Tensor,
    own: ImageObjects,
    source: Tensor,
    box: Boxes,
    index: int,
    scale: float,
    generator: np.random.Generator,
) -> tuple[Tensor, ImageObjects]:
    """Paste an object where no other lies; unchanged if there is no such place.

    Args:
        image: (bands, size, size).
        own: Its objects.
        source: Image that shows the object (bands, size, size).
        box: Of the object there, in pixels (5,).
        index: Its class.
        scale: How many times as large it is pasted; unchanged if it would be smaller than it is and
            than 4 pixels.
        generator: Draws the place.
    """
    if scale < 1 and box[2:4].min() * scale < _LEAST_SIDE:
        return image, own
    if scale != 1:
        source, box = scaled_object(source, box, scale)
    side, reach = image.shape[-1], np.hypot(*box[2:4]) / 2 + _MARGIN
    others = np.hypot(own.boxes[:, 2], own.boxes[:, 3]) / 2
    for center in generator.uniform(reach, max(side - reach, reach), (_TRIES, 2)):
        shift = np.round(center - box[:2]).astype(np.int64)  # whole pixels keep what was measured
        place = box + np.array([*shift, 0, 0, 0])
        apart = np.hypot(*(own.boxes[:, :2] - place[:2]).T)
        inside = (np.abs(place[:2] - side / 2) <= side / 2 - reach).all()
        if inside and (apart > reach + others).all():
            rows, columns = np.nonzero(covered(place, side, _MARGIN))
            from_rows, from_columns = (
                (at - by).clip(0, n - 1)
                for at, by, n in zip((rows, columns), shift[::-1], source.shape[1:], strict=True)
            )
            image = image.clone()
            image[:, rows, columns] = source[:, from_rows, from_columns]
            return image, replace(
                own,
                boxes=np.vstack([own.boxes, place]),
                classes=np.append(own.classes, index),
                counts=np.append(own.counts, True),
            )
    return image, own


def scaled_object(source: Tensor, box: Boxes, scale: float) -> tuple[Tensor, Boxes]:
    """Cut out an object with what surrounds it and scale both, bilinearly over all pixels beneath.

    Args:
        source: Image that shows it, of any real type (bands, rows, columns).
        box: Of the object, in pixels (5,).
        scale: Above 0.

    Returns:
        The cut-out of the same type, and the box in it.
    """
    around = np.hypot(*box[2:4]) / 2 + (_MARGIN + 1) * max(1.0, 1 / scale)
    low = np.floor(np.maximum(box[:2] - around, 0)).astype(np.int64)
    high = np.ceil(np.minimum(box[:2] + around, source.shape[:0:-1])).astype(np.int64)
    part = source[:, low[1] : high[1], low[0] : high[0]]
    found = functional.interpolate(
        part[None].float(), scale_factor=scale, mode="bilinear", antialias=True,
        recompute_scale_factor=False,
    )[0]  # fmt: skip
    if not source.is_floating_point():
        found = found.round()
    return found.to(source.dtype), np.array(
        [*((box[:2] - low) * scale), *(box[2:4] * scale), box[4]]
    )


def covered(box: Boxes, side: int, margin: float = 0.0) -> NDArray[np.bool_]:
    """Pixels of a square image whose centres lie in a box (5,), or so near to it (side, side)."""
    rows, columns = np.mgrid[:side, :side] + 0.5
    x, y = columns - box[0], rows - box[1]
    u, v = np.cos(box[4]) * x + np.sin(box[4]) * y, np.cos(box[4]) * y - np.sin(box[4]) * x
    return (np.abs(u) <= box[2] / 2 + margin) & (np.abs(v) <= box[3] / 2 + margin)


def move_image(image: Tensor, angle: float, scale: float) -> Tensor:
    """Turn and scale an image about its centre, bilinearly; see `tailora.boxes.moved_boxes`.

    Args:
        image: Stored values of any real type (bands, size, size).
        angle: In radians, as that of boxes.
        scale: Above 0.

    Returns:
        Of the same type and shape; beyond the image the mean of each band.
    """
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    rows = torch.tensor([[[cos, sin, 0.0], [-sin, cos, 0.0]]], dtype=torch.float32)
    values = image[None].float()
    mean = values.mean(dim=(-2, -1), keepdim=True)
    grid = functional.affine_grid(rows.to(image.device), list(values.shape), align_corners=False)
    found = functional.grid_sample(values - mean, grid, align_corners=False)[0] + mean[0]
    return found.to(image.dtype) if image.is_floating_point() else found.round().to(image.dtype)


def read_moved_objects(options: Mapping[str, Any]) -> MovedObjects:
    """Make the augmentation of `train.augment_options`.

    Raises:
        ConfigError: An option is unknown (the nearest is named), of another type or out of range.
    """
    known = {"angle": (bool,), "scale": (int, float), "paste": (int, float)}
    check_augment_options(OBJECTS, options, known)
    return MovedObjects(**options)
