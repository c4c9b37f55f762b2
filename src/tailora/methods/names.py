"""Check that names of classes and files can be written to text files."""

from tailora.data import Dataset
from tailora.errors import DataError


def check_names(data: Dataset) -> None:
    """Reject names of classes and files that cannot be written as UTF-8.

    Raises:
        DataError: A name is not UTF-8, as in some archives from other systems.
    """
    for name in (*data.classes, *data.ids()):
        require_utf8(name)


def require_utf8(name: str) -> None:
    """Raise `DataError` for a name that is not UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"name {name!r} is not UTF-8; rename the file or folder") from error
