"""Read images and their masks: folders `images` and `masks`, or a table of pairs."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.data.dataset import Dataset, assemble_targets
from tailora.data.images import EXTENSIONS
from tailora.data.masks import (
    ClassTable,
    MaskFiles,
    absent,
    picture_size,
    pixels_of,
    read_class_table,
    read_mask,
    require_same_ground,
)
from tailora.data.readers.table import TABLE_EXTENSIONS, read_table, table_columns
from tailora.data.readers.visible_files import visible_files
from tailora.data.sources import FileImages
from tailora.data.splits import split_name
from tailora.errors import ConfigError, DataError, unknown_name
from tailora.numbers import counted

IMAGES: Final = "images"
MASKS: Final = "masks"
CLASS_TABLES: Final = ("classes.csv", "classes.txt")
_OPTIONS: Final = ("classes", "ignore")
_COLUMNS: Final = ("image", "mask")
_OF_PAIRS: Final = ("before", "after")  # columns
_RATER: Final = "rater"
_OF_RATER: Final = "masks_"
"""Before the name of a rater, in that of a folder."""
_FEWEST_RATERS: Final = 2
_THREADS: Final = 4


def open_masks(
    source: str | Path,
    *,
    seed: int = 0,
    to_learn: bool = True,
    classes: str | Path | None = None,
    ignore: int | None = None,
) -> Dataset:
    """Open images and masks.

    Args:
        source: A folder with `images/` and `masks/` whose files have equal stems, in the same
            subfolders if any (train, val and test become splits); or a CSV or Parquet table with
            columns `image` and `mask`, and optionally `split` and `group`. Masks of several raters
            are in folders `masks_NAME/`, or in rows with a column `rater`: each is a sample, and
            those of an image are a group. With options as in `"pairs:ignore=255"`.
        seed: Seeds missing splits.
        to_learn: False for data only used for evaluation; see `Dataset`.
        classes: Class table; None takes `classes.csv` or `classes.txt` beside the images.
        ignore: Value of pixels that have no class, besides those that the table calls `ignore`.

    Raises:
        DataError: The layout is another one, a mask is no mask, has another size than its image or
            values without a name, or an error of `tailora.data.check`.
        ConfigError: An option is unknown or has a wrong value.
    """
    path, given = _parse(source)
    classes, ignore = given.get("classes", classes), given.get("ignore", ignore)
    if ignore is not None:
        ignore = value_of(ignore)
    if path.is_dir():
        found = _from_folder(path)
    elif path.suffix.lower() in TABLE_EXTENSIONS and path.is_file():
        found = _from_table(path)
    else:
        raise DataError(
            f"no folder with {IMAGES}/ and {MASKS}/ and no table ({', '.join(TABLE_EXTENSIONS)}) "
            f"of images and masks: {str(path)!r}"
        )
    images, masks, notes = found.images, found.masks, found.notes
    folder = path if path.is_dir() else path.parent
    values = [] if ignore is None else [ignore]
    table = read_class_table(class_table(folder, classes, masks), ignore=values)
    counts = _count(images, masks, table)
    if not counts.any():
        raise DataError(f"no mask of {str(path)!r} has a pixel with a class; all are ignored")
    has_mask = np.array([mask is not None for mask in masks])
    empty = int((has_mask & ~counts.any(axis=1)).sum())
    if not has_mask.all():
        n = int((~has_mask).sum())
        notes.append(f"without a mask, so not labelled: {counted(n, 'image')}")
    if empty:
        notes.append(f"with no pixel that has a class, so not labelled: {counted(empty, 'mask')}")
    notes += absent(table.classes, counts)
    used = np.flatnonzero(counts.sum(axis=0))
    names = [table.classes[c] for c in used]
    return assemble_targets(
        path.resolve().stem if path.is_file() else path.resolve().name,
        FileImages(images, found.ids),
        MaskFiles(masks, table, names, counts[:, used], found.pictures),
        classes=names,
        splits=found.splits,
        groups=found.groups,
        seed=seed,
        notes=tuple(notes),
        to_learn=to_learn,
    )


def has_masks_of_one_date(source: str | Path) -> bool:
    """Whether `source` is a folder or table of single images with masks, not of pairs of dates.

    Raises:
        DataError: It is a table that cannot be read.
        ConfigError: An option after its path is unknown.
    """
    path, _ = _parse(source)
    if path.is_dir():
        return any((path / name).is_dir() for name in (IMAGES, MASKS))
    if path.suffix.lower() not in TABLE_EXTENSIONS or not path.is_file():
        return False
    present = table_columns(path)
    return {*_COLUMNS} <= {*present} and not {*_OF_PAIRS} <= {*present}


@final
@dataclass(frozen=True)
class _Found:
    images: list[Path]
    ids: list[str]
    masks: list[Path | None]
    splits: list[str] | None
    groups: list[str] | None
    notes: list[str] = field(default_factory=list)
    pictures: list[int] | None = None

    def by_rater(self, raters: Sequence[str]) -> "_Found":
        """Take masks of one image for those of several raters; `""` for an image without any."""
        numbers: dict[Path, int] = {}
        pictures = [numbers.setdefault(image, len(numbers)) for image in self.images]
        named = zip(self.ids, raters, strict=True)
        told = f"{counted(len(set(raters) - {''}), 'rater')}: an image counts once for each mask"
        return _Found(
            self.images,
            [f"{name}@{rater}" if rater else name for name, rater in named],
            self.masks,
            self.splits,
            self.ids if self.groups is None else self.groups,
            [*self.notes, told],
            pictures,
        )


def _parse(source: str | Path) -> tuple[Path, dict[str, Any]]:
    if Path(source).exists():
        return Path(source), {}
    name, *assignments = str(source).split(":")
    given: dict[str, Any] = {}
    for assignment in assignments if Path(name).exists() else ():
        key, _, value = assignment.partition("=")
        if key not in _OPTIONS:
            raise unknown_name("option of images with masks", key, _OPTIONS)
        given[key] = value
    return (Path(name), given) if given else (Path(source), {})


def value_of(text: Any) -> int:
    """Read the option `ignore`.

    Raises:
        ConfigError: It is no value of a mask.
    """
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value <= np.iinfo(np.uint16).max:
        raise ConfigError(f"ignore takes a value of a mask, from 0 to 65535, got {text!r}")
    return value


def _from_folder(root: Path) -> _Found:
    rated = sorted(path.name for path in root.glob(f"{_OF_RATER}*") if path.is_dir())
    several = len(rated) >= _FEWEST_RATERS and not (root / MASKS).is_dir()
    missing = [
        name for name in (IMAGES, *([] if several else [MASKS])) if not (root / name).is_dir()
    ]
    if missing:
        raise DataError(
            f"{str(root)!r} has no folder {' and no folder '.join(map(repr, missing))}; put images "
            f"into {IMAGES}/ and their masks, with equal names, into {MASKS}/, or those of several "
            f"raters into {_OF_RATER}NAME/ each"
        )
    pairs = by_stem(root / IMAGES)
    folders = {name: by_stem(root / name) for name in (rated if several else [MASKS])}
    known = set[str]().union(*folders.values())
    if not pairs.keys() & known:
        raise DataError(
            f"no image of {str(root / IMAGES)!r} ({counted(len(pairs), 'image')}) has a mask of "
            f"its name in {str(root / next(iter(folders)))!r} ({counted(len(known), 'mask')})"
        )
    stems: list[str] = []
    masks: list[Path | None] = []
    raters: list[str] = []
    for stem in sorted(pairs):
        for name in [name for name, of in folders.items() if stem in of] or [""]:
            stems.append(stem)
            masks.append(folders[name][stem] if name else None)
            raters.append(name.removeprefix(_OF_RATER))
    tops = [split_name(stem.partition("/")[0]) if "/" in stem else None for stem in stems]
    lonely = sum(len(of.keys() - pairs.keys()) for of in folders.values())
    found = _Found(
        [pairs[stem] for stem in stems],
        [pairs[stem].relative_to(root / IMAGES).as_posix() for stem in stems],
        masks,
        [split for split in tops if split] if all(tops) else None,
        None,
        [f"masks without an image, left out: {lonely}"] if lonely else [],
    )
    return found.by_rater(raters) if several else found


def by_stem(folder: Path) -> dict[str, Path]:
    """Images of a folder and its subfolders by their name without extension.

    Raises:
        DataError: Two names differ only in their extension.
    """
    found: dict[str, Path] = {}
    for path in visible_files(folder):
        if path.suffix.lower() not in EXTENSIONS:
            continue
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise DataError(
                f"{found[stem].name!r} and {path.name!r} in {str(path.parent)!r} differ only in "
                "their extension; keep one"
            )
        found[stem] = path
    return found


def _from_table(path: Path) -> _Found:
    table = read_table(path, _COLUMNS, more=(_RATER,))
    ids, raters = table.columns["image"], table.columns.get(_RATER)
    found = _Found(
        table.files("image"), ids, [*table.files("mask")], table.splits(),
        table.columns.get("group"),
    )  # fmt: skip
    told = ids if raters is None else [f"{a}@{b}" for a, b in zip(ids, raters, strict=True)]
    if again := _again(told):
        what = "image" if raters is None else "the mask of a rater of"
        raise table.error(
            again, f"lists {what} {ids[again[0]]!r} again",
            "list each image once, or once for each name in a column rater",
        )  # fmt: skip
    for name, column in (("split", found.splits), ("group", found.groups)):
        first: dict[str, str] = {}
        apart = [
            i for i, value in enumerate(column or ()) if first.setdefault(ids[i], value) != value
        ]
        if apart:
            raise table.error(
                apart, f"has {ids[apart[0]]!r} in another {name}", f"give an image one {name}"
            )
    return found if raters is None else found.by_rater(raters)


def _again(names: Sequence[str]) -> list[int]:
    """Where a name stands that stood before."""
    first: dict[str, int] = {}
    return [i for i, name in enumerate(names) if first.setdefault(name, i) < i]


def class_table(folder: Path, given: str | Path | None, masks: Sequence[Path | None]) -> Path:
    """Find the class table of masks.

    Args:
        folder: Of images and masks.
        given: By the user, or None.
        masks: For the message.

    Raises:
        ConfigError: The given one does not exist.
        DataError: There is none.
    """
    if given is not None:
        if not Path(given).is_file():
            raise ConfigError(f"no class table {str(given)!r}; check --classes")
        return Path(given)
    for name in CLASS_TABLES:
        if (folder / name).is_file():
            return folder / name
    first = next(mask for mask in masks if mask is not None)
    values = ", ".join(map(str, np.unique(read_mask(first)).tolist()))
    raise DataError(
        f"no class names for the masks of {str(folder)!r} ({first.name!r} has values {values}); "
        f"write {CLASS_TABLES[0]} there, a line VALUE,NAME for each class, or give it by --classes"
    )


def _count(
    images: Sequence[Path], masks: Sequence[Path | None], table: ClassTable
) -> NDArray[np.int64]:
    """Pixels of each class in each mask (images, classes), after checking every mask."""
    classes = len(table.classes)

    def count(image: Path, path: Path | None) -> NDArray[np.int64]:
        if path is None:
            return np.zeros(classes, dtype=np.int64)
        mask = table.indices(read_mask(path), path)
        size = picture_size(image)
        if mask.shape != size:
            raise DataError(
                f"mask {str(path)!r} has {mask.shape[0]} x {mask.shape[1]} pixels, its image "
                f"{str(image)!r} {size[0]} x {size[1]}; they must lie pixel on pixel"
            )
        require_same_ground(image, path)
        return pixels_of(mask, classes)

    with ThreadPoolExecutor(_THREADS) as pool:
        return np.stack(list(pool.map(count, images, masks)))
