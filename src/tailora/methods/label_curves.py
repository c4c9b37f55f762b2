"""The value of more labels for rare classes: learning curves of the head on thinned features.

All tail classes are thinned together, each to the same shares of its training samples; head and
middle classes, the encoder and its adapter stay as they are. The curve is therefore that of the
head: gains from training the adapter on more labels come on top. The penalty stays the head's own,
so nothing is tuned again.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tailora.errors import DataError
from tailora.heads.linear_probe import (
    LinearProbe,
    Loss,
    fit_linear_probe,
    predict_logits,
    unit_spread,
)
from tailora.metrics import LabelCurve, LabelCurves, bootstrap_f1, label_value
from tailora.numbers import counted

SHARES: Final = (0.25, 0.4, 0.64)  # of the labels of a class; each size is 1.6 times the one before
FACTORS: Final = (2.0, 5.0)
FEWEST_LABELS: Final = 6  # with fewer, the sizes would be 1, 2 and 3
_REPEATS: Final = 3
_REPLICATES: Final = 60

Rows = NDArray[np.floating]
Labels = NDArray[np.int64]


def label_curves(
    head: nn.Linear,
    train: tuple[Rows, Labels],
    test: tuple[Rows, Labels],
    *,
    loss: Loss,
    classes: Sequence[int],
    l2: Sequence[float],
    units: NDArray[Any] | None,
    confidence: float,
    seed: int,
) -> LabelCurves:
    """Learning curve of each class, extrapolated to 2 and 5 times its labels.

    Args:
        head: The head that was fitted on all of `train`.
        train: Features (rows, width) and labels (rows,) it was fitted on.
        test: Features and labels of the test split.
        loss: The loss it was fitted with.
        classes: Indices of the classes to thin, together.
        l2: Candidate penalties, among them that of the head.
        units: Group of each test row (rows,), or None.
        confidence: Two-sided level, in (0, 1).
        seed: Seed of the thinning and of the intervals.
    """
    labels = train[1]
    enough = [c for c in classes if (labels == c).sum() >= FEWEST_LABELS]
    found = [_too_few(c, labels) for c in classes if c not in enough]
    if enough:
        penalty = head_penalty(head, *train, loss=loss, grid=l2)
        fit = partial(fit_linear_probe, loss=loss, num_classes=head.out_features, l2=penalty)
        generator = np.random.default_rng(seed)
        runs = [
            [_thinned_head(fit, train, labels, order, enough, share) for share in SHARES]
            for order in (generator.permutation(len(labels)) for _ in range(_REPEATS))
        ]
        scores = _scored([[*row, head] for row in runs], test, units=units, seed=seed)
        found += [_curve(c, labels, *scores, confidence=confidence, seed=seed) for c in enough]
    return LabelCurves(
        shares=(*SHARES, 1.0),
        repeats=_REPEATS,
        confidence=confidence,
        classes=tuple(sorted(found, key=lambda curve: [*classes].index(curve.index or 0))),
    )


def head_penalty(
    head: nn.Linear, features: Rows, labels: Labels, *, loss: Loss, grid: Sequence[float]
) -> float:
    """Return the penalty a head was fitted with, whose gradient balances the loss at the minimum.

    Args:
        head: Fitted by `fit_linear_probe`.
        features: Features it was fitted on (rows, width).
        labels: Their class indices (rows,).
        loss: The loss it was fitted with.
        grid: Candidate penalties.
    """
    spread = unit_spread(features)
    x = (features - features.mean(axis=0, dtype=np.float64)) / spread
    logits = torch.from_numpy(predict_logits(head, features)).requires_grad_()
    [gradient] = torch.autograd.grad(loss(logits, torch.from_numpy(labels)), [logits])
    weight = head.weight.detach().double().numpy() * spread
    slope = gradient.double().numpy().T @ x
    estimate = max(-float((slope * weight).sum() / np.square(weight).sum()), 1e-12)
    return min(grid, key=lambda l2: abs(np.log(l2 / estimate)))


def _thinned_head(
    fit: Callable[..., LinearProbe],
    train: tuple[Rows, Labels],
    labels: Labels,
    order: Labels,
    classes: Sequence[int],
    share: float,
) -> nn.Linear:
    kept = _thinned(labels, order, classes, share)
    return fit(train[0][kept], train[1][kept]).linear


def _scored(
    heads: list[list[nn.Linear]],
    test: tuple[Rows, Labels],
    *,
    units: NDArray[Any] | None,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """F1 (repeats, sizes, classes), and of bootstrap replicates, with those as first axis."""
    found = [
        [
            bootstrap_f1(
                test[1],
                predict_logits(head, test[0]).argmax(axis=1),
                head.out_features,
                replicates=_REPLICATES,
                seed=seed,
                units=units,
            )
            for head in row
        ]
        for row in heads
    ]
    points = np.array([[one.point for one in row] for row in found])
    resampled = np.array([[one.replicates for one in row] for row in found])
    return points, np.moveaxis(resampled, 2, 0)


def _thinned(labels: Labels, order: Labels, classes: Sequence[int], share: float) -> Labels:
    """Rows of all other classes, and of `classes` the first `share` in the given order."""
    kept = [order[~np.isin(labels[order], classes)]]
    for c in classes:
        own = order[labels[order] == c]
        kept.append(own[: _size(len(own), share)])
    return np.sort(np.concatenate(kept))


def _size(labels: int, share: float) -> int:
    return max(1, round(labels * share))


def _curve(
    c: int,
    labels: Labels,
    points: NDArray[np.float64],
    resampled: NDArray[np.float64],
    *,
    confidence: float,
    seed: int,
) -> LabelCurve:
    count = int((labels == c).sum())
    sizes = tuple(_size(count, share) for share in (*SHARES, 1.0))
    try:
        values = label_value(
            sizes,
            points[:, :, c],
            factors=FACTORS,
            replicates=len(resampled),
            confidence=confidence,
            seed=seed,
            tests=resampled[:, :, :, c],
        )
    except DataError as error:
        return LabelCurve(index=c, labels=count, left_out=str(error))
    scores = tuple(float(score) for score in points[:, :, c].mean(axis=0))
    return LabelCurve(index=c, labels=count, sizes=sizes, scores=scores, values=tuple(values))


def _too_few(c: int, labels: Labels) -> LabelCurve:
    count = int((labels == c).sum())
    reason = f"{counted(count, 'training sample')}, fewer than {FEWEST_LABELS}: too few to thin"
    return LabelCurve(index=c, labels=count, left_out=reason)
