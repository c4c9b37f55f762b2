"""What is known about images that have more than one label each: masks, objects, pairs of dates."""

from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray


class Targets(Protocol):
    """The annotation of each image of a data set, read one at a time."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def read(self, i: int) -> NDArray[Any] | None:
        """Annotation of image `i`, in the form that its task expects; None if it has none."""
        ...

    def tally(self) -> NDArray[np.int64]:
        """Decisions of each class in each image, e.g. pixels (images, classes)."""
        ...

    def mark(self, i: int) -> tuple[int, int]:
        """Size and checksum of what annotation `i` is read from."""
        ...


def fewest_classes(targets: Targets | None) -> int:
    """Return how many classes a decision needs: two, or one where places have to be found too."""
    while isinstance(targets, SelectedTargets):
        targets = targets.base
    return int(getattr(targets, "fewest_classes", 2))


@final
class SelectedTargets:
    """Annotations of some images of another data set, renumbered from zero.

    Args:
        base: The other annotations.
        indices: Which of them, (images,).
    """

    def __init__(self, base: Targets, indices: NDArray[np.int64]) -> None:
        self.base, self.indices = base, indices

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, i: int) -> NDArray[Any] | None:
        """Read from the other annotations."""
        return self.base.read(int(self.indices[i]))

    def tally(self) -> NDArray[np.int64]:
        """Counts of the selected images (images, classes)."""
        return self.base.tally()[self.indices]

    def mark(self, i: int) -> tuple[int, int]:
        """Mark in the other annotations."""
        return self.base.mark(int(self.indices[i]))


def traced_targets(targets: Targets, i: int) -> tuple[Targets, int]:
    """Return the annotations that all selections started from, and the number of one there."""
    while isinstance(targets, SelectedTargets):
        targets, i = targets.base, int(targets.indices[i])
    return targets, i


def pictures_of(targets: Targets) -> NDArray[np.int64]:
    """Number of the image that each annotation is of, (annotations,).

    Annotations of several raters have the number of the image that they share.
    """
    traced = [traced_targets(targets, i) for i in range(len(targets))]
    return np.array([getattr(base, "pictures", range(len(base)))[i] for base, i in traced], int)


def rarest_present(tally: NDArray[np.int64]) -> NDArray[np.int64]:
    """Name each image after the rarest class in it, so that splits and samplers can go by image.

    Args:
        tally: Decisions of each class in each image (images, classes).

    Returns:
        Class index (images,), -1 for an image without any decision; of equally rare classes the
        first.

    Example:
        >>> rarest_present(np.array([[5, 1, 0], [9, 0, 0], [0, 0, 0]])).tolist()
        [1, 0, -1]
    """
    rarity = np.argsort(np.argsort(tally.sum(axis=0), kind="stable"), kind="stable")
    ranked = np.where(tally > 0, rarity, tally.shape[1])
    return np.where(tally.any(axis=1), ranked.argmin(axis=1), -1)
