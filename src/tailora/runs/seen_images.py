"""Which images a run has learnt from or chosen by, told by their content.

`seen.npy` holds a hash of each training and validation image as the encoder was given it, so that
the same picture is known again under another name, in another folder or another format.
"""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tailora.errors import RunError
from tailora.storage import write_atomically

_FILE: Final = "seen.npy"


def write_seen(folder: Path, digests: NDArray[np.uint64]) -> None:
    """Keep the hashes of a run's training and validation images (images,)."""
    kept = np.unique(digests)
    write_atomically(folder / _FILE, lambda path: np.save(path, kept))


def read_seen(folder: Path) -> NDArray[np.uint64] | None:
    """Read them, or None of a run that has none, as those of version 0.1.

    Raises:
        RunError: The file is damaged.
    """
    path = folder / _FILE
    if not path.exists():
        return None
    try:
        seen = np.load(path)
    except (OSError, ValueError, EOFError) as error:
        raise RunError(f"{str(path)!r} is damaged: {error}; fit the run again") from error
    if not isinstance(seen, np.ndarray) or seen.dtype != np.uint64 or seen.ndim != 1:
        raise RunError(f"{str(path)!r} holds no list of hashes; fit the run again")
    return seen
