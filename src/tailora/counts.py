"""Training samples per class, and the head / middle / tail groups based on them.

Every prior, weight, ratio and group in tailora is derived from one `ClassCounts`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tailora.class_names import canonical_name
from tailora.errors import ConfigError, DataError, unknown_name

GROUP_NAMES: Final = ("head", "middle", "tail")
GROUP_SCHEMES: Final = ("class-thirds", "equal-mass", "counts", "ratio")


@dataclass(frozen=True)
class ClassCounts:
    """Training samples per class, in class-index order.

    A class without samples keeps its index.

    Args:
        names: Class names; position is the class index.
        values: Samples per class, same order, zero allowed.
        objects: Counts the objects of each class (classes,) where samples are their pixels; called
            when they are asked for. None where samples are no pixels of masks.

    Example:
        >>> counts = ClassCounts.from_labels([0, 0, 2], names=("a", "b", "c"))
        >>> counts.values
        (2, 0, 1)
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    objects: Callable[[], tuple[int, ...]] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.names) != len(self.values):
            raise DataError(f"{len(self.names)} class names but {len(self.values)} counts")
        if len(set(self.names)) < len(self.names):
            raise DataError(f"class names must differ, got {list(self.names)}")
        if any(value < 0 for value in self.values):
            raise DataError(f"counts must not be negative, got {list(self.values)}")

    @classmethod
    def from_labels(
        cls, labels: Sequence[int] | NDArray[np.int64], *, names: Sequence[str]
    ) -> "ClassCounts":
        """Count `labels` (rows,), integers in [0, len(names)).

        Raises:
            DataError: A label is out of range or not an integer.
        """
        given = np.asarray(labels)
        if given.size and not np.issubdtype(given.dtype, np.integer):
            raise DataError(f"labels must be integers, got {given.dtype}")
        rows = given.astype(np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= len(names)):
            raise DataError(
                f"labels must lie in [0, {len(names) - 1}], got {rows.min()}..{rows.max()}"
            )
        return cls(tuple(names), tuple(np.bincount(rows, minlength=len(names)).tolist()))

    @property
    def total(self) -> int:
        """Total number of samples."""
        return sum(self.values)

    def array(self) -> NDArray[np.float64]:
        """Counts as float64 (classes,)."""
        return np.asarray(self.values, dtype=np.float64)

    def prior(self) -> NDArray[np.float64]:
        """Share of each class, float64 (classes,), sums to 1.

        Raises:
            DataError: A class has no sample, so no finite log-prior exists.
        """
        self.require_all_present("class priors")
        return self.array() / self.total

    def of_objects(self) -> "ClassCounts":
        """Count objects in the place of their pixels.

        Raises:
            ConfigError: The samples are no pixels of masks.
        """
        if self.objects is None:
            raise ConfigError(
                "prior='objects' counts the objects that pixels of masks belong to, and these "
                "samples are no such pixels: leave it out, or choose --task segment or change"
            )
        return ClassCounts(self.names, self.objects())

    def imbalance(self) -> NDArray[np.float64]:
        """gamma_c = largest count / count of c, float64 (classes,).

        Infinite for an empty class, NaN if all are empty.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.max(self.array()) / self.array()

    def require_all_present(self, purpose: str) -> None:
        """Raise `DataError` naming every class without a sample."""
        empty = [name for name, count in zip(self.names, self.values, strict=True) if count == 0]
        if empty:
            raise DataError(
                f"classes {empty} have no training sample; drop them or add data "
                f"({purpose} need it)"
            )


def rows_by_class(labels: NDArray[np.integer], num_classes: int) -> list[NDArray[np.int64]]:
    """Return the rows of each class, ascending; one sort is faster than a mask per class.

    Args:
        labels: Class indices (rows,), in [0, num_classes).
        num_classes: Number of classes, some of which may have no row.

    Example:
        >>> [rows.tolist() for rows in rows_by_class(np.array([2, 0, 2]), 3)]
        [[1], [], [0, 2]]
    """
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=num_classes))
    return np.split(order, ends[:-1])


@dataclass(frozen=True)
class Groups:
    """Class indices of head, middle and tail; together they contain every class once."""

    head: tuple[int, ...]
    middle: tuple[int, ...]
    tail: tuple[int, ...]

    def items(self) -> list[tuple[str, tuple[int, ...]]]:
        """Return `(name, class indices)` in the order head, middle, tail."""
        return [(name, getattr(self, name)) for name in GROUP_NAMES]

    def names(self, counts: ClassCounts) -> dict[str, list[str]]:
        """Return class names of each group, largest class first."""
        return {
            group: [counts.names[c] for c in sorted(members, key=lambda c: -counts.values[c])]
            for group, members in self.items()
        }


def make_groups(
    counts: ClassCounts,
    scheme: str | Mapping[str, Sequence[str]] = "class-thirds",
    *,
    low: float | None = None,
    high: float | None = None,
) -> Groups:
    """Group the classes into head, middle and tail by their training counts.

    Fixed thresholds such as 100 / 20 leave groups empty on most remote-sensing datasets.

    Args:
        counts: Training counts.
        scheme: `"class-thirds"` (a third of the classes each, by rank; ties by class index),
            `"equal-mass"` (a third of the samples each), `"counts"` (tail below `low` samples, head
            above `high`), `"ratio"` (the same on count / largest count), or a mapping
            `{"head": names, "middle": names, "tail": names}`.
        low: Tail is strictly below; default 20 samples, or 0.01 of the largest class.
        high: Head is strictly above; default 100 samples, or 0.1 of the largest class.

    Returns:
        Groups of class indices. With two classes, the scheme `"class-thirds"` leaves the middle
        empty, and a single class is the head; every other empty group is an error.

    Raises:
        ConfigError: Unknown scheme, a class missing from the lists or in two, or an empty group.

    Example:
        >>> make_groups(ClassCounts(("a", "b", "c"), (9, 90, 1)))
        Groups(head=(1,), middle=(0,), tail=(2,))
    """
    if len(counts.names) == 1 and counts.total:
        return Groups((0,), (), ())
    if not counts.total:
        raise ConfigError(
            f"groups need classes with samples, otherwise one is empty; got counts {counts.values}"
        )
    if scheme in ("counts", "ratio"):
        groups = _thresholds(counts, str(scheme), low=low, high=high)
    elif low is not None or high is not None:
        raise ConfigError(f"low and high apply to 'counts' and 'ratio', got scheme {scheme!r}")
    elif isinstance(scheme, Mapping):
        groups = _explicit(counts, scheme)
    elif scheme == "class-thirds":
        return _class_thirds(counts)
    elif scheme == "equal-mass":
        groups = _equal_mass(counts)
    else:
        raise unknown_name("group scheme", scheme, GROUP_SCHEMES)
    _require_no_empty(groups, counts, scheme)
    return groups


def _by_rank(counts: ClassCounts) -> list[int]:
    return sorted(range(len(counts.values)), key=lambda c: (-counts.values[c], c))


def _class_thirds(counts: ClassCounts) -> Groups:
    order = _by_rank(counts)
    if len(order) == 2:
        return Groups((order[0],), (), (order[1],))
    third = len(order) / 3
    first, second = round(third), round(2 * third)
    return _sorted_groups(order[:first], order[first:second], order[second:])


def _equal_mass(counts: ClassCounts) -> Groups:
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    seen = 0
    for c in _by_rank(counts):
        # a class belongs to the third in which its middle sample falls
        parts[min(2, int(3 * (seen + counts.values[c] / 2) / counts.total))].append(c)
        seen += counts.values[c]
    return _sorted_groups(*parts)


def _thresholds(
    counts: ClassCounts, scheme: str, *, low: float | None, high: float | None
) -> Groups:
    is_ratio = scheme == "ratio"
    low = (0.01 if is_ratio else 20) if low is None else low
    high = (0.1 if is_ratio else 100) if high is None else high
    if low > high:
        raise ConfigError(f"group limits must satisfy low <= high, got low={low}, high={high}")
    values = counts.array() / (counts.array().max() if is_ratio else 1)
    classes = range(len(counts.values))
    return Groups(
        tuple(c for c in classes if values[c] > high),
        tuple(c for c in classes if low <= values[c] <= high),
        tuple(c for c in classes if values[c] < low),
    )


def _explicit(counts: ClassCounts, lists: Mapping[str, Sequence[str]]) -> Groups:
    for group in lists:
        if group not in GROUP_NAMES:
            raise unknown_name("group", group, GROUP_NAMES)
    index = {canonical_name(name): c for c, name in enumerate(counts.names)}
    members: dict[str, list[int]] = {group: [] for group in GROUP_NAMES}
    for group, names in lists.items():
        for name in map(canonical_name, names):
            if name not in index:
                raise unknown_name(f"class in group {group!r}", name, index)
            members[group].append(index[name])
    listed = [c for group in members.values() for c in group]
    if len(listed) != len(set(listed)) or len(listed) != len(counts.names):
        wrong = [n for n, c in index.items() if listed.count(c) != 1]
        raise ConfigError(f"each class must be in exactly one group; check {wrong}")
    return _sorted_groups(members["head"], members["middle"], members["tail"])


def _sorted_groups(head: list[int], middle: list[int], tail: list[int]) -> Groups:
    return Groups(tuple(sorted(head)), tuple(sorted(middle)), tuple(sorted(tail)))


def _require_no_empty(groups: Groups, counts: ClassCounts, scheme: object) -> None:
    for name, members in groups.items():
        if not members:
            raise ConfigError(
                f"group scheme {scheme!r} leaves the {name} empty (counts "
                f"{min(counts.values)}..{max(counts.values)}); use other thresholds or "
                "'class-thirds'"
            )
