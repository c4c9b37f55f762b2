"""Retrieval: how high the training images of a query's class rank among its nearest neighbours.

No head takes part, so nothing corrects for class sizes: this is what search by example, a
nearest-neighbour vote and clustering have to work with.

Reference: average precision at full depth as in image retrieval (Philbin et al., CVPR 2007).
"""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailora.errors import DataError

QUERIES: Final = 50
"""Queries drawn per class, so that the cost does not grow with the test split."""
_ROUNDING: Final = 1e-6  # relative spread of a dimension that varies by rounding alone


def retrieval_scores(
    gallery: ArrayLike,
    gallery_labels: ArrayLike,
    queries: ArrayLike,
    query_labels: ArrayLike,
    classes: int,
    *,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Return the mean average precision of each class's queries.

    The gallery is ranked by cosine similarity to the query, of features standardised by the
    gallery; an image is relevant if it has the query's class. A random ranking scores about the
    class's share of the gallery, so compare features on one gallery, not classes with each other.

    Args:
        gallery: Features that are searched, e.g. of the training images (rows, width).
        gallery_labels: Their class indices (rows,).
        queries: Features to search with, e.g. of the test images (queries, width); at most
            `QUERIES` of a class are used, drawn by `seed`.
        query_labels: Their class indices (queries,).
        classes: Number of classes.
        seed: Draws the queries.

    Returns:
        (classes,), in (0, 1]; NaN for a class without a query or without an image in the gallery.

    Raises:
        DataError: Features and labels do not match.

    Example:
        >>> gallery, labels = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [-1.0, -1.1]], [0, 1, 0, 1]
        >>> retrieval_scores(gallery, labels, [[1.0, 0.0]], [0], 2).round(3).tolist()
        [0.833, nan]
    """
    own, asked = np.asarray(gallery, dtype=np.float64), np.asarray(queries, dtype=np.float64)
    labels, wanted = np.asarray(gallery_labels), np.asarray(query_labels)
    if own.ndim != 2 or own.shape[1:] != asked.shape[1:]:
        raise DataError(f"gallery {own.shape} and queries {asked.shape} differ in width")
    if labels.shape != own.shape[:1] or wanted.shape != asked.shape[:1]:
        raise DataError("gallery and queries need one label per row")
    center, spread = own.mean(axis=0), own.std(axis=0)
    spread = steady(spread, center)
    own = directions((own - center) / spread)
    found = np.full(classes, np.nan)
    generator = np.random.default_rng(seed)
    for c in range(classes):
        rows = generator.permutation(np.flatnonzero(wanted == c))[:QUERIES]
        if len(rows) and (labels == c).any():
            chosen = directions((asked[rows] - center) / spread)
            found[c] = average_precision(chosen @ own.T, labels == c).mean()
    return found


def steady(spread: NDArray[np.float64], center: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what to divide features by: their standard deviation, 1 where it is rounding alone.

    Args:
        spread: Standard deviation of each feature (width,).
        center: Its mean (width,).
    """
    return np.where(spread > _ROUNDING * np.abs(center), spread, 1.0)


def directions(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows (rows, width) with length 1; a row of zeros stays one."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(float).tiny)


def average_precision(
    similar: NDArray[np.float64], relevant: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the average precision (queries,) of rankings; ties rank in the order of the gallery.

    Args:
        similar: Similarity of each image to each query (queries, gallery).
        relevant: Which images should come first (gallery,), at least one.
    """
    hits = relevant[np.argsort(-similar, axis=1, kind="stable")]
    precision = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    return (precision * hits).sum(axis=1) / relevant.sum()
