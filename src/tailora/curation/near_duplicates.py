"""Near duplicates: images that are alike in features and in pixels.

Neighbouring crops and classes of uniform images (sea, sand) are alike in features alone, so pairs
must also have nearly equal perceptual hashes.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from sklearn.decomposition import PCA

from tailora.errors import ConfigError
from tailora.heads.linear_probe import standardised

COSINE: Final = 0.98
"""From which two images are candidates."""
HASH_BITS: Final = 4
"""Of 64, in which the hashes of duplicates may differ."""

_AXES: Final = 64  # that distances are bounded by: more leave fewer candidates, and cost more
_BOXED: Final = 3  # of these, by whose boxes blocks are left out
_SAMPLED: Final = 20_000  # rows that the axes are found with
_AT_ONCE: Final = 256  # rows that are compared with all near them
_LISTED: Final = 64  # of these, whose candidates are listed together
_COMPARED: Final = 2**16  # candidates whose features are
_SIDE: Final = 32  # pixels of the image that is hashed
_LOW: Final = 8  # frequencies per axis in a hash

Pairs = NDArray[np.int64]
"""(pairs, 2)"""


def near_duplicates(
    features: NDArray[np.floating],
    read: Callable[[int], NDArray[Any]],
    *,
    cosine: float = COSINE,
) -> list[NDArray[np.int64]]:
    """Group images that are alike in features and in pixels; a copy of a copy is in the group.

    Unit vectors of that cosine are close in any projection too, so matrix products over some
    principal axes find candidates, and only these are compared in full: nothing is missed. Memory
    does not grow with the number of pairs, since those within a group are not compared again.

    Args:
        features: (rows, width), finite.
        read: The image of a row (bands, height, width); asked for candidates alone.
        cosine: Of standardised features, from which two images are candidates, in (0, 1].

    Returns:
        The rows of each group, ascending; groups by their first row.

    Raises:
        ConfigError: `cosine` is out of range.
    """
    if not 0 < cosine <= 1:
        raise ConfigError(f"the cosine of duplicates must lie in (0, 1], got {cosine}")
    if len(features) < 2:
        return []
    # of most encoders all features are alike before they are standardised
    unit = standardised(features)
    unit = unit.astype(np.float32)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), np.float32(1e-12))
    group = np.arange(len(unit))  # of each row, so far

    @cache
    def hashed(row: int) -> NDArray[np.bool_]:
        return perceptual_hash(read(row))

    def bits(pair: Pairs) -> int:
        return int((hashed(int(pair[0])) != hashed(int(pair[1]))).sum())

    for candidates in _candidates(unit, np.sqrt(2 - 2 * cosine)):
        pairs = candidates[group[candidates[:, 0]] != group[candidates[:, 1]]]
        pairs = pairs[(unit[pairs[:, 0]] * unit[pairs[:, 1]]).sum(axis=1) >= cosine - 1e-6]
        pairs = pairs[np.array([bits(pair) <= HASH_BITS for pair in pairs], dtype=bool)]
        if len(pairs):
            group = joined(group[pairs], len(group))[group]
    found, sizes = np.unique(group, return_counts=True)
    rows = [np.flatnonzero(group == name) for name in found[sizes > 1]]
    return sorted(rows, key=lambda one: int(one[0]))


def joined(pairs: Pairs, count: int) -> NDArray[np.int64]:
    """Number the connected groups of `count` rows, joined by pairs: (count,)."""
    ones = np.ones(len(pairs), dtype=bool)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _candidates(unit: NDArray[np.float32], radius: float) -> Iterator[Pairs]:
    """Return blocks of all pairs that may be so close, each once."""
    axes = min(_AXES, *unit.shape)
    sample = np.linspace(0, len(unit) - 1, min(len(unit), _SAMPLED)).round().astype(np.int64)
    near = PCA(axes, svd_solver="covariance_eigh").fit(unit[sample]).transform(unit)
    # blocks of rows beside each other, so that their boxes are small
    order = np.asarray(KDTree(near[:, :_BOXED]).indices)
    near = near[order].astype(np.float32)
    half = (near**2).sum(axis=1, keepdims=True) / 2
    ones = np.ones_like(half)
    # the product of a row of each is -|u - v|^2 / 2
    left, right = np.hstack([near, -half, ones]), np.hstack([near, ones, -half])
    far, least = radius + 1e-3, -(radius**2) / 2 - 1e-5  # rounding must not lose a pair
    for start in range(0, len(unit), _AT_ONCE):
        block, later = near[start : start + _AT_ONCE, :_BOXED], near[start:, :_BOXED]
        beyond = np.maximum(block.min(axis=0) - later, later - block.max(axis=0))
        close = np.flatnonzero((np.maximum(beyond, 0) ** 2).sum(axis=1) <= far**2)
        products = left[start : start + _AT_ONCE] @ right[start + close].T
        found = np.flatnonzero(products.max(axis=1) >= least)
        for rows in np.split(found, range(_LISTED, len(found), _LISTED)):
            first, second = np.nonzero(products[rows] >= least)
            first, second = rows[first], close[second]  # from `start`
            pairs = order[start + np.stack([first, second], axis=1)[second > first]]
            for some in range(0, len(pairs), _COMPARED):
                yield pairs[some : some + _COMPARED]


def perceptual_hash(image: NDArray[Any]) -> NDArray[np.bool_]:
    """Hash what an image looks like: signs of its low frequencies, without the mean.

    Args:
        image: (bands, height, width); bands are averaged.

    Returns:
        64 bits (64,); equal but for a few after resizing, compression or a change of brightness.

    Reference:
        Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010, section
        3.2.1 (DCT-based hash).
    """
    grey = Image.fromarray(np.asarray(image, dtype=np.float32).mean(axis=0))
    small = np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS))
    low = np.asarray(dctn(small, norm="ortho"))[1 : _LOW + 1, 1 : _LOW + 1].ravel()
    return low > np.median(low)
