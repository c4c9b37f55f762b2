"""The features of a session: directions, what is usable, and what is nearly the same."""

from collections.abc import Sequence
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.errors import DataError
from tailora.features.similar import COPY
from tailora.metrics.retrieval import directions, steady

_VALUES: Final = 2**22  # of a block, 32 MB in double precision
_AT_ONCE: Final = 64


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

    def near(self, items: Sequence[int]) -> NDArray[np.bool_]:
        """Return which images (images,) are copies of some, or nearly so."""
        new = [item for item in items if item not in self._copies]
        for start in range(0, len(new), _AT_ONCE):
            some = new[start : start + _AT_ONCE]
            alike = self.directions @ self.directions[some].T >= COPY
            self._copies |= {item: np.flatnonzero(alike[:, i]) for i, item in enumerate(some)}
        found = np.zeros(len(self), dtype=bool)
        for item in items:
            found[self._copies[item]] = True
        found[list(items)] = True
        return found

    def nearest(self, item: int, among: Sequence[int], count: int) -> list[int]:
        """Return those of some images that are most like one."""
        others = np.array([one for one in among if one != item], dtype=np.int64)
        cosines = self.directions[others] @ self.directions[item]
        return others[np.argsort(-cosines, kind="stable")[:count]].tolist()

    def of(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Return the directions of features (rows, width)."""
        own = (np.asarray(rows, dtype=np.float64) - self._center) / self._spread
        return directions(own).astype(np.float32)
