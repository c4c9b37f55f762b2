"""Masks of both dates of a pair as transitions of land cover."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailora.data.images import UNREADABLE
from tailora.data.masks import IGNORED, ClassTable, read_mask
from tailora.data.rasters.files import quietly, reason_of
from tailora.data.sources import ImageSource, file_mark, path_mark
from tailora.errors import DataError
from tailora.transitions import CHANGE, NO_CHANGE, transition_name

UNCHANGED: Final = "unchanged"
"""Name in a class table of the value of pixels that are the same at both dates."""
SECOND_COLOURS: Final[Mapping[tuple[int, int, int], str]] = {
    (255, 255, 255): UNCHANGED,
    (0, 0, 255): "water",
    (128, 128, 128): "ground",
    (0, 128, 0): "low vegetation",
    (0, 255, 0): "tree",
    (128, 0, 0): "building",
    (255, 0, 0): "sports field",
}
"""Colours of the masks of SECOND."""
_SHOWN: Final = 4
_BINARY: Final = 2
ReadMask = Callable[[Path], NDArray[np.int16]]
"""Land cover of each pixel of a mask: 0 unchanged, from 1 a class, `IGNORED` for none."""


def read_indexed(path: Path, table: ClassTable) -> NDArray[np.int16]:
    """Read a mask of values as land cover, in the order of `covers_of`.

    Raises:
        DataError: It is no mask, or has a value that the table does not name.
    """
    covers = covers_of(table.classes)
    number = [covers.index(name) + 1 if name in covers else 0 for name in table.classes]
    return np.array([*number, IGNORED], dtype=np.int16)[table.indices(read_mask(path), path)]


def read_coloured(path: Path, colours: Mapping[tuple[int, int, int], str]) -> NDArray[np.int16]:
    """Read a mask of colours as land cover, in the order of `covers_of`.

    Raises:
        DataError: It cannot be read, or has a colour that is no class.
    """
    try:
        with quietly(Image.DecompressionBombWarning), Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=np.int32)
    except UNREADABLE as error:
        raise DataError(f"cannot read mask {str(path)!r}: {reason_of(error)}") from error
    covers = covers_of(tuple(colours.values()))
    code = (pixels[..., 0] << 16) | (pixels[..., 1] << 8) | pixels[..., 2]
    found = np.full(code.shape, IGNORED, dtype=np.int16)
    known = np.zeros(code.shape, dtype=bool)
    for (red, green, blue), name in colours.items():
        own = code == (red << 16 | green << 8 | blue)
        found[own] = covers.index(name) + 1 if name in covers else 0
        known |= own
    if not known.all():
        others = np.unique(pixels[~known], axis=0).tolist()
        shown = ", ".join(str(tuple(colour)) for colour in others[:_SHOWN])
        more = ", ..." if others[_SHOWN:] else ""
        raise DataError(
            f"mask {str(path)!r} has colours ({shown}{more}) that are no class of SECOND; write "
            "one band of class values and a class table"
        )
    return found


def covers_of(names: Sequence[str]) -> tuple[str, ...]:
    """Names of land cover in a table, sorted, without that of unchanged pixels."""
    return tuple(sorted({name for name in names if name != UNCHANGED}))


class ChangeMask(Protocol):
    """What is known about the pixels of each pair."""

    def __len__(self) -> int:
        """Number of pairs."""
        ...

    def covers(self, i: int) -> NDArray[np.int16] | None:
        """Land cover of pair `i` at both dates: 0 unchanged, negative for none (2, rows, columns).

        None without masks.
        """
        ...

    def mark(self, i: int) -> tuple[int, int]:
        """Size and checksum of what masks `i` are read from."""
        ...


@final
class ChangeFiles:
    """Masks of pairs in files.

    Args:
        paths: Masks of each pair: of both dates, or one of change.
        read: Reads one.
    """

    def __init__(self, paths: Sequence[tuple[Path, ...]], read: ReadMask) -> None:
        self.paths, self.reader = tuple(paths), read

    def __len__(self) -> int:
        return len(self.paths)

    def covers(self, i: int) -> NDArray[np.int16]:
        """See `ChangeMask`; a mask of change stands for both dates."""
        own = [self.reader(path) for path in self.paths[i]]
        return np.stack(own if len(own) == _BINARY else own * _BINARY)

    def mark(self, i: int) -> tuple[int, int]:
        """See `ChangeMask`."""
        return marks_together([path_mark(path) for path in self.paths[i]])


@final
class ChangeArrays:
    """Masks of pairs in memory.

    Args:
        masks: Land cover at both dates, from 1 (pairs, 2, rows, columns).
    """

    def __init__(self, masks: NDArray[np.int16]) -> None:
        self.masks = masks

    def __len__(self) -> int:
        return len(self.masks)

    def covers(self, i: int) -> NDArray[np.int16]:
        """See `ChangeMask`."""
        return self.masks[i]

    def mark(self, i: int) -> tuple[int, int]:
        """See `ChangeMask`."""
        return self.masks[i].nbytes, zlib.crc32(self.masks[i].tobytes())


def codes_of(covers: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Number the transition of each pixel: 0 is unchanged, else (before - 1) * classes + after.

    Args:
        covers: Land cover at both dates, as `ChangeMask.covers`.
        classes: Number of classes of land cover.

    Returns:
        `IGNORED` where a date has none, or only one is called unchanged (rows, columns).
    """
    before, after = covers.astype(np.int64)
    code = np.where(before == 0, 0, (before - 1) * classes + after)
    odd = (before < 0) | (after < 0) | ((before == 0) != (after == 0))
    return np.where(odd, IGNORED, code)


