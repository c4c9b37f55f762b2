"""debLoRA on objects: what is clustered and moved are areas of one class, not their tokens."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tailora.decisions import Decisions
from tailora.methods.deblora.calibrate import Calibration


def objects_of(decisions: Decisions, grid: tuple[int, ...]) -> NDArray[np.int64]:
    """Number the object that each decision belongs to, (rows,), from 0.

    An object is a connected area of one class among the decisions of an image; corners do not
    connect, and decisions without a class belong to none.

    Args:
        decisions: Of some images.
        grid: Shape of the decisions about one image (..., rows, columns); maps of other leading
            places, such as another order of dates, have objects of their own.

    Example:
        >>> image, place = np.zeros(4, int), np.array([0, 1, 2, 5])
        >>> objects_of(Decisions(image, place, np.array([1, 0, 1, 1])), (2, 3)).tolist()
        [1, 0, 2, 2]
    """
    found, count = np.zeros(len(decisions), dtype=np.int64), 0
    flat = ndimage.generate_binary_structure(2, 1)
    connected = np.zeros((3,) * len(grid), dtype=bool)
    connected[(1,) * (len(grid) - 2)] = flat
    for image in decisions.samples:
        rows = np.flatnonzero(decisions.sample == image)
        places, labels = decisions.place[rows], decisions.labels[rows]
        for c in np.unique(labels):
            own = np.zeros(grid, dtype=bool)
            own.flat[places[labels == c]] = True
            labelled: Any = ndimage.label(own, connected)
            found[rows[labels == c]] = labelled[0].flat[places[labels == c]] + count - 1
            count += labelled[1]
    return found


def calibrate_objects(
    features: NDArray[np.floating],
    labels: NDArray[np.int64],
    objects: NDArray[np.int64],
    calibration: Callable[[NDArray[np.floating], NDArray[np.int64]], Calibration],
) -> Calibration:
    """Calibrate the mean feature of each object, and move its rows as it moved.

    A class then is as rare as its objects are, and one large object is one sample of its class, not
    a cluster of its own. How rows differ within an object is kept.

    Args:
        features: (rows, features).
        labels: Their class indices (rows,), one for each object.
        objects: From `objects_of`.
        calibration: Takes features and class indices of objects.

    Returns:
        Of rows; purity and shares of clusters are those of objects.
    """
    sizes = np.bincount(objects)
    sums = np.zeros((len(sizes), features.shape[1]))
    np.add.at(sums, objects, features)
    means = (sums / sizes[:, None]).astype(features.dtype)
    classes = np.zeros(len(sizes), dtype=np.int64)
    classes[objects] = labels
    found = calibration(means, classes)
    assigned = np.asarray(found.clusters.labels)[objects]
    counted = np.bincount(assigned, minlength=len(found.clusters.sizes))
    return replace(
        found,
        features=features + (found.features - means)[objects],
        clusters=replace(
            found.clusters, labels=assigned, sizes=counted, minimum_size=int(counted.min())
        ),
    )
