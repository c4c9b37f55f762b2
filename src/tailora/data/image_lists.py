"""Lists of images as long-tail benchmarks publish them: a path and a class number a line."""

from collections.abc import Sequence
from pathlib import Path

from tailora.errors import DataError, unknown_name


def read_class_names(path: Path) -> list[str]:
    """Read class names, one a line; the first has number 0.

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
        DataError: The file cannot be read, or a line has no path or names no class; the message
            has file and line.
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
        raise DataError(f"{str(path)!r} is not UTF-8 (byte {error.start}); save it so") from error
    except OSError as error:
        raise DataError(f"cannot read {str(path)!r}: {error.strerror}") from error
