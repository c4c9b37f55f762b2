"""Decisions: the rows that heads, losses, debLoRA and metrics see, and the images they lie in.

Where an image has one label, each image is one decision. A task that decides about parts of an
image has several of them for each image, and none for an image without labels.
"""

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray


@final
@dataclass(frozen=True, eq=False)
class Decisions:
    """Labelled decisions, sorted by image.

    Args:
        sample: Number of the image that each belongs to, (rows,).
        place: Where in the image: its number in the flattened grid of decisions, (rows,).
        labels: Class index of each, (rows,).
        boxes: Under which its features are pooled, as shares of the side of the image (rows, 5);
            `place` is then a number among them. None where features are those at its place.
    """

    sample: NDArray[np.int64]
    place: NDArray[np.int64]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def samples(self) -> NDArray[np.int64]:
        """Numbers of the images that have any decision, ascending."""
        return np.unique(self.sample)

    def select(self, rows: NDArray[np.bool_]) -> "Decisions":
        """Keep some of them."""
        boxes = None if self.boxes is None else self.boxes[rows]
        kept = self.sample[rows], self.place[rows], self.labels[rows]
        return Decisions(*kept, boxes)

    def of(self, images: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of some images, image by image, and the position of its image in them for each.

        Args:
            images: Numbers of images, in any order (images,).
        """
        first = np.searchsorted(self.sample, images)
        many = np.searchsorted(self.sample, images, side="right") - first
        start = np.cumsum(many) - many
        rows = np.arange(many.sum()) + np.repeat(first - start, many)
        return rows, np.repeat(np.arange(len(images)), many)


def labelled(samples: NDArray[np.int64], targets: NDArray[np.integer]) -> Decisions:
    """List the decisions that have a label.

    Args:
        samples: Numbers of some images, (images,).
        targets: Their class indices (images, ...), negative where there is no label.

    Example:
        >>> found = labelled(np.array([4, 9]), np.array([[-1, 2], [0, 1]]))
        >>> found.sample.tolist(), found.place.tolist(), found.labels.tolist()
        ([4, 9, 9], [1, 0, 1], [2, 0, 1])
    """
    places = math.prod(targets.shape[1:])
    flat = targets.reshape(len(samples), places).astype(np.int64)
    image, place = np.nonzero(flat >= 0)
    return Decisions(samples[image], place, flat[image, place])
