"""Bootstrap of confusion matrices and of per-class F1, over samples or over groups of samples.

Neighbouring samples are not independent: resampling whole groups (spatial blocks, scenes) keeps
dependent samples together, so that the interval is not too narrow.

Reference: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 6, 8 and 13.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from tailora.errors import ConfigError, DataError
from tailora.metrics.confusion import (
    class_indices,
    class_scores,
    confusion_cells,
    confusion_matrix,
    f1_of_sums,
)

_BLOCK_BYTES: Final = 32 * 2**20


@final
@dataclass(frozen=True, eq=False)
class BootstrappedF1:
    """F1 of each class, on the test split and on every resample.

    Args:
        point: F1 on the test split, (classes,); NaN for a class without samples.
        replicates: (replicates, classes); NaN if the resample has no sample of the class.
        num_units: Units with a sample of each class, (classes,).
    """

    point: NDArray[np.float64]
    replicates: NDArray[np.float64]
    num_units: NDArray[np.int64]


def unit_weights(
    strata: NDArray[np.int64], *, replicates: int, seed: int, block: int
) -> Iterator[NDArray[np.int64]]:
    """Draw units with replacement within their stratum; yield how often each was drawn.

    The weights depend only on strata and seed, never on predictions or on `block`, so methods on
    one test split see the same resamples and can be compared in pairs.

    Args:
        strata: Stratum of each unit, (units,); each stratum keeps its size.
        replicates: Number of resamples.
        seed: Seed of the resampling.
        block: Resamples per yielded array; bounds the memory.

    Yields:
        (at most `block`, units); each row sums to the number of units.
    """
    generator = np.random.default_rng(seed)
    order = np.argsort(strata, kind="stable")
    _, first, size = np.unique(strata[order], return_index=True, return_counts=True)
    starts, sizes = np.repeat(first, size), np.repeat(size, size)
    units = len(strata)
    for done in range(0, replicates, block):
        rows = min(block, replicates - done)
        places = starts + (generator.random((rows, units)) * sizes).astype(np.int64)
        drawn = order[places] + units * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units)


def bootstrap_confusions(
    targets: ArrayLike,
    predictions: ArrayLike,
    num_classes: int,
    *,
    replicates: int = 1000,
    seed: int = 0,
    units: ArrayLike | None = None,
) -> NDArray[np.int64]:
    """Return confusion matrices of bootstrap resamples.

    Single samples are resampled within their true class, because class sizes in a test split are a
    choice, and so that a class of three samples never vanishes. Groups are resampled as a whole; a
    class may then be absent from a resample.

    Args:
        targets: (rows,), integers in [0, num_classes).
        predictions: (rows,), integers in [0, num_classes).
        num_classes: Number of classes.
        replicates: Number of resamples.
        seed: Equal seeds give equal resamples for all predictions on the same test split.
        units: Group of each sample (rows,), integers or names; None resamples single samples.

    Returns:
        (replicates, num_classes, num_classes), rows are true classes.

    Raises:
        ConfigError: `replicates` below 1.
        DataError: Labels out of range, or lengths that differ.
    """
    blocks = _confusion_blocks(
        targets, predictions, num_classes, replicates=replicates, seed=seed, units=units
    )
    return np.concatenate(list(blocks))


def bootstrap_f1(
    targets: ArrayLike,
    predictions: ArrayLike,
    num_classes: int,
    *,
    replicates: int = 1000,
    seed: int = 0,
    units: ArrayLike | None = None,
) -> BootstrappedF1:
    """Return the F1 of each class on bootstrap resamples; arguments as in `bootstrap_confusions`.

    Only the sums that F1 needs are resampled, three per class, so time and memory grow with
    replicates x classes and not with their square.
    """
    blocks = _f1_blocks(
        targets, predictions, num_classes, replicates=replicates, seed=seed, units=units
    )
    return BootstrappedF1(
        point=class_scores(confusion_matrix(targets, predictions, num_classes)).f1,
        replicates=np.concatenate(list(blocks)),
        num_units=units_per_class(targets, num_classes, units=units),
    )


def units_per_class(
    targets: ArrayLike, num_classes: int, *, units: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Return the number of independent units per class: its samples, or the groups that contain it.

    Example:
        >>> units_per_class([0, 0, 0, 1], 3, units=["north", "north", "south", "south"]).tolist()
        [2, 1, 0]
    """
    true = class_indices(targets, num_classes, "targets")
    unit, _ = _units_and_strata(true, units)
    pairs = np.unique(np.stack([true, unit]), axis=1)
    return np.bincount(pairs[0], minlength=num_classes).astype(np.int64)


def _confusion_blocks(
    targets: ArrayLike,
    predictions: ArrayLike,
    num_classes: int,
    *,
    replicates: int,
    seed: int,
    units: ArrayLike | None,
) -> Iterator[NDArray[np.int64]]:
    _require_replicates(replicates)
    cells = confusion_cells(targets, predictions, num_classes)
    unit, strata = _units_and_strata(cells // num_classes, units)
    ones = np.ones(len(cells), dtype=np.int64)
    # cell x unit counts stay sparse: units x classes^2 would not fit for large tests
    counts = csr_array((ones, (cells, unit)), shape=(num_classes**2, len(strata)))
    block = max(1, _BLOCK_BYTES // (8 * max(num_classes**2, len(strata))))
    for weights in unit_weights(strata, replicates=replicates, seed=seed, block=block):
        yield (counts @ weights.T).T.reshape(-1, num_classes, num_classes)


def _f1_blocks(
    targets: ArrayLike,
    predictions: ArrayLike,
    num_classes: int,
    *,
    replicates: int,
    seed: int,
    units: ArrayLike | None,
) -> Iterator[NDArray[np.float64]]:
    """F1 of each class in resampled tests, (at most a block, classes) each."""
    _require_replicates(replicates)
    true, predicted = np.divmod(confusion_cells(targets, predictions, num_classes), num_classes)
    unit, strata = _units_and_strata(true, units)
    right = true == predicted
    # hits, support and predictions of each class, one below the other
    rows = np.concatenate([true[right], num_classes + true, 2 * num_classes + predicted])
    ones, owners = np.ones(len(rows), dtype=np.int64), np.concatenate([unit[right], unit, unit])
    counts = csr_array((ones, (rows, owners)), shape=(3 * num_classes, len(strata)))
    block = max(1, _BLOCK_BYTES // (8 * max(3 * num_classes, len(strata))))
    for weights in unit_weights(strata, replicates=replicates, seed=seed, block=block):
        sums = np.ascontiguousarray((counts @ weights.T).T).reshape(-1, 3, num_classes)
        yield f1_of_sums(sums[:, 0], sums[:, 1], sums[:, 2])


def _require_replicates(replicates: int) -> None:
    if replicates < 1:
        raise ConfigError(f"bootstrap replicates must be at least 1, got {replicates!r}")


def _units_and_strata(
    targets: NDArray[np.int64], units: ArrayLike | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Unit of each sample (rows,), and stratum of each unit (units,)."""
    if units is None:
        return np.arange(len(targets)), targets
    names = np.asarray(units)
    if names.shape != targets.shape:
        raise DataError(
            f"got {len(targets)} samples but units of shape {names.shape}; give each sample one"
        )
    distinct, unit = np.unique(names, return_inverse=True)
    return unit, np.zeros(len(distinct), dtype=np.int64)
