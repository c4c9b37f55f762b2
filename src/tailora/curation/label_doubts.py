"""Doubtful labels: confident learning on probabilities of models that have not seen the label.

Confident learning estimates how many labels of each class are wrong. Which ones is another
question: the order by support finds far more planted errors that are drawn evenly than what
confident learning counts, and somewhat fewer on the most confused class. A rare class looks
mislabelled to whatever compares probabilities, since it is learnt less well: the list is one to
look at, never to delete, and the threshold of a small class is drawn towards that of all classes.
"""

import warnings
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from tailora.counts import ClassCounts
from tailora.heads.linear_probe import fit_linear_probe, predict_logits
from tailora.losses import CrossEntropyLoss
from tailora.progress import Progress, silent

FOLDS: Final = 5
SHRINK: Final = 10.0
"""Samples that a class needs for its own threshold to weigh as much as that of all classes."""
_PENALTIES: Final = (0.3, 0.1, 0.03, 0.01)  # of weaker ones wrong labels are learnt by heart
_STEPS: Final = 100  # more change a probability by less than labels do


def out_of_fold(
    features: NDArray[np.floating],
    labels: NDArray[np.int64],
    counts: ClassCounts,
    *,
    groups: NDArray[np.integer] | None = None,
    folds: int = FOLDS,
    seed: int = 0,
    progress: Progress = silent,
) -> NDArray[np.float64]:
    """Predict each row by a linear head that has not seen its fold.

    The penalty is chosen once, on the second fold by heads that saw neither it nor the first.

    Args:
        features: Of an encoder that has not seen the labels (rows, width).
        labels: Class indices (rows,).
        counts: Rows per class.
        groups: Rows of one group, e.g. copies of an image, are in one fold (rows,).
        folds: At least 3.
        seed: Of the folds.
        progress: Shows folds done.

    Returns:
        Probabilities (rows, classes); NaN for rows of a class that is in one fold alone, of which
        no head knows anything.
    """
    fold = numbered_folds(labels, groups, folds, seed)
    loss, classes = CrossEntropyLoss(counts), len(counts.names)
    chosen = fit_linear_probe(
        features[fold > 1], labels[fold > 1], loss=loss, num_classes=classes, l2=_PENALTIES,
        validation=(features[fold == 1], labels[fold == 1]), score=_balanced_accuracy,
        max_iter=_STEPS,
    ).l2  # fmt: skip
    found = np.full((len(labels), classes), np.nan)
    with progress("label doubts", folds) as advance:
        for one in range(folds):
            seen, held = fold != one, np.flatnonzero(fold == one)
            head = fit_linear_probe(
                features[seen], labels[seen], loss=loss, num_classes=classes, l2=chosen,
                max_iter=_STEPS,
            ).linear  # fmt: skip
            known = held[np.isin(labels[held], labels[seen])]
            logits = predict_logits(head, features[known]).astype(np.float64)
            found[known] = softmax(logits, axis=1)
            advance(1)
    return found


