"""Square crops of one large picture as an image source."""

import threading
from collections.abc import Callable
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tailora.data.builtin.ground_sampling import Crops


@final
class Cutouts:
    """Square crops of one picture, which is loaded once, on first use.

    Args:
        load: Returns the picture (bands, rows, columns).
        crops: Crop locations; a crop may wrap around the left and right edges if these are
            adjacent.
        size: Pixels per side; of an odd number one more lies after the centre.
        prefix: Prefix of ids, to distinguish these pixels from others at the same locations.
    """

    def __init__(
        self, load: Callable[[], NDArray[Any]], crops: Crops, *, size: int, prefix: str = ""
    ) -> None:
        self.crops = crops
        self.size = size
        self.prefix = prefix
        self._load = load
        self._picture: NDArray[Any] | None = None
        self._loading = threading.Lock()

    def __len__(self) -> int:
        return len(self.crops.rows)

    def __getstate__(self) -> dict[str, Any]:
        """Drop what other processes do not need: the picture, which is large, and the lock."""
        return vars(self) | {"_picture": None, "_loading": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore in another process, which loads the picture on demand."""
        vars(self).update(state | {"_loading": threading.Lock()})

    def read(self, i: int) -> NDArray[Any]:
        """Crop `i`, (bands, size, size) in the dtype of the picture."""
        with self._loading:
            if self._picture is None:
                self._picture = self._load()
        half = self.size // 2
        top, left = self.crops.rows[i] - half, self.crops.columns[i] - half
        strip = self._picture[:, top : top + self.size]
        return strip.take(np.arange(left, left + self.size), axis=2, mode="wrap")

    def id(self, i: int) -> str:
        """Position of the centre in the picture, e.g. `row0812-column3311`."""
        return f"{self.prefix}row{self.crops.rows[i]:04d}-column{self.crops.columns[i]:04d}"
