"""The examples of a search: files, images of the data, windows and boxes of a scene."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.config.recipe import DataOptions
from tailora.data.rasters.values import fill_gaps
from tailora.errors import ConfigError, DataError
from tailora.inference.image_input import decode_with, names_in
from tailora.inference.maps.chip_grid import LEAST_CHIP
from tailora.inference.search_encoder import SearchEncoder
from tailora.inference.search_pool import Pool
from tailora.numbers import coordinates

_SCALE: Final = 1.1  # an example this much larger or smaller than a window shows another scale


@final
@dataclass(frozen=True, eq=False)
class Example:
    """An example or counter-example.

    Args:
        name: As given.
        row: Its number in the pool, if it is one of its images.
        path: Its file, if it is another one.
        box: Rows and columns that it covers in the scene, from and to, if it is a box.
        image: Pixels of a file or box (bands, height, width), once read.
        bands: Names of their bands, if known.
    """

    name: str
    row: int | None = None
    path: Path | None = None
    box: tuple[int, int, int, int] | None = None
    image: NDArray[Any] | None = None
    bands: tuple[str, ...] | None = None

    def read(self, pool: Pool, options: DataOptions, stored: int) -> "Example":
        """Return the example with its pixels, unless they are among those of the pool.

        Args:
            pool: What is searched.
            options: How bands of files are named.
            stored: Bands of the images in the pool.

        Raises:
            DataError: It cannot be read.
        """
        if self.path is not None:
            image = decode_with(self.path, options, stored)
            return replace(self, image=image, bands=names_in(self.path, len(image), options))
        if self.box is None or pool.windows is None:
            return self
        top, left, bottom, right = self.box
        values, valid = pool.windows.scene.read(top, left, bottom - top, right - left)
        if not valid.any():
            raise DataError(f"the box {self.name!r} has no pixel with data")
        if not valid.all():
            values = fill_gaps(values, np.broadcast_to(~valid, values.shape))
        return replace(self, image=values, bands=pool.bands)


def find_examples(texts: Sequence[str | Path], pool: Pool) -> list[Example]:
    """Find examples as a user gives them; nothing is read.

    Args:
        texts: Files, ids of images in the pool, boxes in the CRS of its scene; several in one text
            are separated by commas.
        pool: What is searched.

    Raises:
        DataError: There is no such file, image or place.
        ConfigError: A box, but no scene.
    """
    return [_find(text, pool) for text in _separate(texts, pool)]


def prepared(examples: Sequence[Example], encoder: SearchEncoder) -> dict[int, NDArray[Any]]:
    """Return the model's input for each example, by position, that is not an image of the pool."""
    return {
        i: encoder.prepare(one.image, one.bands, f"example {one.name!r}")
        for i, one in enumerate(examples)
        if one.image is not None
    }


def features_of(
    examples: Sequence[Example],
    inputs: Mapping[int, NDArray[Any]],
    encoder: SearchEncoder,
    features: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the features of examples (examples, width)."""
    rows = np.empty((len(examples), encoder.width), dtype=np.float32)
    for i, one in enumerate(examples):
        rows[i] = encoder.encode(inputs[i][None])[0] if i in inputs else features[one.row]
        if np.isnan(rows[i]).any():
            raise DataError(f"example {one.name!r} cannot be used: it has no data, or is broken")
    return rows


def other_scale(wanted: Sequence[Example], pool: Pool) -> list[str]:
    """Warn of examples that show another amount of ground than windows."""
    if pool.windows is None:
        return []
    side = pool.windows.grid.chip
    sizes = [min(one.image.shape[1:]) for one in wanted if one.image is not None]
    other = [size for size in sizes if not 1 / _SCALE <= size / side <= _SCALE]
    if not other:
        return []
    return [
        f"an example is {other[0]} pixels wide and windows {side}: objects appear at another "
        f"scale; use --chip {other[0]}"
    ]


def _separate(texts: Sequence[str | Path], pool: Pool) -> list[str]:
    """Split texts at commas, unless one is a file, an id or a box as it stands."""
    found: list[str] = []
    for text in map(str, texts):
        whole = _is_file(text) or _corners(text) is not None or text in pool.rows
        parts = [text] if whole else [part.strip() for part in text.split(",")]
        found += [part for part in parts if part]
    return found


def _corners(text: str) -> list[float] | None:
    """Read a box."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    return numbers if len(numbers) == 4 and all(map(math.isfinite, numbers)) else None


def _find(text: str, pool: Pool) -> Example:
    box = _corners(text)
    if box is not None:
        return _box(text, box, pool)
    if text in pool.rows:
        return Example(text, pool.rows[text])
    path = Path(text)
    if not _is_file(text):
        if _is(text, Path.is_dir):
            raise DataError(f"example {text!r} is a folder; list the images in it that you mean")
        other, box = (
            ("an image", "")
            if pool.windows is None
            else ("a window", "; a box is WEST,SOUTH,EAST,NORTH")
        )
        raise DataError(
            f"example {text!r} is neither a file nor the id of {other} in {pool.name!r}, such as "
            f"{pool.source.id(0)!r}{box}"
        )
    row = pool.files.get(path.resolve())
    return Example(text, path=path) if row is None else Example(text, row)


def _box(text: str, corners: Sequence[float], pool: Pool) -> Example:
    if pool.windows is None:
        raise ConfigError(f"the box {text!r} is for a scene, and {pool.name!r} is none")
    scene = pool.windows.scene
    (west, east), (south, north) = sorted(corners[::2]), sorted(corners[1::2])
    top, left = (round(float(one)) for one in scene.grid.find(west, north))
    bottom, right = (round(float(one)) for one in scene.grid.find(east, south))
    height, width = bottom - top, right - left
    rows, columns = scene.shape
    if min(top, left) < 0 or bottom > rows or right > columns:
        raise DataError(
            f"the box {text!r} is not within {pool.name!r}, which covers "
            f"{coordinates(scene.grid.bounds)}"
        )
    if min(height, width) < LEAST_CHIP:
        raise DataError(f"the box {text!r} is {height} x {width} pixels; give {LEAST_CHIP} or more")
    return Example(text, box=(top, left, bottom, right))


def _is_file(text: str) -> bool:
    return _is(text, Path.is_file)


def _is(text: str, what: Callable[[Path], bool]) -> bool:
    try:
        return what(Path(text))
    except (OSError, ValueError):  # longer than a name can be
        return False
