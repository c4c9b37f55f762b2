"""What a head that has learnt the answers says of all images, and how good it is.

The head is a logit-adjusted linear probe on frozen features. Its quality is measured on answers
that it has not seen: by heads that learnt the other folds.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from threadpoolctl import ThreadpoolController

from tailora.counts import ClassCounts
from tailora.heads.linear_probe import fit_linear_probe, predict_logits
from tailora.losses import LogitAdjustedLoss

L2: Final = 0.1
FOLDS: Final = 5
_STEPS: Final = 100  # more change a probability by less than an answer does


@final
@dataclass(frozen=True, eq=False)
class Suggestions:
    """What a head says.

    Args:
        version: Counts heads; 0 is that of a run, before any answers were learnt.
        known: Lines of the journal whose answers it has learnt.
        probabilities: Of each class (images, classes).
        unseen: Class of each labelled image by a head that has not seen it, by its number.
    """

    version: int
    known: int
    probabilities: NDArray[np.float32]
    unseen: Mapping[int, int] = field(default_factory=dict)


def learn(
    features: NDArray[np.floating],
    labels: Mapping[int, int],
    classes: Sequence[str],
    *,
    version: int,
    known: int,
    folds: int = FOLDS,
) -> Suggestions | None:
    """Fit a head to all labels, and one without each fold of them.

    Args:
        features: Of all images (images, width).
        labels: Class index of each labelled image, by its number.
        classes: Class names.
        version: Of the head.
        known: Lines of the journal that gave the labels.
        folds: Heads that measure it.

    Returns:
        None as long as fewer than two classes have labels.
    """
    items = np.fromiter(labels, dtype=np.int64, count=len(labels))
    of = np.fromiter(labels.values(), dtype=np.int64, count=len(labels))
    usable = ~np.isnan(features[items, 0])  # labels from elsewhere may be of others
    items, of = items[usable], of[usable]
    if len(np.unique(of)) < 2:
        return None
    rows = np.asarray(features[items], dtype=np.float32)
    fold = _folds(of, folds)
    unseen: dict[int, int] = {}
    with _one_thread():
        for one in range(folds):
            seen, held = fold != one, np.flatnonzero(fold == one)
            if len(held) and len(np.unique(of[seen])) > 1:
                said = _probabilities(rows[seen], of[seen], rows[held], len(classes)).argmax(axis=1)
                unseen |= dict(zip(items[held].tolist(), said.tolist(), strict=True))
        all_of_them = _probabilities(rows, of, features, len(classes))
    return Suggestions(version, known, all_of_them, unseen)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit NumPy's linear algebra to one thread, and torch where it is called from this thread.

    The products of a head are so small that threads gain nothing, and on a machine that has other
    work they wait for each other most of the time.
    """
    torch.get_num_threads()  # sets the number of a new thread, which would else be set after this
    with ThreadpoolController().limit(limits=1):
        yield


def _folds(labels: NDArray[np.int64], folds: int) -> NDArray[np.int64]:
    """Deal the labels of each class to the folds in turn."""
    fold = np.zeros(len(labels), dtype=np.int64)
    for c in np.unique(labels):
        own = np.flatnonzero(labels == c)
        fold[own] = np.arange(len(own)) % folds
    return fold


def _probabilities(
    rows: NDArray[np.float32], labels: NDArray[np.int64], asked: NDArray[np.floating], classes: int
) -> NDArray[np.float32]:
    """Learn labels (rows,) and return probabilities (asked, classes), 0 for classes without."""
    present, own = np.unique(labels, return_inverse=True)
    sizes = tuple(np.bincount(own).tolist())
    loss = LogitAdjustedLoss(ClassCounts(tuple(str(c) for c in present), sizes))
    head = fit_linear_probe(
        rows, own.astype(np.int64), loss=loss, num_classes=len(present), l2=L2, max_iter=_STEPS
    ).linear
    found = np.zeros((len(asked), classes), dtype=np.float32)
    found[:, present] = softmax(predict_logits(head, asked, batch_size=1024), axis=1)
    return found
