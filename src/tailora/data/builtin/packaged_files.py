"""Find data files that ship inside installed packages."""

from importlib.util import find_spec
from pathlib import Path

from tailora.errors import DataError


def find_packaged(package: str, pattern: str, *, dataset: str, install: str) -> Path:
    """Find a file in an installed package without importing it: its dependencies may be absent.

    Args:
        package: Name as imported.
        pattern: Path inside the package, with wildcards; the first match in alphabetical order.
        dataset: Dataset the file belongs to.
        install: Command that installs the package.

    Raises:
        DataError: There is no such file.
    """
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob(pattern)):
            return path
    raise DataError(f"the files of {dataset!r} are not installed; run: {install}")