def _balanced_accuracy(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    with warnings.catch_warnings():  # of predicted classes that the fold lacks
        warnings.simplefilter("ignore", UserWarning)
        return float(balanced_accuracy_score(labels, predicted))


def numbered_folds(
    labels: NDArray[np.int64], groups: NDArray[np.integer] | None, folds: int, seed: int
) -> NDArray[np.int64]:
    """Number the fold of each row, each with its share of every class as far as groups allow.

    Args:
        labels: Class indices (rows,).
        groups: Rows of one group are in one fold (rows,); None if each row may be anywhere.
        folds: At least 2.
        seed: Of the folds.

    Returns:
        (rows,) in [0, folds).
    """
    alone = groups is None or len(np.unique(groups)) == len(groups)
    kind = StratifiedKFold if alone else StratifiedGroupKFold
    fold = np.zeros(len(labels), dtype=np.int64)
    with warnings.catch_warnings():  # of classes with fewer samples than folds, which are expected
        warnings.simplefilter("ignore", UserWarning)
        parts = kind(folds, shuffle=True, random_state=seed).split(labels, labels, groups)
        for number, (_, held) in enumerate(parts):
            fold[held] = number
    return fold


@final
@dataclass(frozen=True, eq=False)
class LabelDoubts:
    """What confident learning says of labels.

    Args:
        thresholds: Of each class (classes,): a row counts as one of a class from this probability.
        confident: Rows with a label (rows of the table) that count as one of a class (columns).
        joint: Estimated share of all rows with a label and a true class (classes, classes); sums
            to 1 over the classes that were judged.
        counted: Class that each row counts as (rows,), -1 if none.
        suggested: Likeliest class of each row (rows,); its label, if the row was not judged.
        margin: Probability of the label above that of the likeliest other class, mapped to [0, 1]
            (rows,): below 0.5 another class is likelier. NaN for rows that were not judged.
        support: Probability of the label, were it one of the two alone, in [0, 1] (rows,); below
            0.5 where the margin is, but it tells apart labels that are unlikely and impossible.
        doubted: Whether another class than its label is likelier (rows,).
    """

    thresholds: NDArray[np.float64]
    confident: NDArray[np.int64]
    joint: NDArray[np.float64]
    counted: NDArray[np.int64]
    suggested: NDArray[np.int64]
    margin: NDArray[np.float64]
    support: NDArray[np.float64]
    doubted: NDArray[np.bool_]

    def ranked(self) -> NDArray[np.int64]:
        """Return the doubted rows, that with the least support first."""
        rows = np.flatnonzero(self.doubted)
        return rows[np.argsort(self.support[rows], kind="stable")]


def label_doubts(
    probabilities: NDArray[np.floating], labels: NDArray[np.int64], *, shrink: float = SHRINK
) -> LabelDoubts:
    """Find labels that disagree with what the other rows say, and estimate how many are wrong.

    The threshold of class j is the mean probability of j over the rows labelled j. A row counts as
    one of the likeliest class among those whose threshold it reaches. Few rows say little about a
    threshold: with n_j rows it is drawn towards the mean of all by the weight
    `shrink / (n_j + shrink)`.

    Args:
        probabilities: By models that have not seen the row (rows, classes); a row of NaN is not
            judged.
        labels: Given class indices (rows,).
        shrink: At least 0; 0 takes thresholds as they are.

    Reference:
        Northcutt, Jiang and Chuang, Confident Learning, JAIR 2021, equations 1 to 3, and the
        normalised margin of its section 3.2. Shrinking, and the order by support, are ours.
    """
    classes = probabilities.shape[1]
    judged = ~np.isnan(probabilities[:, 0])
    own = np.where(judged, np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0], np.nan)
    sizes = np.bincount(labels[judged], minlength=classes)
    sums = np.bincount(labels[judged], weights=own[judged], minlength=classes)
    means = np.divide(sums, sizes, out=np.full(classes, np.nan), where=sizes > 0)
    overall = np.nanmean(means) if judged.any() else np.nan
    thresholds = np.where(
        sizes > 0, (np.nan_to_num(sums) + shrink * overall) / np.maximum(sizes + shrink, 1e-12), 1.1
    )  # none reaches that of a class without rows
    reached = np.where(judged[:, None] & (probabilities >= thresholds), probabilities, -np.inf)
    counted = np.where(reached.max(axis=1) > -np.inf, reached.argmax(axis=1), -1)
    confident = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(confident, (labels[counted >= 0], counted[counted >= 0]), 1)
    others = probabilities.astype(np.float64)
    np.put_along_axis(others, labels[:, None], -np.inf, axis=1)
    other = others.max(axis=1)
    margin = np.where(judged, (own - other + 1) / 2, np.nan)
    support = np.where(judged, own / np.maximum(own + other, 1e-300), np.nan)
    return LabelDoubts(
        np.where(sizes > 0, thresholds, np.nan), confident, _calibrated(confident, sizes),
        counted, np.where(judged & (own < other), others.argmax(axis=1), labels), margin, support,
        judged & (own < other),
    )  # fmt: skip


def _calibrated(confident: NDArray[np.int64], sizes: NDArray[np.integer]) -> NDArray[np.float64]:
    """Scale each row to the rows with that label: equation 3; one without counts is its own."""
    rows = np.where(confident.sum(axis=1, keepdims=True) > 0, confident, np.diag(sizes))
    scaled = rows * (sizes / np.maximum(rows.sum(axis=1), 1))[:, None]
    return scaled / max(scaled.sum(), 1)
