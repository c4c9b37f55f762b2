"""Which files of a folder are used: the same for every command."""

import os
from pathlib import Path
from typing import NoReturn

from tailora.errors import DataError


def visible_files(folder: Path) -> list[Path]:
    """List the files below a folder at any depth, sorted.

    Names that begin with a dot are ignored, such as `._x.png` written by macOS. Links to folders
    are followed, but no folder is read twice, so cyclic links end.

    Args:
        folder: An existing folder.

    Raises:
        DataError: A folder below it cannot be read.
    """
    files: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for here, folders, names in os.walk(folder, onerror=_unreadable, followlinks=True):
        status = os.stat(here)  # noqa: PTH116 - `here` is what os.walk gives
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(here, name) for name in names if not name.startswith(".")]
    return sorted(files)


def visible_entries(folder: Path) -> list[Path]:
    """List the entries of a folder, sorted, without hidden ones.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        return _unreadable(error)


def _unreadable(error: OSError) -> NoReturn:
    raise DataError(
        f"cannot read folder {str(error.filename)!r}: {error.strerror}; fix its permissions, or "
        "move it away"
    ) from error
