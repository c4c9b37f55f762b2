"""Labelled objects of many images as one dataset: one sample per crop, one group per image."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.boxes import to_boxes
from tailora.data.dataset import Dataset, assemble
from tailora.data.readers.dota_labels import LabelledObject
from tailora.data.readers.labelled_images import LabelledImage
from tailora.data.readers.object_crops import CropOptions, ObjectCrops
from tailora.data.readers.picture_windows import PictureWindows, picture_size
from tailora.errors import ConfigError, DataError, unknown_name
from tailora.numbers import counted

DIFFICULT: Final = ("keep", "drop")
HELD_OUT: Final = ("test", "val")

_POINT: Final = 1e-6  # pixels; a box thinner than this is a line


@final
@dataclass(frozen=True)
class ObjectOptions:
    """Which objects are used, and how they are cropped.

    Args:
        labels: Label folder relative to the split folder, if there are several.
        difficult: `"keep"` or `"drop"` objects marked difficult. DOTA's published counts (98,990 in
            the training split of version 1.0) include them.
        unpaired: `"refuse"` or `"skip"` images without labels and labels without an image.
        min_side: Objects with a shorter side below this many pixels are left out.
        min_per_class: Classes with fewer objects are left out.
        held_out: Role of a folder `val` without a labelled folder `test`: `"test"`, so that
            validation is split from train in whole images, or `"val"`, so that the test split is.
        turn: See `CropOptions`.
        frame: See `CropOptions`.
        margin: See `CropOptions`.

    Raises:
        ConfigError: An unknown option value, or a number below 0.
    """

    labels: str = ""
    difficult: str = "keep"
    unpaired: str = "refuse"
    min_side: float = 0.0
    min_per_class: int = 0
    held_out: str = "test"
    turn: str = "upright"
    frame: str = "square"
    margin: float = 0.2

    def __post_init__(self) -> None:
        if self.difficult not in DIFFICULT:
            raise unknown_name("value of difficult", self.difficult, DIFFICULT)
        if self.held_out not in HELD_OUT:
            raise unknown_name("held_out", self.held_out, HELD_OUT)
        if not (self.min_side >= 0 and self.min_per_class >= 0):
            raise ConfigError(
                f"min_side and min_per_class must be at least 0, got {self.min_side} and "
                f"{self.min_per_class}"
            )
        self.crops()

    def crops(self) -> CropOptions:
        """The options for cropping."""
        return CropOptions(self.turn, self.frame, self.margin)


def assemble_objects(
    root: Path,
    images: Iterable[LabelledImage],
    options: ObjectOptions,
    *,
    seed: int,
    notes: Iterable[str] = (),
) -> Dataset:
    """Build a dataset with one sample per object.

    All objects of an image are in one split, and the image is their group: intervals resample whole
    images.

    Args:
        root: Gives the dataset its name.
        images: With their labels; objects of unreadable images are kept, so that decoding counts
            them.
        options: Which objects, and how to crop them.
        seed: Seeds missing splits.
        notes: Notes so far.

    Raises:
        DataError: No object is left, or the splits and classes cannot be used.
    """
    chosen = _Chosen(options)
    for image in images:
        chosen.add(image)
    chosen.drop_small_classes()
    if not chosen.objects:
        raise DataError(
            f"no object is left in {str(root)!r}: {'; '.join(chosen.tally()) or 'no labels at all'}"
        )
    corners = np.array([item.corners for item in chosen.objects], dtype=np.float64)
    paths = list(dict.fromkeys(image.path for image in chosen.owners))
    index = {path: k for k, path in enumerate(paths)}
    owners = np.array([index[image.path] for image in chosen.owners], dtype=np.int64)
    names = [image.name for image in chosen.owners]
    splits, told = _splits([image.split for image in chosen.owners], options.held_out)
    ids = [f"{n}#{item.line}" for n, item in zip(names, chosen.objects, strict=True)]
    return assemble(
        root.resolve().name,
        ObjectCrops(PictureWindows(paths), owners, corners, ids, options.crops()),
        [item.name for item in chosen.objects],
        splits=splits,
        groups=names,
        seed=seed,
        notes=(*notes, *told, *chosen.tally(), _about(options)),
    )


@final
@dataclass
class _Chosen:
    """Objects selected so far with their images, and why others were not."""

    options: ObjectOptions
    objects: list[LabelledObject] = field(default_factory=list)
    owners: list[LabelledImage] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    empty: int = 0
    difficult: int = 0
    partly: int = 0

    def add(self, image: LabelledImage) -> None:
        objects = image.labels.objects
        if not objects:
            self.empty += 1
            return
        corners = np.array([item.corners for item in objects], dtype=np.float64)
        sides = to_boxes(corners)[:, 2:4].min(axis=1)
        outside, partly = _outside(corners, _size(image.path))
        for k, item in enumerate(objects):
            reason = self._reason(item, side=float(sides[k]), outside=bool(outside[k]))
            if reason:
                self.left_out[reason].append(f"{image.labels.path.name}:{item.line}")
                continue
            self.objects.append(item)
            self.owners.append(image)
            self.difficult += item.difficult > 0
            self.partly += bool(partly[k])

    def _reason(self, item: LabelledObject, *, side: float, outside: bool) -> str | None:
        if side < _POINT:
            return "without area"
        if outside:
            return "outside their image"
        if side < self.options.min_side:
            return f"narrower than {self.options.min_side:g} pixels"
        if item.difficult and self.options.difficult == "drop":
            return "marked difficult"
        return None

    def drop_small_classes(self) -> None:
        counts = Counter(item.name for item in self.objects)
        small = {name for name, count in counts.items() if count < self.options.min_per_class}
        for name in sorted(small):
            self.left_out[f"of class {name!r}, of which there are too few"] += [""] * counts[name]
        kept = [k for k, item in enumerate(self.objects) if item.name not in small]
        self.objects = [self.objects[k] for k in kept]
        self.owners = [self.owners[k] for k in kept]

    def tally(self) -> list[str]:
        notes = []
        for reason, places in self.left_out.items():
            first = f" (first {places[0]})" if places[0] else ""
            notes.append(f"left out {counted(len(places), 'object')} {reason}{first}")
        for count, what, how in (
            (self.empty, "image", "without objects"),
            (self.difficult, "object", "marked difficult and kept"),
            (self.partly, "object", "partly beyond the border of the image"),
        ):
            if count:
                notes.append(f"{counted(count, what)} {how}")
        return notes


def _size(path: Path) -> tuple[int, int] | None:
    try:
        return picture_size(path)
    except DataError:
        return None  # decoding will report the error


def _outside(
    corners: NDArray[np.float64], size: tuple[int, int] | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which objects are fully, and which partly, outside an image of height and width."""
    if size is None:
        nothing = np.zeros(len(corners), dtype=bool)
        return nothing, nothing
    low, high = corners.min(axis=1), corners.max(axis=1)
    limit = np.array(size[::-1])
    outside = ((high <= 0) | (low >= limit)).any(axis=1)
    return outside, ((low < 0) | (high > limit)).any(axis=1) & ~outside


def _splits(folders: list[str | None], held_out: str) -> tuple[list[str] | None, tuple[str, ...]]:
    """Return the split of each object, None if the folders are not split, and notes."""
    names = [folder for folder in folders if folder]
    if not names:
        return None, ()
    if held_out == "test" and "val" in names and "test" not in names:
        told = "there is no labelled test folder, so the folder val is the test split"
        return ["test" if name == "val" else name for name in names], (told,)
    return names, ()


def _about(options: ObjectOptions) -> str:
    shape = "a square" if options.frame == "square" else "the object's aspect ratio"
    turned = "along rows and columns" if options.turn == "upright" else "rotated to the horizontal"
    return (
        f"samples are crops of objects: {shape} with a margin of {options.margin:g} of the "
        f"longer side, {turned}; the image is the group"
    )
