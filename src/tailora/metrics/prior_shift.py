"""Accuracy and macro-F1 under other test priors, from one test split and without new data.

**Assumption:** only the class prior changes, p(x | y) stays (label shift). Then every row of true
class c represents prior_c / share_c rows of the new test split. Other seasons or sensors change p(x
| y), which this does not cover. Predictions are unchanged: for predictions that know the new prior,
correct the probabilities first (`heads.prior_thresholding`).

Reference: Zhang et al., "Self-Supervised Aggregation of Diverse Experts for Test-Agnostic
Long-Tailed Recognition" (SADE), NeurIPS 2022 (its test distributions); Saerens, Latinne and
Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori Probabilities", Neural
Computation 2002, section 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, DataError, unknown_name
from tailora.metrics.group_f1 import mean_of_defined

PRIOR_KINDS: Final = ("uniform", "natural", "reversed", "forward", "backward")
RATIOS: Final = (2.0, 5.0, 10.0, 25.0, 50.0)


@final
@dataclass(frozen=True)
class ShiftedScores:
    """Scores of one test split reweighted to another class prior.

    Args:
        accuracy: In [0, 1].
        macro_f1: In [0, 1]; over classes with test samples and a positive prior.
        effective_rows: Effective sample size, at most the rows of the test split (Kish). A backward
            prior depends on the few rows of the tail: check it.
    """

    accuracy: float
    macro_f1: float
    effective_rows: float


def shifted_prior(
    counts: ClassCounts, kind: str = "uniform", *, ratio: float | None = None
) -> NDArray[np.float64]:
    """Return a test prior, (classes,), sum 1, derived from the training counts.

    Args:
        counts: Training samples per class; classes are ranked by them, ties by class index.
        kind: `"uniform"`; `"natural"` (the training prior); `"reversed"` (the training prior with
            the largest share for the rarest class); `"forward"` (exponential from the most frequent
            class down to 1 / ratio of it); `"backward"` (the same in reversed class order).
        ratio: Largest over smallest share, at least 1; for `"forward"` and `"backward"` only.

    Raises:
        ConfigError: Unknown kind; a ratio missing, below 1, or given to a kind without one.
        DataError: No training sample at all.

    Example:
        >>> counts = ClassCounts(("a", "b", "c"), (6, 3, 1))
        >>> shifted_prior(counts, "reversed").tolist()
        [0.1, 0.3, 0.6]
        >>> shifted_prior(counts, "backward", ratio=4).round(4).tolist()
        [0.1429, 0.2857, 0.5714]
    """
    _check_kind(kind, ratio)
    values = counts.array()
    if not counts.total:
        raise DataError("test priors need a training sample, got none")
    order = np.argsort(-values, kind="stable")
    if kind == "uniform":
        by_rank = np.ones(len(values))
    elif ratio is None:
        by_rank = values[order]
    else:
        by_rank = ratio ** -np.linspace(0.0, 1.0, len(values))
    prior = np.empty(len(values))
    prior[order] = by_rank[::-1] if kind in ("reversed", "backward") else by_rank
    return prior / prior.sum()


def importance_weights(prior: ArrayLike, support: ArrayLike) -> NDArray[np.float64]:
    """Return the weight of test rows by class under `prior`, (classes,); mean 1 over rows.

    Args:
        prior: Target class shares, (classes,), at least 0.
        support: Test rows of each class, (classes,).

    Returns:
        prior_c / share_c; NaN for a class without test rows, whose prior is distributed over the
        other classes.

    Raises:
        DataError: Inconsistent shapes, negative or non-finite values, or no tested class with a
            positive prior.

    Example:
        >>> importance_weights([0.5, 0.5], [80, 20]).tolist()
        [0.625, 2.5]
    """
    wanted, rows = _checked_prior(prior, support)
    tested = rows > 0
    wanted = np.where(tested, wanted, 0.0) / wanted[tested].sum()
    return np.where(tested, wanted * rows.sum() / np.maximum(rows, 1), np.nan)


def reweighted_confusion(confusion: ArrayLike, prior: ArrayLike) -> NDArray[np.float64]:
    """Return joint shares of true (rows) and predicted class under `prior`, sum 1.

    Args:
        confusion: (classes, classes), rows true.
        prior: Target class shares, (classes,), at least 0.

    Returns:
        (classes, classes); a class without test rows has a row of zeros.

    Raises:
        DataError: See `importance_weights`.

    Example:
        >>> reweighted_confusion([[6, 2], [1, 1]], [0.5, 0.5]).tolist()
        [[0.375, 0.125], [0.25, 0.25]]
    """
    cells = np.asarray(confusion, dtype=np.float64)
    if cells.ndim != 2 or cells.shape[0] != cells.shape[1]:
        raise DataError(f"a confusion matrix must be (classes, classes), got {cells.shape}")
    weights = np.nan_to_num(importance_weights(prior, cells.sum(axis=1)))
    return weights[:, None] * cells / cells.sum()


def shifted_scores(confusion: ArrayLike, prior: ArrayLike) -> ShiftedScores:
    """Return accuracy, macro-F1 and effective rows under `prior`.

    Args:
        confusion: (classes, classes), rows true.
        prior: Target class shares, (classes,), at least 0.

    Raises:
        DataError: See `importance_weights`.

    Example:
        >>> shifted_scores([[6, 2], [1, 1]], [0.5, 0.5]).accuracy
        0.625
    """
    shares = reweighted_confusion(confusion, prior)
    true, predicted, hits = shares.sum(axis=1), shares.sum(axis=0), np.diag(shares)
    present = true > 0
    f1 = np.where(present, 2 * hits / np.where(present, true + predicted, 1.0), np.nan)
    support = np.asarray(confusion).sum(axis=1)
    return ShiftedScores(
        accuracy=float(hits.sum()),
        macro_f1=float(mean_of_defined(f1)),
        effective_rows=float(1 / np.sum(true[present] ** 2 / support[present])),
    )


def scores_under_priors(
    confusion: ArrayLike, counts: ClassCounts, *, ratios: Sequence[float] = RATIOS
) -> dict[str, ShiftedScores]:
    """Return scores from the most head-heavy to the most tail-heavy prior, natural and reversed.

    Args:
        confusion: (classes, classes), rows true.
        counts: Training samples per class.
        ratios: For forward and backward, at least 1 each, ascending.

    Returns:
        Keyed `forward-50` down to `forward-2`, `uniform`, `backward-2` up to `backward-50`, then
        `natural` and `reversed`.

    Raises:
        ConfigError: A ratio below 1.
        DataError: See `importance_weights`.

    Example:
        >>> counts = ClassCounts(("a", "b"), (9, 1))
        >>> table = scores_under_priors([[8, 0], [1, 1]], counts, ratios=(3,))
        >>> [f"{name} {scores.accuracy:.3f}" for name, scores in table.items()][:3]
        ['forward-3 0.875', 'uniform 0.750', 'backward-3 0.625']
    """
    cases: list[tuple[str, str, float | None]] = [
        *((f"forward-{ratio:g}", "forward", ratio) for ratio in reversed(ratios)),
        ("uniform", "uniform", None),
        *((f"backward-{ratio:g}", "backward", ratio) for ratio in ratios),
        ("natural", "natural", None),
        ("reversed", "reversed", None),
    ]
    return {
        name: shifted_scores(confusion, shifted_prior(counts, kind, ratio=ratio))
        for name, kind, ratio in cases
    }


def _check_kind(kind: str, ratio: float | None) -> None:
    if kind not in PRIOR_KINDS:
        raise unknown_name("test prior", kind, PRIOR_KINDS)
    if (ratio is not None) != (kind in ("forward", "backward")):
        raise ConfigError(
            f"'forward' and 'backward' need a ratio, the others have none; got {ratio!r} for "
            f"{kind!r}"
        )
    if ratio is not None and not 1 <= ratio < np.inf:
        raise ConfigError(f"the ratio of a test prior must be at least 1, got {ratio!r}")


def _checked_prior(
    prior: ArrayLike, support: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    wanted, rows = np.asarray(prior, dtype=np.float64), np.asarray(support, dtype=np.float64)
    if wanted.ndim != 1 or wanted.shape != rows.shape:
        raise DataError(f"prior and test rows must be (classes,), got {wanted.shape}, {rows.shape}")
    both = np.stack([wanted, rows])
    if not (np.isfinite(both) & (both >= 0)).all():
        raise DataError("prior and test rows must be finite and at least 0")
    if not wanted[rows > 0].sum() > 0:
        raise DataError("no class with test rows has a positive prior; nothing can be estimated")
    return wanted, rows
