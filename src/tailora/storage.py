"""Write files so that a reader never meets half of one: temporary name first, then rename."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tailora.errors import StorageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it into place.

    Args:
        path: Final name; its folder is made when absent.
        write: Called with the temporary path (same suffix as `path`).

    Raises:
        StorageError: The disk is full or the folder cannot be written; the temporary file is gone.
    """
    temporary = path.with_name(f".{path.stem}.writing-{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        raise _storage_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically, newlines as given."""
    write_atomically(path, lambda temporary: temporary.write_text(text, "utf-8", newline=""))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented, non-ASCII kept; NaN is refused (it is not JSON)."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """Read a UTF-8 JSON file."""
    return json.loads(path.read_text("utf-8"))


def _storage_error(path: Path, error: OSError) -> StorageError:
    if error.errno in _FULL:
        return StorageError(
            f"no space left while writing {str(path)!r}; free some disk, then run again with --resume"
        )
    return StorageError(f"cannot write {str(path)!r}: {error.strerror or error}")
