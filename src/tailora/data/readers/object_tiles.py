"""Images with labelled objects as tiles: DOTA's format, YOLO's, and COCO's."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.boxes import Tile, make_tiles
from tailora.data.dataset import Dataset, assemble_targets
from tailora.data.objects import NO_OBJECTS, Objects, ObjectTiles, TiledObjects, has_area
from tailora.data.readers.coco_labels import find_coco_images
from tailora.data.readers.dota import VERSIONS, checked_version
from tailora.data.readers.labelled_images import (
    Found,
    LabelledImage,
    find_labelled_images,
    has_label_folders,
)
from tailora.data.readers.picture_windows import picture_size
from tailora.data.readers.visible_files import visible_files
from tailora.data.readers.yolo_labels import find_yolo_images, is_yolo
from tailora.data.splits import divide_groups
from tailora.errors import ConfigError, DataError, unknown_name
from tailora.numbers import counted

FORMATS: Final = ("dota", "yolo", "coco")
"""Formats of labels, by the name before the path."""
_VALIDATION: Final = 0.125  # of the training images, where the folders have none
_OPTIONS: Final[Mapping[str, Mapping[str, type]]] = {
    "dota": {"tile": int, "gap": int, "unpaired": str, "labels": str, "version": str},
    "yolo": {"tile": int, "gap": int, "unpaired": str},
    "coco": {"tile": int, "gap": int, "unpaired": str, "images": str},
}
TILE: Final = 448
"""Pixels per side of a tile, unless another is chosen."""
_SMALL: Final = 8.0  # pixels
_SHARE: Final = 5  # of the side of a tile over the overlap of neighbours


def open_object_tiles(
    source: str | Path,
    *,
    seed: int = 0,
    to_learn: bool = True,
    tile: int = TILE,
    gap: int | None = None,
    labels: str = "",
    unpaired: str = "refuse",
    version: str = "any",
    images: str = "",
) -> Dataset:
    """Open images with labelled objects, cut into overlapping square tiles.

    Tiles without objects are kept. Objects that are difficult, or cut by the border of a tile, are
    there but do not count: neither finding nor missing them is learnt or measured. All tiles of an
    image are in one split, and intervals resample images.

    Args:
        source: `dota:PATH`, `yolo:PATH` or `coco:PATH`, or a path, whose content says which;
            `dota:PATH:tile=1024:gap=200` gives options. Folders are those of `labelled_images`,
            `yolo_labels` and `coco_labels`.
        seed: Seeds missing splits.
        to_learn: False for data only used for evaluation: all images are test images.
        tile: Side of a tile in pixels; that of the longest image if it is smaller.
        gap: Overlap of neighbouring tiles in pixels, a fifth of a tile if None; an object up to
            this size is whole in one of them.
        labels: Label folder of DOTA relative to the split folder, if there are several.
        unpaired: `"refuse"` or `"skip"` images without labels and labels without an image.
        version: `"1.0"`, `"1.5"` or `"2.0"` of DOTA, which define the allowed class names; `"any"`
            accepts all names.
        images: Folder of the images of COCO, if they are not in one of the usual places.

    Raises:
        DataError: Files are missing or malformed, a class is unknown, or no object is left.
        ConfigError: An unknown option, or an invalid value.
    """
    given = {
        "tile": tile, "gap": gap, "labels": labels, "unpaired": unpaired, "version": version,
        "images": images,
    }  # fmt: skip
    kind, root, own = _parse(source)
    given |= own
    found = _found(kind, root, given)
    notes = [*found.notes]
    pictures = found.images
    kept = _Kept()
    sizes = [picture_size(image.path) for image in pictures]
    usable = [kept.of(image, size) for image, size in zip(pictures, sizes, strict=True)]
    classes, usable = kept.classes(usable)
    if not classes:
        raise DataError(
            f"no object in {str(root)!r}: {'; '.join(kept.tally()) or 'labels are empty'}"
        )
    side = min(int(given["tile"]), max(max(size) for size in sizes))
    objects = [_objects(one, rows, classes) for one, rows in usable]
    gap = side // _SHARE if given["gap"] is None else int(given["gap"])
    tiles, owners = _cut(sizes, side, gap)
    names = [image.name for image in pictures]
    splits = _splits(pictures, objects, len(classes), seed) if to_learn else None
    several = len(tiles) > len(pictures)
    if several:
        cut = f"{counted(len(pictures), 'image')} cut into {counted(len(tiles), 'tile')}"
        notes.append(f"{cut} of {side} pixels")
    gsd = [image.labels.gsd for image in pictures]
    targets = TiledObjects(names, objects, owners, tiles, len(classes), gsd)
    cut = np.flatnonzero(~targets.tally().any(axis=0))
    if to_learn and len(cut):
        raise DataError(
            f"no object of {[classes[c] for c in cut]} is whole in a tile of {side} pixels; use "
            f"larger tiles, e.g. :tile={TILE}, or a larger gap"
        )
    notes += [*one_class(classes), *small_objects(objects), *_some_distances(gsd)]
    empty = int((targets.tally().sum(axis=1) == 0).sum())
    if empty:
        notes.append(f"{counted(empty, 'tile')} without an object that counts, kept")
    return assemble_targets(
        root.resolve().stem if root.is_file() else root.resolve().name,
        ObjectTiles([image.path for image in pictures], names, owners, tiles),
        targets,
        classes=classes,
        splits=None if splits is None else [splits[owner] for owner in owners],
        groups=[names[owner] for owner in owners] if several else None,
        seed=seed,
        notes=(*notes, *kept.tally()),
        to_learn=to_learn,
    )


def small_objects(objects: Sequence[Objects]) -> list[str]:
    """Say what to do about objects that are too small for the detector, if most are."""
    sides = np.concatenate([one.boxes[:, 2:4].min(axis=1) for one in objects])
    if not len(sides) or np.median(sides) >= _SMALL:
        return []
    return [
        f"half of the objects are narrower than {np.median(sides):.1f} pixels, which is little for "
        "a detector on tokens: enlarge them, by smaller tiles and --image-size of twice their side"
    ]


def _some_distances(gsd: Sequence[float | None]) -> list[str]:
    """Say how many images have a ground sampling distance, where some have and some have not."""
    known = sum(one is not None for one in gsd)
    if known in (0, len(gsd)):
        return []
    return [
        f"{counted(known, 'image')} of {len(gsd)} {'has' if known == 1 else 'have'} a ground "
        "sampling distance: only among them can objects be pasted"
    ]


def one_class(classes: Sequence[str]) -> list[str]:
    """Say what a single class means, if it is one."""
    if len(classes) > 1:
        return []
    return [
        f"one class, {classes[0]!r}: objects are found, and there is no other class to tell them "
        "from; there is no tail"
    ]


def _parse(source: str | Path) -> tuple[str, Path, dict[str, Any]]:
    """Split `dota:PATH:option=value` into a format, a path and options."""
    if Path(source).exists():
        return _format_of(Path(source)), Path(source), {}
    words = str(source).split(":")
    named = words[0] in FORMATS and len(words) > 1
    kind, words = (words[0], words[1:]) if named else ("", words)
    first = next((i for i, word in enumerate(words) if i and "=" in word), len(words))
    root = Path(":".join(words[:first])).expanduser()
    kind = kind or _format_of(root)
    given: dict[str, Any] = {}
    for word in words[first:]:
        key, _, value = word.partition("=")
        if key not in _OPTIONS[kind]:
            raise unknown_name("option of objects", key, _OPTIONS[kind])
        try:
            given[key] = _OPTIONS[kind][key](value)
        except ValueError as error:
            raise ConfigError(f"{key} takes a whole number, got {value!r}") from error
    return kind, root, given


def _format_of(path: Path) -> str:
    """Format of the labels at a path that does not name it."""
    if path.is_dir() and not has_label_folders(path):
        if is_yolo(path):
            return "yolo"
        if any(p.suffix.lower() == ".json" for p in visible_files(path)):
            return "coco"
    return {".json": "coco", ".yaml": "yolo", ".yml": "yolo"}.get(path.suffix.lower(), "dota")


def _found(kind: str, root: Path, given: Mapping[str, Any]) -> Found:
    """Images with their labels."""
    unpaired = str(given["unpaired"])
    if kind == "yolo":
        return find_yolo_images(root, unpaired=unpaired)
    if kind == "coco":
        return find_coco_images(root, images=str(given["images"]), unpaired=unpaired)
    wanted = str(given["version"])
    if wanted not in VERSIONS:
        raise unknown_name("version of DOTA", wanted, VERSIONS)
    found = find_labelled_images(
        root, labels=str(given["labels"]),
        version="" if wanted in ("auto", "any") else wanted, unpaired=unpaired,
    )  # fmt: skip
    if wanted != "any":
        found.notes.append(checked_version(found, wanted))
    return found


@final
@dataclass
class _Kept:
    """Which objects are used, and why others are not."""

    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    difficult: int = 0

    def of(self, image: LabelledImage, size: tuple[int, int]) -> tuple[LabelledImage, list[int]]:
        """Rows of the objects of an image that are used."""
        items = image.labels.objects
        if not items:
            return image, []
        corners = np.array([item.corners for item in items], dtype=np.float64)
        low, high = corners.min(axis=1), corners.max(axis=1)
        outside = ((high <= 0) | (low >= np.array(size[::-1]))).any(axis=1)
        flat = ~has_area(corners)
        rows = []
        for k, item in enumerate(items):
            reason = "without area" if flat[k] else "outside their image" if outside[k] else ""
            if reason:
                self.left_out[reason].append(f"{image.labels.path.name}:{item.line}")
            else:
                rows.append(k)
                self.difficult += item.difficult > 0
        return image, rows

    def classes(
        self, usable: Sequence[tuple[LabelledImage, list[int]]]
    ) -> tuple[list[str], list[tuple[LabelledImage, list[int]]]]:
        """Names of the classes with an object that counts, and the objects of these classes."""
        found = [(one, k, one.labels.objects[k]) for one, rows in usable for k in rows]
        names = {item.name for _, _, item in found if not item.difficult}
        for one, _, item in found:
            if item.name not in names:
                reason = f"of class {item.name!r}, all of which are difficult"
                self.left_out[reason].append(f"{one.labels.path.name}:{item.line}")
        return sorted(names), [
            (one, [k for k in rows if one.labels.objects[k].name in names]) for one, rows in usable
        ]

    def tally(self) -> list[str]:
        notes = [
            f"left out {counted(len(places), 'object')} {reason} (first {places[0]})"
            for reason, places in self.left_out.items()
        ]
        if self.difficult:
            notes.append(f"{counted(self.difficult, 'object')} marked difficult, not counted")
        return notes


def _objects(image: LabelledImage, rows: Sequence[int], classes: Sequence[str]) -> Objects:
    if not rows:
        return NO_OBJECTS
    items = [image.labels.objects[k] for k in rows]
    return Objects(
        np.array([item.corners for item in items], dtype=np.float64),
        np.array([classes.index(item.name) for item in items], dtype=np.int64),
        np.array([item.difficult for item in items], dtype=np.int64),
    )


def _cut(
    sizes: Sequence[tuple[int, int]], side: int, gap: int
) -> tuple[list[Tile], NDArray[np.int64]]:
    """All tiles, and the image of each (tiles,)."""
    cut = [make_tiles(*size, size=side, gap=gap) for size in sizes]
    owners = np.repeat(np.arange(len(cut)), [len(one) for one in cut])
    return [tile for one in cut for tile in one], owners


def _splits(
    images: Sequence[LabelledImage], objects: Sequence[Objects], classes: int, seed: int
) -> list[str] | None:
    """Split of each image; None if the folders are not split.

    A labelled folder `val` is the test split where there is no labelled `test`, and some training
    images are then for validation.
    """
    names = [image.split for image in images]
    if None in names:
        return None
    present = Counter(names)
    roles = {"val": "test"} if "val" in present and "test" not in present else {}
    splits = [roles.get(str(name), str(name)) for name in names]
    if "val" in splits or "train" not in splits:
        return splits
    rows = [i for i, split in enumerate(splits) if split == "train"]
    amounts = np.array([objects[i].counted(classes) for i in rows], dtype=np.float64)
    sides = divide_groups(
        amounts, fractions=(1 - _VALIDATION, _VALIDATION, 0.0), rng=np.random.default_rng(seed)
    )
    for i, drawn in zip(rows, sides, strict=True):
        splits[i] = "val" if drawn == 1 else "train"
    return splits
