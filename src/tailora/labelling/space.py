"""The features of a session: what is usable, alike, nearly the same, and unlike all shown."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.errors import DataError
from tailora.features.similar import COPY
from tailora.features.whitening import fit_whitening
from tailora.metrics.retrieval import directions, steady

_VALUES: Final = 2**22  # of a block, 32 MB in double precision


@final
class Space:
    """Features as directions of length 1, so that products are cosines.

    Classes are searched among features whitened by all images, copies and neighbours among
    standardised ones; how far images are from those shown is measured along the strongest axes.

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
        self._whitening = fit_whitening(features)
        self._standardised = np.zeros(features.shape, dtype=np.float32)
        self.whitened = np.zeros(features.shape, dtype=np.float32)
        """Of each image (images, width); zeros where it cannot be used."""
        along = (len(features), len(self._whitening.damping))
        self._along = np.zeros(along, dtype=np.float32)
        height = max(1, _VALUES // features.shape[1])
        for start in range(0, len(features), height):
            rows = slice(start, start + height)
            own = features[rows]
            standard = (np.asarray(own, dtype=np.float64) - self._center) / self._spread
            self._standardised[rows] = np.nan_to_num(directions(standard))
            self.whitened[rows] = np.nan_to_num(self.of(own))
            self._along[rows] = np.nan_to_num(self._whitening.along(own))
        self._copies: dict[int, NDArray[np.int64]] = {}
        self._shown: list[int] = []
        self._closest = np.full(len(features), -1.0, dtype=np.float32)

    def __len__(self) -> int:
        return len(self.features)

    def similar(self, query: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the cosine of all images to a whitened direction (images,)."""
        return self.whitened @ directions(np.asarray(query, dtype=np.float64)[None])[0].astype(
            np.float32
        )

    def closeness(self, shown: Iterable[int]) -> NDArray[np.float32]:
        """Return the cosine of all images to the nearest of some (images,); -1 without any.

        It is kept, so that a page costs only what is new on it. One image at a time: the products
        of many at once would differ in the last bit by how many they are.
        """
        every = list(shown)
        if every[: len(self._shown)] != self._shown:
            self._shown, self._closest = [], np.full(len(self), -1.0, dtype=np.float32)
        for item in every[len(self._shown) :]:
            self._closest = np.maximum(self._closest, self.to(item))
        self._shown = every
        return self._closest

    def to(self, item: int) -> NDArray[np.float32]:
        """Return the cosine of all images to one, along the strongest axes (images,)."""
        return self._along @ self._along[item]

    def copies(self, item: int) -> NDArray[np.int64]:
        """Return the images that are copies of one, or nearly so."""
        if item not in self._copies:
            self._copies[item] = np.flatnonzero(
                self._standardised @ self._standardised[item] >= COPY
            )
        return self._copies[item]

    def copied(self, item: int, among: Sequence[int]) -> int | None:
        """Return the first of some images that one is a copy of, or nearly so; None without."""
        alike = np.flatnonzero(self._standardised[list(among)] @ self._standardised[item] >= COPY)
        return among[int(alike[0])] if len(alike) else None

    def nearest(self, item: int, among: Sequence[int], count: int) -> list[int]:
        """Return those of some images that are most like one."""
        others = np.array([one for one in among if one != item], dtype=np.int64)
        cosines = self._standardised[others] @ self._standardised[item]
        return others[np.argsort(-cosines, kind="stable")[:count]].tolist()

    def of(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Return the whitened directions of features (rows, width)."""
        return self._whitening.of(rows).astype(np.float32)
