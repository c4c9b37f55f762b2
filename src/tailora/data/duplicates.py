"""Find duplicate images: leaks between splits, and conflicting labels."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from tailora.data.dataset import Dataset
from tailora.data.sources import ImageSource, cut_from, file_path, file_size
from tailora.data.targets import pictures_of
from tailora.errors import DataError


@dataclass(frozen=True)
class Duplicate:
    """One image that occurs more than once, with its copies in row order.

    Args:
        ids: Names of the copies.
        splits: Split of each copy.
        labels: Class name of each copy.
    """

    ids: tuple[str, ...]
    splits: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def leaks(self) -> bool:
        """Whether the copies are in different splits, which inflates scores."""
        return len(set(self.splits)) > 1

    @property
    def conflicts(self) -> bool:
        """Whether the copies have different labels, so that at least one is wrong."""
        return len(set(self.labels)) > 1


def find_duplicates(dataset: Dataset) -> list[Duplicate]:
    """Find exact copies, by the bytes of the files or, without files, of the pixels.

    Only files of equal size are read, and crops are compared only at equal positions in files of
    equal size, so this is cheap. An image saved again with other settings, or cropped differently,
    is not found.

    Args:
        dataset: Dataset to search.

    Returns:
        One entry per image that occurs at least twice, ordered by first copy.

    Raises:
        DataError: An image cannot be read.
    """
    by_size: dict[tuple[int, str], list[int]] = defaultdict(list)
    pictures = np.arange(len(dataset))
    if dataset.targets is not None:  # an image of several raters is no copy of itself
        pictures = pictures_of(dataset.targets)
    for i in np.unique(pictures, return_index=True)[1].tolist():
        by_size[_outline(dataset.source, i)].append(i)
    by_content: dict[tuple[str, bytes], list[int]] = defaultdict(list)
    for (_, place), rows in by_size.items():
        for i in rows if len(rows) > 1 else ():
            by_content[place, _content(dataset, i)].append(i)
    copies = sorted(rows for rows in by_content.values() if len(rows) > 1)
    return [_duplicate(dataset, rows) for rows in copies]


def _outline(source: ImageSource, i: int) -> tuple[int, str]:
    """Return what copies share, without opening files: file size, and position in the file."""
    cut = cut_from(source, i)
    if cut is None:
        return file_size(source, i), ""
    try:
        return cut[0].stat().st_size, cut[1]
    except OSError as error:
        raise DataError(f"cannot read image {str(cut[0])!r}: {error.strerror}") from error


def _content(dataset: Dataset, i: int) -> bytes:
    cut = cut_from(dataset.source, i)
    path = cut[0] if cut else file_path(dataset.source, i)
    if path is not None:
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, hashlib.blake2b).digest()
        except OSError as error:
            raise DataError(f"cannot read image {str(path)!r}: {error.strerror}") from error
    pixels = dataset.source.read(i)
    shape = repr((pixels.shape, pixels.dtype.str)).encode()
    return hashlib.blake2b(shape + pixels.tobytes()).digest()


def _duplicate(dataset: Dataset, rows: list[int]) -> Duplicate:
    return Duplicate(
        tuple(dataset.source.id(i) for i in rows),
        tuple(str(dataset.splits[i]) for i in rows),
        tuple(_class_of(dataset, i) for i in rows),
    )


def _class_of(dataset: Dataset, i: int) -> str:
    label = int(dataset.labels[i])
    return dataset.classes[label] if label >= 0 else "unlabelled"
