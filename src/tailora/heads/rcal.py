"""RCAL: Gaussians of classes, those of the tail re-estimated from the head, and samples of them.

A class with a dozen images says little about how its features spread. Features of an encoder that
learnt without labels are about normal within a class, and classes that lie beside each other spread
alike: a tail class borrows mean and covariance from the head classes nearest to it. Virtual
features drawn from the Gaussians then give every class as many as the largest has.

A Gaussian is kept as the rows that it was estimated from, so that samples need no factorised
covariance: weighted sums of deviations from the mean have exactly that covariance.

Reference: Zhang et al., When Noisy Labels Meet Long Tail Dilemmas: A Representation Calibration
Method, ICCV 2023, section 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import LocalOutlierFactor
from torch import nn

from tailora.counts import ClassCounts, Groups
from tailora.errors import ConfigError
from tailora.heads.linear_probe import zero_linear
from tailora.heads.loss_probe import fit_linear
from tailora.heads.probe import Options, ProbeData, StandardisedProbe, best_of, choices_of
from tailora.losses import LogitAdjustedLoss

MOST: Final = 2000
"""Rows of a class that its Gaussian is estimated from, and virtual ones that a class is given."""
_NEIGHBOURS: Final = 20  # of a row, that its density is compared with
_RIDGE: Final = 1e-3  # of the mean variance, that is added to each dimension

Rows = NDArray[np.float64]
"""(rows, width)"""


@final
@dataclass(frozen=True, eq=False)
class ClassGaussian:
    """Normal distribution of the features of a class.

    Args:
        mean: (width,).
        parts: Deviations from the mean of their class (rows, width), and the weight of their
            covariance; weights sum to 1.
        ridge: Variance that every dimension has beside theirs.
    """

    mean: NDArray[np.float64]
    parts: tuple[tuple[float, Rows], ...]
    ridge: float

    def covariance(self) -> NDArray[np.float64]:
        """Return it whole (width, width)."""
        shared = sum(weight * rows.T @ rows / len(rows) for weight, rows in self.parts)
        return shared + self.ridge * np.eye(len(self.mean))

    def sample(self, count: int, drawn: np.random.Generator) -> Rows:
        """Draw `count` features (count, width)."""
        found = self.mean + np.sqrt(self.ridge) * drawn.standard_normal((count, len(self.mean)))
        for weight, rows in self.parts:
            found += np.sqrt(weight / len(rows)) * drawn.standard_normal((count, len(rows))) @ rows
        return found


def class_gaussians(
    features: NDArray[np.floating],
    labels: NDArray[np.int64],
    groups: Groups,
    *,
    neighbours: int = 3,
    gamma: float = 0.3,
    seed: int = 0,
) -> dict[int, ClassGaussian]:
    """Estimate the Gaussian of every class that has rows; those of tail classes with the head's.

    Rows that lie less densely than those around them are left out first, as they may have a wrong
    label. With the squared distance d_c of a head class to the tail class, the nearest
    head classes have the weights w_c ~ n_c exp(-d_c / median d), which sum to 1, and the mean is
    `gamma sum w_c mean_c + (1 - gamma) mean`; the covariances likewise.

    A wrong label that many images share is no outlier: where a third of a class is a compact group
    of another one, its Gaussian has them.

    Args:
        features: (rows, width), with dimensions that can be compared.
        labels: Class indices (rows,).
        groups: Head, middle and tail; the middle classes are as they are.
        neighbours: Head classes that a tail class borrows from, at least 1.
        gamma: How much it borrows, in [0, 1]: 0 nothing, 1 all.
        seed: Of the rows that are drawn from a class with more than `MOST`.

    Raises:
        ConfigError: `neighbours` or `gamma` is out of range.

    Reference:
        Zhang et al., ICCV 2023, section 3. Its exact weights and its values of `gamma` and
        `neighbours` could not be read; these are ours.
    """
    _check(neighbours, gamma)
    drawn = np.random.default_rng(seed)
    rows = {int(c): _dense(_some(features[labels == c], drawn)) for c in np.unique(labels)}
    means = {c: own.mean(axis=0) for c, own in rows.items()}
    away = {c: own - means[c] for c, own in rows.items()}
    head = [c for c in groups.head if c in rows]
    found = {}
    for c in rows:
        mean, parts = means[c], ((1.0, away[c]),)
        if c in groups.tail and head:
            near, weights = _nearest(c, head, means, rows, neighbours)
            mean = gamma * weights @ [means[n] for n in near] + (1 - gamma) * mean
            borrowed = [(gamma * w, away[n]) for w, n in zip(weights, near, strict=True)]
            parts = (*borrowed, (1 - gamma, away[c]))
        variance = sum(weight * (own**2).mean() for weight, own in parts)
        found[c] = ClassGaussian(mean, parts, float(_RIDGE * variance))
    return found


def _check(neighbours: object, gamma: object) -> None:
    if type(neighbours) is not int or neighbours < 1:
        raise ConfigError(
            f"neighbours of rcal must be a whole number of at least 1, got {neighbours!r}"
        )
    if isinstance(gamma, bool) or not isinstance(gamma, int | float) or not 0 <= gamma <= 1:
        raise ConfigError(f"gamma of rcal must be a number in [0, 1], got {gamma!r}")


def _some(rows: NDArray[np.floating], drawn: np.random.Generator) -> Rows:
    if len(rows) > MOST:
        rows = rows[np.sort(drawn.choice(len(rows), MOST, replace=False))]
    return rows.astype(np.float64)


def _dense(rows: Rows) -> Rows:
    """Leave out local outliers, where there are enough rows to tell."""
    if len(rows) <= _NEIGHBOURS:
        return rows
    return rows[LocalOutlierFactor(_NEIGHBOURS).fit_predict(rows) > 0]


def _nearest(
    c: int,
    head: Sequence[int],
    means: dict[int, NDArray[np.float64]],
    rows: dict[int, Rows],
    neighbours: int,
) -> tuple[list[int], NDArray[np.float64]]:
    """Return the head classes nearest to a class, with their weights."""
    apart = np.array([((means[n] - means[c]) ** 2).sum() for n in head])
    order = np.argsort(apart, kind="stable")[:neighbours]
    sizes = np.array([len(rows[head[i]]) for i in order])
    weights = sizes * np.exp(-(apart[order] - apart.min()) / max(np.median(apart), 1e-300))
    return [head[i] for i in order], weights / weights.sum()


@final
class RCALProbe(StandardisedProbe):
    """A linear head on the features and on virtual ones of RCAL's Gaussians."""

    name = "rcal"
    summary = (
        "linear head trained with virtual features too, drawn from Gaussians of the classes, of "
        "which those of the tail borrow from the head (RCAL, Zhang et al., ICCV 2023)"
    )

    @property
    def options(self) -> dict[str, Any]:
        """Its options with their defaults."""
        return {"neighbours": 3, "gamma": 0.3}

    def check(self, options: Options, counts: ClassCounts) -> None:
        """Reject options that it does not have."""
        super().check(options, counts)
        for chosen in choices_of({**self.options, **options}):
            _check(**chosen)

    def learn(self, data: ProbeData, options: Options) -> nn.Module:
        """Fill every class up to the largest, by at most `MOST`; what is missing is adjusted."""

        def fitted(chosen: dict[str, Any]) -> nn.Module:
            filled = with_virtual(data, **chosen)
            return fit_linear(filled, LogitAdjustedLoss(filled.counts))

        return best_of(self.name, data, options, fitted)

    def shape(self, width: int, classes: int, options: Options) -> nn.Module:
        """Build what `learn` returns, without its state."""
        return zero_linear(width, classes)


def with_virtual(data: ProbeData, **chosen: Any) -> ProbeData:
    """Add virtual features until each class has as many as the largest, at most `MOST` to each.

    Args:
        data: Standardised features.
        **chosen: Of `class_gaussians`.
    """
    gaussians = class_gaussians(data.features, data.labels, data.groups, seed=data.seed, **chosen)
    drawn = np.random.default_rng(data.seed)
    sizes = np.bincount(data.labels, minlength=len(data.counts.names))
    extra = {c: min(int(sizes.max() - sizes[c]), MOST) for c in gaussians}
    virtual = [gaussians[c].sample(count, drawn) for c, count in extra.items()]
    features = np.concatenate([data.features, *virtual]).astype(np.float32)
    labels = np.concatenate([data.labels, np.repeat(list(extra), list(extra.values()))])
    counts = ClassCounts.from_labels(labels, names=data.counts.names)
    return replace(data, features=features, labels=labels, counts=counts, as_they_are=0)
