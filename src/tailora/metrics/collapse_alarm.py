"""Classes that a model never or hardly ever predicts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, DataError
from tailora.numbers import counted


@final
@dataclass(frozen=True)
class CollapsedClass:
    """A class that is predicted far less often than it occurs.

    Args:
        index: Class index.
        name: Class name.
        training: Training samples of it.
        support: Rows of this class in the split, at least 1.
        predicted: Rows predicted as this class, right or wrong.
    """

    index: int
    name: str
    training: int
    support: int
    predicted: int


def collapse_alarm(
    confusion: ArrayLike, counts: ClassCounts, *, share: float = 0.1
) -> list[CollapsedClass]:
    """List the classes predicted less than `share` times as often as they occur.

    Overall accuracy hardly changes when the tail collapses into the head. The rule uses
    predictions, not hits: a class predicted often and wrongly is confused, not collapsed. A class
    with two rows that is never predicted is little evidence; see `support`.

    Args:
        confusion: (classes, classes), rows true.
        counts: Training samples and names of the classes.
        share: In [0, 1]; 0 lists only classes that are never predicted, 1 every class predicted
            less often than it occurs.

    Returns:
        Lowest ratio of predicted to support first, then larger support; empty if there are none. A
        class without rows in the split is never listed.

    Raises:
        ConfigError: `share` outside [0, 1].
        DataError: A matrix that is not (classes, classes) for these counts.

    Example:
        >>> counts = ClassCounts(("forest", "river", "dam"), (900, 80, 9))
        >>> [found] = collapse_alarm([[50, 0, 0], [2, 8, 0], [3, 1, 0]], counts)
        >>> found.name, found.support, found.predicted
        ('dam', 4, 0)
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"the alarm's share must lie in [0, 1], got {share!r}")
    cells, classes = np.asarray(confusion), len(counts.names)
    if cells.shape != (classes, classes):
        raise DataError(f"the confusion matrix must be {(classes, classes)}, got {cells.shape}")
    found = [
        entry
        for entry in _entries(cells, counts)
        if entry.support and (entry.predicted == 0 or entry.predicted < share * entry.support)
    ]
    return sorted(found, key=lambda one: (one.predicted / one.support, -one.support))


def alarm_text(found: Sequence[CollapsedClass]) -> str:
    """Return a sentence on the collapsed classes; empty if there are none.

    Example:
        >>> alarm_text([CollapsedClass(2, "dam", 9, 4, 0), CollapsedClass(1, "river", 80, 30, 2)])
        'collapse alarm: never predicted: dam (4 samples); hardly ever: river (2 for 30 samples)'
    """
    never = [_times(one) for one in found if not one.predicted]
    hardly = [_times(one) for one in found if one.predicted]
    parts = [f"never predicted: {', '.join(never)}"] * bool(never)
    parts += [f"hardly ever: {', '.join(hardly)}"] * bool(hardly)
    return f"collapse alarm: {'; '.join(parts)}" if parts else ""


def _times(one: CollapsedClass) -> str:
    shown = f"{one.predicted} for " if one.predicted else ""
    return f"{one.name} ({shown}{counted(one.support, 'sample')})"


def _entries(cells: np.ndarray, counts: ClassCounts) -> Iterator[CollapsedClass]:
    rows = zip(counts.names, counts.values, cells.sum(axis=1), cells.sum(axis=0), strict=True)
    for index, (name, training, support, predicted) in enumerate(rows):
        yield CollapsedClass(index, name, training, int(support), int(predicted))
