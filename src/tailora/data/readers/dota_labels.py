"""Label files in DOTA's format: one object per line, four corners, a class, a difficult flag.

Reference: Xia et al., "DOTA: A Large-scale Dataset for Object Detection in Aerial Images", CVPR
2018; Ding et al., "Object Detection in Aerial Images: A Large-Scale Benchmark and Challenges",
TPAMI 2022 (versions 1.5 and 2.0).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from tailora.errors import DataError

_V1_0: Final = (
    "plane", "baseball-diamond", "bridge", "ground-track-field", "small-vehicle", "large-vehicle",
    "ship", "tennis-court", "basketball-court", "storage-tank", "soccer-ball-field", "roundabout",
    "harbor", "swimming-pool", "helicopter",
)  # fmt: skip
_V1_5: Final = (*_V1_0, "container-crane")
DOTA_CLASSES: Final = {"1.0": _V1_0, "1.5": _V1_5, "2.0": (*_V1_5, "airport", "helipad")}
"""Class names of each published version, in the order of its paper; tailora uses only the names."""

_HEADERS: Final = ("imagesource:", "gsd:")
_COORDINATES: Final = 8
_DIFFICULT: Final = ("0", "1", "2")  # tiling tools write 2 for truncated objects


@final
@dataclass(frozen=True)
class LabelledObject:
    """One line of a label file.

    Attributes:
        corners: x and y of four corners in pixels, in file order.
        name: Class name.
        difficult: 0, or 1 for a difficult object, 2 for one truncated by a tile border.
        line: Line number in the file, from 1.
    """

    corners: tuple[tuple[float, float], ...]
    name: str
    difficult: int
    line: int


@final
@dataclass(frozen=True)
class LabelFile:
    """Content of one label file.

    Attributes:
        path: The file.
        imagesource: The platform, such as `"GoogleEarth"`, or None.
        gsd: Ground sampling distance in metres per pixel, or None.
        objects: In file order; may be empty.
    """

    path: Path
    imagesource: str | None
    gsd: float | None
    objects: tuple[LabelledObject, ...]


def read_label_file(path: Path) -> LabelFile:
    """Read a label file: header lines `imagesource:` and `gsd:` if present, then the objects.

    An object is `x1 y1 x2 y2 x3 y3 x4 y4 class difficult`, separated by spaces; without the last
    field it is not difficult. Any line ending is accepted; empty lines are ignored. Published
    readers silently drop short lines; here they are an error, as lost objects would not be counted.

    Raises:
        DataError: The file cannot be read, is not UTF-8, or a line is malformed; the message names
            file and line.
    """
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"label file {str(path)!r} is not UTF-8 (byte {error.start}); save it as UTF-8"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read label file {str(path)!r}: {error.strerror}") from error
    headers: dict[str, str] = {}
    objects: list[LabelledObject] = []
    for number, line in enumerate(text.splitlines(), start=1):
        key, colon, value = line.strip().partition(":")
        if colon and f"{key.lower()}:" in _HEADERS:
            headers[key.lower()] = value.strip()
        elif line.strip():
            objects.append(_object(path, number, line.split()))
    source = headers.get("imagesource") or None
    return LabelFile(path, source, _gsd(headers.get("gsd", "")), tuple(objects))


def _object(path: Path, number: int, words: Sequence[str]) -> LabelledObject:
    if not _COORDINATES + 1 <= len(words) <= _COORDINATES + 2:
        raise malformed(path, number, f"{len(words)} fields")
    try:
        values = [float(word) for word in words[:_COORDINATES]]
    except ValueError as error:
        raise malformed(path, number, f"a coordinate is not a number: {error}") from error
    if not all(map(math.isfinite, values)):
        raise malformed(path, number, "a coordinate is NaN or infinite")
    flag = words[-1] if len(words) > _COORDINATES + 1 else "0"
    if flag not in _DIFFICULT:
        raise malformed(path, number, f"difficult must be 0, 1 or 2, got {flag!r}")
    corners = tuple(zip(values[::2], values[1::2], strict=True))
    return LabelledObject(corners, words[_COORDINATES], int(flag), number)


def malformed(path: Path, number: int, what: str) -> DataError:
    """Build the error for a line that is not an object."""
    return DataError(
        f"line {number} of {str(path)!r} is malformed ({what}); expected "
        "'x1 y1 x2 y2 x3 y3 x4 y4 class difficult'"
    )


def _gsd(text: str) -> float | None:
    """Return metres per pixel; the published files also contain `null` or nothing."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
