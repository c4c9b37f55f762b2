"""Which files of a folder count: the same answer for every command."""

import os
from pathlib import Path
from typing import NoReturn

from tailora.errors import DataError


def visible_files(folder: Path) -> list[Path]:
    """List the files below a folder at any depth, sorted.

    Names that begin with a dot are passed over, as `._x.png` that a Mac leaves. Links to folders
    are followed, but no folder is read twice, so a link that leads back ends there.

    Args:
        folder: One that exists.

    Raises:
        DataError: A folder below it may not be read.
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
    """List what lies in a folder itself, sorted, nothing hidden.

    Raises:
        DataError: It may not be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        return _unreadable(error)


def _unreadable(error: OSError) -> NoReturn:
    raise DataError(
        f"cannot read folder {str(error.filename)!r}: {error.strerror}; give it back its "
        "permissions, or move it away"
    ) from error
