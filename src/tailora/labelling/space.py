"""The features of a session: directions, what is usable, and what is nearly the same."""

from collections.abc import Sequence
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.errors import DataError
from tailora.features.similar import COPY
from tailora.metrics.retrieval import directions, steady

_VALUES: Final = 2**22  # of a block, 32 MB in double precision


@final
class Space:
    """Features, standardised by all images and of length 1, so that products are cosines.

    Args:
        features: Of all images (images, width); a row of NaN is an image that cannot be used.

    Raises:
        DataError: Nothing can be used.
    """

    def __init__(self, features: NDArray[np.floating]) -> None:
        self.features = features
        self.usable = ~np.isnan(features[:, 0])
        if not self.usable.any():
            raise DataError("there is nothing to label: all of it is without data")
        known = features[self.usable] if not self.usable.all() else features
        center = known.mean(axis=0, dtype=np.float64)
        self._center = center
        self._spread = steady(known.std(axis=0, dtype=np.float64), center)
        self.directions = np.zeros(features.shape, dtype=np.float32)
        height = max(1, _VALUES // features.shape[1])
        for start in range(0, len(features), height):
            rows = slice(start, start + height)
            self.directions[rows] = np.nan_to_num(self.of(features[rows]))
        self._copies: dict[int, NDArray[np.int64]] = {}

    def __len__(self) -> int:
        return len(self.features)

    def similar(self, query: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the cosine of all images to a direction (images,)."""
        return self.directions @ directions(np.asarray(query, dtype=np.float64)[None])[0].astype(
            np.float32
        )

    def copies(self, item: int) -> NDArray[np.int64]:
        """Return the images that are copies of one, or nearly so."""
        if item not in self._copies:
            self._copies[item] = np.flatnonzero(self.directions @ self.directions[item] >= COPY)
        return self._copies[item]

    def copied(self, item: int, among: Sequence[int]) -> int | None:
        """Return the first of some images that one is a copy of, or nearly so; None without."""
        alike = np.flatnonzero(self.directions[list(among)] @ self.directions[item] >= COPY)
        return among[int(alike[0])] if len(alike) else None

    def nearest(self, item: int, among: Sequence[int], count: int) -> list[int]:
        """Return those of some images that are most like one."""
        others = np.array([one for one in among if one != item], dtype=np.int64)
        cosines = self.directions[others] @ self.directions[item]
        return others[np.argsort(-cosines, kind="stable")[:count]].tolist()

    def of(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Return the directions of features (rows, width)."""
        own = (np.asarray(rows, dtype=np.float64) - self._center) / self._spread
        return directions(own).astype(np.float32)
