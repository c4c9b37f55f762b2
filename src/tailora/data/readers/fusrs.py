"""FUSRS v2: SAR chips of ships in five classes, compiled from FUSAR-Ship and SRSDD.

Reference: Tian, Chen & Sun, "Learning De-Biased Representations for Remote-Sensing Imagery",
NeurIPS 2024. We did not have the archive: the class names and image lists follow the authors'
public code, the counts its description.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from tailora.data.dataset import Dataset, assemble
from tailora.data.readers.folder import open_folder
from tailora.data.sources import FileImages
from tailora.errors import DataError, unknown_name
from tailora.numbers import counted


def read_class_names(path: Path) -> list[str]:
    """Read class names, one per line; the first has number 0.

    Raises:
        DataError: The file cannot be read or is not UTF-8.
    """
    return [line.strip() for line in _lines(path) if line.strip()]


def read_image_list(path: Path, classes: Sequence[str]) -> list[tuple[str, str]]:
    """Read lines `path number`, or `path name`.

    Args:
        path: The list.
        classes: Class names, by number.

    Returns:
        Path as written and class name of each image.

    Raises:
        DataError: The file cannot be read, or a line has no path or no valid class; the message has
            file and line.
    """
    rows, names = [], frozenset(classes)
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        image, _, label = line.strip().rpartition(" ")
        if not image:
            raise DataError(
                f"line {number} of {str(path)!r} is malformed; expected 'path class-number'"
            )
        named = label in names and not label.isdecimal()
        own = label if named else _class(path, number, label, classes)
        rows.append((image.strip(), own))
    return rows


def _class(path: Path, number: int, label: str, classes: Sequence[str]) -> str:
    if label.isdecimal():
        if int(label) < len(classes):
            return classes[int(label)]
        raise DataError(
            f"line {number} of {str(path)!r}: class number {label} must lie in "
            f"[0, {len(classes) - 1}]"
        )
    raise DataError(f"line {number} of {str(path)!r}: {unknown_name('class', label, classes)}")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{str(path)!r} is not UTF-8 (byte {error.start}); save it as UTF-8"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {str(path)!r}: {error.strerror}") from error


FUSRS_COUNTS: Final = {
    "cargo": (3890, 484, 772),
    "other": (1710, 213, 216),
    "fishing": (814, 102, 161),
    "tanker": (315, 40, 59),
    "dredger": (242, 30, 52),
}
"""Published number of chips per class in train, val and test."""

CLASS_NAMES: Final = "classnames.txt"

_LISTS: Final = ("train", "val", "test")
_SCENES: Final = "the scene of each chip is not published: intervals treat chips as independent"


def open_fusrs(path: str | Path, *, seed: int = 0) -> Dataset:
    """Open the chips of FUSRS, whole, with the published splits.

    Args:
        path: Folder with `train`, `val` and `test`, each with one folder per class; or lists
            `train.txt`, `val.txt` and `test.txt` of lines `path class-number`, with
            `classnames.txt` unless the numbers are those of cargo, other, fishing, tanker, dredger.
            Class names may be capitalised.
        seed: Seeds missing splits.

    Raises:
        DataError: Neither layout, a class other than the five, or a missing image.
    """
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"no folder {str(root)!r}; give the one that contains train, val and test")
    data = (
        _from_lists(root, seed) if (root / "train.txt").is_file() else open_folder(root, seed=seed)
    )
    names = tuple(name.lower() for name in data.classes)
    for name, lower in zip(data.classes, names, strict=True):
        if lower not in FUSRS_COUNTS:
            raise DataError(
                f"in {str(root)!r}: {unknown_name('class of FUSRS', name, FUSRS_COUNTS)}"
            )
    notes = (*data.notes, _SCENES, *_compared(data, names))
    return replace(data, classes=names, notes=notes)


def _from_lists(root: Path, seed: int) -> Dataset:
    names = root / CLASS_NAMES
    classes = read_class_names(names) if names.is_file() else list(FUSRS_COUNTS)
    images: list[str] = []
    labels: list[str] = []
    splits: list[str] = []
    for split in _LISTS:
        path = root / f"{split}.txt"
        if not path.is_file():
            continue
        rows = read_image_list(path, classes)
        missing = [image for image, _ in rows if not (root / image).is_file()]
        if missing:
            raise DataError(
                f"{str(path)!r} lists {counted(len(missing), 'missing image')}, such as "
                f"{missing[0]!r}; paths are relative to {str(root)!r}"
            )
        images += [image for image, _ in rows]
        labels += [label for _, label in rows]
        splits += [split] * len(rows)
    source = FileImages([root / image for image in images], images)
    return assemble(root.resolve().name, source, labels, splits=splits, seed=seed)


def _compared(data: Dataset, names: tuple[str, ...]) -> tuple[str, ...]:
    """Note if the counts differ from the published ones: then results are not comparable."""
    different = []
    for k, split in enumerate(_LISTS):
        found = dict(zip(names, data.counts(split).values, strict=True))
        published = {name: counts[k] for name, counts in FUSRS_COUNTS.items()}
        if found != published:
            listed = ", ".join(f"{found.get(n, 0)} {n} for {p}" for n, p in published.items())
            different.append(f"{split} is not the published FUSRS v2: {listed}")
    return tuple(different)
