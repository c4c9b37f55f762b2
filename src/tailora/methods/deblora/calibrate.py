"""debLoRA stages 2-4: cluster without labels, build de-biased centres, move tail features.

Pure NumPy, no encoder: usable on any features, e.g. before a scikit-learn classifier.

Reference: Tian, Chen, Sun, "Learning De-Biased Representations for Remote-Sensing Imagery",
NeurIPS 2024, arXiv 2410.04546. Details that paper and code leave open are options, marked
*reading* below.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from tailora.clustering.size_constrained_kmeans import (
    SizeConstrainedKMeans,
    size_constrained_kmeans,
)
from tailora.config.deblora_options import (
    CALIBRATED,
    CENTER_SAMPLES,
    CENTER_WEIGHTS,
    Pull,
    check_pull,
)
from tailora.counts import ClassCounts, Groups, make_groups
from tailora.errors import ConfigError, DataError, unknown_name
from tailora.heads.linear_probe import unit_spread
from tailora.methods.deblora.balanced_centers import balanced_kmeans, equal_weights
from tailora.methods.deblora.moves import move_classes, within_spread


@dataclass(frozen=True)
class Calibration:
    """Result of stages 2-4.

    Attributes:
        features: Calibrated features (rows, features): tail rows moved, all others as they were.
        centers: De-biased centre of every class (classes, features); NaN for a class without
            samples.
        weights: Share of each cluster in each class's centre (classes, clusters); rows sum to 1.
        keep: Share of its own feature that a sample of each class keeps (classes,); 1 is unmoved.
        moved: Indices of the classes that were calibrated.
        clusters: The clustering, in the space that `standardize` and `pca` define.
        cluster_means: Mean feature of each cluster's members (clusters, features).
        spread: Standard deviation within clusters, pooled over all samples (features,).
        purity: Share of samples whose class is the most frequent of their cluster, in (0, 1].
            Near 1 the clusters are the classes, and hardly any attribute is shared.
    """

    features: NDArray[np.floating]
    centers: NDArray[np.floating]
    weights: NDArray[np.float64]
    keep: NDArray[np.float64]
    moved: tuple[int, ...]
    clusters: SizeConstrainedKMeans
    cluster_means: NDArray[np.floating]
    spread: NDArray[np.float64]
    purity: float


def calibrate(
    features: NDArray[np.floating],
    labels: NDArray[np.integer] | Sequence[int],
    *,
    clusters: int = 32,
    balance: float = 10.0,
    pull: Pull = "adaptive",
    classes: str | Sequence[int] = "tail",
    center_weights: str = "class-share",
    center_samples: str = "all",
    move: str = "shrink",
    groups: Groups | None = None,
    num_classes: int | None = None,
    standardize: bool = True,
    pca: int | None = None,
    n_init: int = 1,
    seed: int = 0,
    device: str | None = None,
) -> Calibration:
    """Move the features of rare classes towards centres made of attributes shared by all classes.

    The mean of a rare class is biased: it is estimated from a few samples and lies where frequent
    classes left room. Clusters of *all* samples are estimated from many; a class centre rebuilt
    from them replaces the accidents of a few samples by what they share with other classes.

    Args:
        features: (rows, features), finite. Never conditioned on the label.
        labels: (rows,) class indices; a class without samples keeps its index.
        clusters: Number K, in [1, rows]. One cluster pulls every class to the same point.
        balance: rho >= 1 of `size_constrained_kmeans`: 1 forces equal sizes, infinity leaves
            them free. The paper names the factor but not its value; 10 is our *reading*.
        pull: `"adaptive"` keeps min(1, 10 / imbalance) of each sample (*reading* of the paper's
            alpha), a number in [0, 1] moves every calibrated class by that share: 0 moves nothing,
            1 puts the mean of a class on its centre. A sequence has one number per class.
        classes: Classes to move: `"tail"`, `"tail+middle"`, `"all"` or class indices.
        center_weights: `"class-share"`: n_ck / n_c, the mean of the class once each sample is
            replaced by its cluster's centre. `"cluster-share"`: n_ck / n_k, normalised, which
            favours clusters dominated by the class (*reading*).
        center_samples: `"all"`, or `"balanced"`: centres of a class-balanced draw, means and
            spread in which each class counts equally, see `balanced_kmeans` (*reading*).
        move: `"shrink"` a class towards its centre (the paper), `"shift"` it as a whole, or
            `"sample"` it around its new centre, see `move_classes` (*reading*).
        groups: Head, middle and tail; None takes thirds of the classes.
        num_classes: Number of classes; None is the largest label plus one.
        standardize: Cluster features scaled to unit variance per dimension (*reading*).
        pca: Cluster in this many principal components; None uses all dimensions.
        n_init: Initialisations of the clustering; that with the lowest inertia is kept.
        seed: Seed of the initialisations.
        device: Device that finds nearest centres, see `size_constrained_kmeans`.

    Returns:
        A `Calibration`; its `features` are in the space of the input.

    Raises:
        ConfigError: An option is outside its range, or `device` cannot be used.
        DataError: Shapes disagree or values are not finite.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(126, 4)).astype(np.float32)
        >>> y = np.repeat([0, 1, 2], [100, 20, 6])
        >>> result = calibrate(x, y, clusters=4, pull=0.5)
        >>> result.moved, bool(np.array_equal(result.features[:120], x[:120]))
        ((2,), True)

    Reference: section 3 and Algorithm 1 of the paper.
    """
    if center_samples not in CENTER_SAMPLES:
        raise unknown_name("center_samples", center_samples, CENTER_SAMPLES)
    check_pull(pull)
    features, labels = _check(features, labels)
    count = int(labels.max()) + 1 if num_classes is None else num_classes
    counts = ClassCounts.from_labels(labels, names=[str(c) for c in range(count)])
    groups = make_groups(counts) if groups is None else groups
    moved = _moved_classes(classes, groups, counts)
    space = _cluster_space(features, standardize=standardize, pca=pca, seed=seed)
    equally = center_samples == "balanced"
    cluster = partial(balanced_kmeans, labels=labels) if equally else size_constrained_kmeans
    found = cluster(space, clusters, balance=balance, seed=seed, n_init=n_init, device=device)
    row_weights = equal_weights(labels) if equally else None
    means = _cluster_means(features, found.labels, row_weights, clusters)
    spread = within_spread(features, found.labels, means, row_weights)
    table = composition(labels, found.labels, (count, clusters))
    weights = center_shares(table, center_weights)
    centers = np.where(counts.array()[:, None] > 0, weights @ means, np.nan)
    keep = np.ones(count)
    keep[list(moved)] = keep_weights(counts, pull)[list(moved)]
    return Calibration(
        features=move_classes(features, labels, centers, keep, how=move, spread=spread),
        centers=centers.astype(features.dtype),
        weights=weights,
        keep=keep,
        moved=moved,
        clusters=found,
        cluster_means=means,
        spread=spread,
        purity=float(table.max(axis=0).sum() / len(labels)),
    )


def keep_weights(counts: ClassCounts, pull: Pull) -> NDArray[np.float64]:
    """Return the share of its own feature that each class keeps (classes,), in [0, 1].

    `"adaptive"` is min(1, 10 / gamma_c): the rarer a class, the stronger the pull. A number p gives
    1 - p; a sequence has one number per class.

    Raises:
        ConfigError: The number of pulls differs from that of classes.
    """
    if isinstance(pull, str):
        return np.minimum(1.0, 10.0 / counts.imbalance())
    pulls, classes = np.asarray(pull, dtype=np.float64), len(counts.values)
    if pulls.ndim and pulls.shape != (classes,):
        raise ConfigError(f"pull must be one number, or one for each of {classes} classes")
    return np.full(classes, 1.0 - pulls)


def composition(
    labels: NDArray[np.integer], clusters: NDArray[np.integer], shape: tuple[int, int]
) -> NDArray[np.int64]:
    """Count the samples of each class in each cluster, n_ck, (classes, clusters)."""
    table = np.zeros(shape, dtype=np.int64)
    np.add.at(table, (labels, clusters), 1)
    return table


def center_shares(table: NDArray[np.integer], center_weights: str) -> NDArray[np.float64]:
    """Turn counts n_ck into the weights of the clusters in each class's centre.

    Args:
        table: (classes, clusters) counts.
        center_weights: See `calibrate`.

    Returns:
        (classes, clusters); rows sum to 1, or are 0 for a class without samples.
    """
    if center_weights not in CENTER_WEIGHTS:
        raise unknown_name("center_weights", center_weights, CENTER_WEIGHTS)
    shares = table.astype(np.float64)
    if center_weights == "cluster-share":
        shares /= np.maximum(table.sum(axis=0, keepdims=True), 1)
    totals = shares.sum(axis=1, keepdims=True)
    return np.divide(shares, totals, out=np.zeros_like(shares), where=totals > 0)


def _check(
    features: NDArray[np.floating], labels: NDArray[np.integer] | Sequence[int]
) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    x, y = np.asarray(features), np.asarray(labels)
    if x.ndim != 2 or y.shape != x.shape[:1] or not len(y):
        raise DataError(
            "features must be (rows, features) and labels (rows,) with at least one row, got "
            f"{x.shape} and {y.shape}"
        )
    if not np.issubdtype(y.dtype, np.integer):
        raise DataError(f"labels must be integers, got {y.dtype}")
    if not np.issubdtype(x.dtype, np.floating):
        x = x.astype(np.float64)
    broken = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if len(broken):
        raise DataError(
            f"{len(broken)} of {len(x)} rows of features hold NaN or infinite values, the first "
            f"is row {broken[0]}; remove them, or lower the learning rate if an encoder gave them"
        )
    return x, y.astype(np.int64)


def _moved_classes(
    classes: str | Sequence[int], groups: Groups, counts: ClassCounts
) -> tuple[int, ...]:
    if not isinstance(classes, str):
        unknown = [c for c in classes if not 0 <= c < len(counts.values)]
        if unknown:
            raise ConfigError(
                f"classes to calibrate must lie in [0, {len(counts.values) - 1}], got {unknown}"
            )
        chosen: Sequence[int] = classes
    elif classes == "tail":
        chosen = groups.tail
    elif classes == "tail+middle":
        chosen = groups.tail + groups.middle
    elif classes == "all":
        chosen = range(len(counts.values))
    else:
        raise unknown_name("choice of classes to calibrate", classes, CALIBRATED)
    return tuple(sorted({c for c in chosen if counts.values[c] > 0}))


def _cluster_space(
    features: NDArray[np.floating], *, standardize: bool, pca: int | None, seed: int
) -> NDArray[np.floating]:
    space = features
    if standardize:
        mean = features.mean(axis=0, dtype=np.float64)
        space = ((features - mean) / unit_spread(features)).astype(features.dtype)
    if pca is None:
        return space
    largest = min(features.shape)
    if not 1 <= pca <= largest:
        raise ConfigError(f"pca must lie in [1, {largest}] for these features, got {pca}")
    return PCA(pca, random_state=seed).fit_transform(space).astype(features.dtype)


def _cluster_means(
    features: NDArray[np.floating],
    assigned: NDArray[np.integer],
    weights: NDArray[np.float64] | None,
    clusters: int,
) -> NDArray[np.floating]:
    # equals the centres mapped back, but is exact even if PCA dropped directions
    sums = np.zeros((clusters, features.shape[1]))
    for k in np.unique(assigned):  # one cluster at a time, to avoid a copy of all rows
        rows = assigned == k
        own = features[rows]
        sums[k] = own.sum(axis=0, dtype=np.float64) if weights is None else weights[rows] @ own
    sizes = np.bincount(assigned, weights, minlength=clusters)[:, None]
    return np.divide(sums, sizes, out=np.zeros_like(sums), where=sizes > 0)
