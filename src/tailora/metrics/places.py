"""What rows of a task are scored by over all places of the test images.

It is kept so that any resample of these images can be scored again.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self, final

import numpy as np
from numpy.typing import NDArray

from tailora.errors import RunError

_PREFIX: Final = "places_"  # of the arrays in a file


@final
@dataclass(frozen=True, eq=False)
class ResampledScores:
    """A score of each class, on the test split and on every resample.

    Args:
        point: (classes,).
        replicates: (replicates, classes).
    """

    point: NDArray[np.float64]
    replicates: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Places(ABC):
    """What one row says about all places of the test images; arrays alone, so that it can be kept.

    Args:
        units: Unit of each image, or each unit by its name; units are resampled as a whole.

    Attributes:
        measures: Scores by name, with the name of the score of one class; None for one that is of
            all classes at once. Rows are compared by the first.

    Raises:
        RunError: Arrays that do not fit each other.
    """

    measures: ClassVar[Mapping[str, str | None]] = MappingProxyType({})

    units: NDArray[Any]

    @property
    @abstractmethod
    def true(self) -> NDArray[np.int64]:
        """What each class has to find in each of `units` (units, classes)."""

    @abstractmethod
    def scores(self, measure: str) -> NDArray[np.float64]:
        """Score of each class (classes,), or of all at once (1,)."""

    @abstractmethod
    def resampled(self, measure: str, *, replicates: int, seed: int) -> ResampledScores:
        """The same on resamples of the units; equal seeds and units give equal resamples."""

    def units_per_class(self) -> NDArray[np.int64]:
        """Units that have something of each class to find (classes,)."""
        return np.array([len(set(self.units[has])) for has in self.true.T > 0])

    def has_test_of(self, other: "Places") -> bool:
        """Whether the test split is that of another, as far as its units and classes tell."""
        return np.array_equal(self.units, other.units) and np.array_equal(self.true, other.true)

    def says_the_same(self, other: "Places") -> bool:
        """Whether two rows say the same everywhere, as far as scores depend on it."""
        pairs = zip(self.arrays().values(), other.arrays().values(), strict=True)
        return all(np.array_equal(one, another) for one, another in pairs)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it holds, to be written to a file."""
        return {_PREFIX + one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def read(cls, arrays: Mapping[str, NDArray[Any]]) -> Self | None:
        """Make one of what `arrays` gave; None where there are none.

        Raises:
            RunError: Some are missing, or do not fit each other.
        """
        found = {one.name: arrays.get(_PREFIX + one.name) for one in fields(cls)}
        if all(value is None for value in found.values()):
            return None
        if any(value is None for value in found.values()):
            raise RunError("it lacks a part of what is said about places of the images")
        return cls(**found)  # type: ignore[arg-type]
