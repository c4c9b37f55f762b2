"""Names that every file of a run, and every reader of one, can hold."""

from tailora.data import Dataset
from tailora.errors import DataError


def check_names(data: Dataset) -> None:
    """Reject names of classes and files that no text file of the run could hold.

    Raises:
        DataError: A name is not UTF-8, as in archives from other systems.
    """
    for name in (*data.classes, *data.ids()):
        require_utf8(name)


def require_utf8(name: str) -> None:
    """Raise `DataError` for a name that the system could not decode."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"name {name!r} is not UTF-8; rename the file or folder") from error