def binary_codes(covers: NDArray[np.integer]) -> NDArray[np.int64]:
    """Number pixels of a mask of change: 0 is no change, 1 change, `IGNORED` for none."""
    return covers[0].astype(np.int64)


@final
class TransitionMasks:
    """Transitions as class indices of each pixel, counted in both orders of the dates.

    A pair is learnt from in both orders, so that a transition and its inverse have equal counts.

    Args:
        masks: Land cover of each pair.
        names: Its names, from 1; empty for masks of change.
        classes: Names of the classes of the data set, each a transition.
        counts: Pixels of each class in each pair, both orders (pairs, classes).
    """

    def __init__(
        self,
        masks: ChangeMask,
        names: Sequence[str],
        classes: Sequence[str],
        counts: NDArray[np.int64],
    ) -> None:
        self.masks, self.names, self.counts = masks, tuple(names), counts
        index = {name: c for c, name in enumerate(classes)}
        wanted = code_names(names)
        self.class_of = np.array([*(index.get(n, IGNORED) for n in wanted), IGNORED], np.int16)

    def __len__(self) -> int:
        return len(self.masks)

    def read(self, i: int) -> NDArray[np.int16] | None:
        """Class index of the transition of each pixel, `IGNORED` for none (rows, columns)."""
        covers = self.masks.covers(i)
        return None if covers is None else self.class_of[codes(covers, self.names)]

    def covers(self, i: int) -> NDArray[np.int16] | None:
        """Land cover at both dates (2, rows, columns); see `ChangeMask`."""
        return self.masks.covers(i)

    def tally(self) -> NDArray[np.int64]:
        """Pixels of each class in each pair, both orders (pairs, classes)."""
        return self.counts

    def mark(self, i: int) -> tuple[int, int]:
        """Size and checksum of the masks of pair `i`."""
        return self.masks.mark(i)


def codes(covers: NDArray[np.integer], names: Sequence[str]) -> NDArray[np.int64]:
    """Number the transition of each pixel as `code_names` lists them."""
    return codes_of(covers, len(names)) if names else binary_codes(covers)


def code_names(names: Sequence[str]) -> list[str]:
    """Name the numbers of `codes`; from one land cover into itself is what stays."""
    if not names:
        return [NO_CHANGE, CHANGE]
    return [NO_CHANGE, *(transition_name(before, after) for before in names for after in names)]


@final
class PairImages:
    """Images of two dates as one, the bands of the second after those of the first.

    Args:
        before: Images of the first date.
        after: Images of the second, pixel on pixel.
    """

    def __init__(self, before: ImageSource, after: ImageSource) -> None:
        self.before, self.after = before, after

    def __len__(self) -> int:
        return len(self.before)

    def read(self, i: int) -> NDArray[Any]:
        """Read pair `i` (bands of both, height, width).

        Raises:
            DataError: The dates differ in bands, size or type.
        """
        first, second = self.before.read(i), self.after.read(i)
        if first.shape != second.shape or first.dtype != second.dtype:
            raise DataError(
                f"pair {self.id(i)!r} has {_said(first)} before, but {_said(second)} after; both "
                "dates need the same bands, size and type"
            )
        return np.concatenate([first, second])

    def id(self, i: int) -> str:
        """Name of pair `i`: that of its first image."""
        return self.before.id(i)

    def mark(self, i: int) -> tuple[int, int]:
        """Size and checksum of both images."""
        return marks_together([file_mark(self.before, i), file_mark(self.after, i)])


def _said(image: NDArray[Any]) -> str:
    return f"{len(image)} x {image.shape[1]} x {image.shape[2]} values of {image.dtype}"


def marks_together(marks: Sequence[Any]) -> tuple[int, int]:
    """Add up sizes, and checksums in order, of what one sample is read from."""
    checksum = 0
    for _, own in marks:
        checksum = (checksum * 31 + own) & 0xFFFFFFFF
    return sum(size for size, _ in marks), checksum
