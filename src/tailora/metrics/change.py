"""Metrics of semantic change: what changed, from which land cover, and into which.

Every pixel of a pair has a land cover at both dates, 0 where nothing changed. Tables count both
dates together, rows by what is predicted and columns by what is true, as published scores do.

Reference: Ding et al., Bi-Temporal Semantic Reasoning for the Semantic Change Detection in HR
Remote Sensing Images, TGRS 2022 (SeK and F_scd as computed there); Yang et al., Asymmetric Siamese
Networks for Semantic Change Detection, TGRS 2021 (SeK).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Final, final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tailora.counts import Groups
from tailora.errors import RunError
from tailora.metrics.bootstrap import unit_weights
from tailora.metrics.group_f1 import group_members, mean_of_defined
from tailora.metrics.intervals import FEWEST_UNITS
from tailora.metrics.places import ResampledScores
from tailora.metrics.segmentation import PixelSums, bootstrap_sums, interval, number
from tailora.transitions import NO_CHANGE

SCORES: Final = (
    "overall_accuracy", "binary_mean_iou", "change_iou", "sek", "f_scd", "object_f1",
)  # fmt: skip
"""Names of the scores of a test split; see `change_scores`, and `object_f1`."""
HIT: Final = 0.1
"""IoU above which changed ground is found, as one object."""
_BLOCK: Final = 64  # resamples at once
_FIRST: Final = 6  # columns: sum of accuracies, number of pairs, and those of `count_objects`

Dates = tuple[NDArray[np.integer], NDArray[np.integer]]
"""Land cover of each pixel before and after: 0 where unchanged, negative where unknown."""


@final
@dataclass
class ChangeCounts:
    """Counts of pixels over the pairs of a test split.

    Args:
        classes: Number of classes of land cover, without 0.
        transitions: Land cover before and after of each transition (transitions, 2); (0, 0) is no
            change, of which there may be several: they are not told apart.

    Attributes:
        tables: Of each pair the pixels of both dates by predicted (rows) and true land cover
            (classes + 1, classes + 1).
        found: Of each pair the pixels of each transition that are right, and all (2, transitions).
        objects: Of each pair what `count_objects` gives.
    """

    classes: int
    transitions: NDArray[np.int64]
    tables: list[NDArray[np.int64]] = field(default_factory=list)
    found: list[NDArray[np.int64]] = field(default_factory=list)
    objects: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, truth: Dates, said: Dates) -> None:
        """Count the pixels of a pair; those with a negative true value at a date do not count.

        Args:
            truth: True land cover at both dates, each (height, width).
            said: Predicted land cover at both dates, each (height, width).
        """
        n = self.classes + 1
        known = (truth[0] >= 0) & (truth[1] >= 0)
        self.objects.append(
            count_objects((np.asarray(truth[0]) > 0) & known, (np.asarray(said[0]) > 0) & known)
        )
        true, own = ([date[known].astype(np.int64) for date in pair] for pair in (truth, said))
        self.tables.append(date_table(truth, said, n))
        code, right = n * true[0] + true[1], (own[0] == true[0]) & (own[1] == true[1])
        wanted = n * self.transitions[:, 0] + self.transitions[:, 1]
        self.found.append(
            np.stack([np.bincount(some, minlength=n * n)[wanted] for some in (code[right], code)])
        )


def date_table(truth: Dates, said: Dates, side: int) -> NDArray[np.int64]:
    """Count the pixels of both dates by predicted (rows) and true land cover (side, side).

    Args:
        truth: True land cover at both dates; pixels that are negative at one do not count.
        said: Predicted land cover at both dates.
        side: Classes of land cover, and 0.
    """
    known = (truth[0] >= 0) & (truth[1] >= 0)
    true, own = ([date[known].astype(np.int64) for date in pair] for pair in (truth, said))
    cells = [side * row + column for row, column in zip(own, true, strict=True)]
    return np.bincount(np.concatenate(cells), minlength=side * side).reshape(side, side)


@final
@dataclass(frozen=True, eq=False)
class ChangeSums(PixelSums):
    """Pixels of what one row says about the test pairs.

    Args:
        units: Unit of each pair (pairs,).
        sums: Hits, true and predicted pixels of each transition in each pair (pairs, 3,
            transitions).
        tables: Pixels of both dates by predicted and true land cover; see `change_scores` (pairs,
            classes + 1, classes + 1).
    """

    measures: ClassVar[Mapping[str, str | None]] = MappingProxyType(
        {**PixelSums.measures, "SeK": None}
    )

    tables: NDArray[np.int64]

    def __post_init__(self) -> None:
        super().__post_init__()
        side = self.tables.shape[-1]
        if self.tables.shape != (len(self.units), side, side):
            raise RunError("it holds counts of land cover that fit no test split")

    def scores(self, measure: str) -> NDArray[np.float64]:
        """IoU of each transition (transitions,), or the score of all (1,)."""
        return _sek(self.tables.sum(axis=0)) if measure == "SeK" else super().scores(measure)

    def resampled(self, measure: str, *, replicates: int, seed: int) -> ResampledScores:
        """See `bootstrap_sums`."""
        if measure != "SeK":
            return super().resampled(measure, replicates=replicates, seed=seed)
        return bootstrap_sums(self.tables, self.units, _sek, replicates=replicates, seed=seed)


def _sek(tables: NDArray[np.number]) -> NDArray[np.float64]:
    """Separated kappa (..., 1) of tables of both dates."""
    return change_scores(tables)["sek"][..., None]


def change_scores(tables: NDArray[np.number]) -> dict[str, NDArray[np.float64]]:
    """Return binary IoU, separated kappa (SeK) and F_scd of tables of both dates.

    Args:
        tables: Pixels by predicted (rows) and true land cover, first the unchanged
            (..., classes + 1, classes + 1).

    Returns:
        `binary_mean_iou` (mean of the IoU of unchanged and of changed pixels, not of land cover),
        `change_iou`, `kappa` (without pixels that are and are called unchanged), `sek` (kappa
        times exp(change_iou - 1)), `f_scd` (F1 of the land cover of changed pixels; 0 where no
        change is predicted), each (...); NaN where nothing changed and no change is predicted.

    Example:
        >>> found = change_scores(np.array([[80, 2, 1], [3, 6, 1], [0, 2, 5]]))
        >>> round(float(found["sek"]), 6), round(float(found["f_scd"]), 6)
        (0.189796, 0.647059)
    """
    table = np.asarray(tables, dtype=np.float64)
    total, same = table.sum(axis=(-2, -1)), table[..., 0, 0]
    missed = table[..., 0, :].sum(axis=-1) - same
    false = table[..., :, 0].sum(axis=-1) - same
    both = table[..., 1:, 1:].sum(axis=(-2, -1))
    right = np.trace(table, axis1=-2, axis2=-1) - same
    some = total - same > 0
    changed = _ratio(both, both + missed + false)
    rest = table.copy()
    rest[..., 0, 0] = 0
    size = rest.sum(axis=(-2, -1))
    expected = _ratio((rest.sum(axis=-1) * rest.sum(axis=-2)).sum(axis=-1), size**2)
    kappa = _ratio(_ratio(right, size) - expected, 1 - expected)
    precision, recall = _ratio(right, both + false), _ratio(right, both + missed)
    found = {
        "binary_mean_iou": (_ratio(same, same + missed + false) + changed) / 2,
        "change_iou": changed,
        "kappa": kappa,
        "sek": kappa * np.exp(changed - 1),
        "f_scd": _ratio(2 * precision * recall, precision + recall),
    }
    return {name: np.where(some, value, np.nan) for name, value in found.items()}


def count_objects(true: NDArray[np.bool_], said: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count connected areas of change, and those that the other mask has too.

    Areas are connected by the edges of pixels; one is found if its IoU with one of the other mask
    is above `HIT`, whatever it changed into.

    Args:
        true: Where it changed (height, width).
        said: Where it is called changed (height, width).

    Returns:
        True areas that are found, all true ones, predicted ones that are right, and all (4,).

    Example:
        >>> count_objects(np.array([[1, 1, 0, 1]]) > 0, np.array([[0, 1, 0, 0]]) > 0).tolist()
        [1, 2, 1, 1]
    """
    labelled: Any = ndimage.label(true), ndimage.label(said)
    (areas, n), (others, m) = labelled
    pixels = np.bincount((areas * (m + 1) + others).ravel(), minlength=(n + 1) * (m + 1))
    table = pixels.reshape(n + 1, m + 1)
    both = table[1:, 1:]
    union = table[1:].sum(axis=1)[:, None] + table[:, 1:].sum(axis=0) - both
    hit = both > HIT * union
    return np.array([hit.any(axis=1).sum(), n, hit.any(axis=0).sum(), m], dtype=np.int64)


def object_f1(objects: NDArray[np.number]) -> NDArray[np.float64]:
    """Return the F1 of sums of `count_objects` (..., 4), (...); NaN where there are no areas."""
    found, true, right, said = np.moveaxis(np.asarray(objects, dtype=np.float64), -1, 0)
    precision, recall = _ratio(right, said), _ratio(found, true)
    f1 = _ratio(2 * precision * recall, precision + recall)
    return np.where(true + said > 0, f1, np.nan)


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Part of a whole, 0 of nothing."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), 0.0)


@final
@dataclass(frozen=True, eq=False)
class ChangeScores:
    """Scores on the test split and on every resample of its units.

    Args:
        point: Each of `SCORES` by name.
        replicates: The same (replicates,).
        recall: Recall of each transition (transitions,), NaN without a pixel of it.
        recall_replicates: (replicates, transitions).
    """

    point: dict[str, float]
    replicates: dict[str, NDArray[np.float64]]
    recall: NDArray[np.float64]
    recall_replicates: NDArray[np.float64]


def bootstrap_change(
    counts: ChangeCounts, units: Sequence[Any], *, replicates: int, seed: int
) -> ChangeScores:
    """Score a test split and resamples of its units.

    Args:
        counts: At least one pair.
        units: Unit of each pair, e.g. its block; units are resampled as a whole.
        replicates: Number of resamples; equal seeds and units give equal resamples.
        seed: Seed of the resampling.
    """
    tables, found = np.stack(counts.tables), np.stack(counts.found)
    labelled = tables.sum(axis=(1, 2)) > 0
    accuracy = np.stack(
        [np.trace(tables, axis1=1, axis2=2) / np.maximum(tables.sum(axis=(1, 2)), 1), labelled],
        axis=1,
    )
    parts = [
        accuracy, np.stack(counts.objects), tables.reshape(len(tables), -1),
        found.reshape(len(found), -1),
    ]  # fmt: skip
    sums = np.concatenate(parts, axis=1).astype(np.float64)
    names, unit = np.unique(np.asarray(units), return_inverse=True)
    of_unit = np.zeros((len(names), sums.shape[1]))
    np.add.at(of_unit, unit, sums)
    strata = np.zeros(len(names), dtype=np.int64)
    drawn = np.concatenate(
        [
            weights @ of_unit
            for weights in unit_weights(strata, replicates=replicates, seed=seed, block=_BLOCK)
        ]
    )
    point, recall = _of_sums(of_unit.sum(axis=0)[None], tables.shape[1])
    each, recalls = _of_sums(drawn, tables.shape[1])
    return ChangeScores({name: float(point[name][0]) for name in SCORES}, each, recall[0], recalls)


def _of_sums(
    sums: NDArray[np.float64], side: int
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64]]:
    """Scores, and recall of each transition, of the sums over pairs (resamples, values)."""
    right, pairs = sums[:, 0], sums[:, 1]
    tables = sums[:, _FIRST : _FIRST + side * side].reshape(-1, side, side)
    hits, true = np.moveaxis(sums[:, _FIRST + side * side :].reshape(len(sums), 2, -1), 1, 0)
    scores = change_scores(tables)
    scores["object_f1"] = object_f1(sums[:, 2:_FIRST])
    scores["overall_accuracy"] = np.where(pairs > 0, right / np.maximum(pairs, 1), np.nan)
    recall = np.where(true > 0, hits / np.maximum(true, 1), np.nan)
    return {name: scores[name] for name in SCORES}, recall


def change_metrics(
    counts: ChangeCounts,
    units: Sequence[Any],
    groups: Groups,
    names: Sequence[str],
    *,
    replicates: int,
    confidence: float,
    seed: int,
) -> tuple[dict[str, Any], ChangeScores]:
    """Compute the metrics of one method as plain JSON, and the scores that differences need.

    Means of recall over groups leave out no change, which is no transition: its recall is one minus
    the share of false alarms. Intervals are null with fewer than two units.

    Args:
        counts: Of its predictions.
        units: Unit of each pair.
        groups: Head, middle and tail of the transitions.
        names: Their names.
        replicates: Number of resamples.
        confidence: Of the intervals, in (0, 1).
        seed: Seed of the resampling.
    """
    found = bootstrap_change(counts, units, replicates=replicates, seed=seed)
    alone = len(set(units)) < FEWEST_UNITS

    def ends(values: NDArray[np.float64]) -> list[list[float] | None]:
        return [None] * values.shape[1] if alone else interval(values, confidence)

    entry: dict[str, Any] = {}
    for name in SCORES:
        entry |= {
            name: number(found.point[name]),
            f"{name}_interval": ends(found.replicates[name][:, None])[0],
        }
    means, intervals = {}, {}
    for key, members in transition_groups(groups, counts.transitions).items():
        mean = mean_of_defined(found.recall[members])
        means[key] = number(float(mean))
        intervals[key] = ends(mean_of_defined(found.recall_replicates[:, members])[:, None])[0]
    pixels = np.sum(counts.found, axis=0)[1]
    changes = np.asarray(counts.transitions.any(axis=1))
    shown = [*np.flatnonzero(~changes)[:1], *np.flatnonzero(changes)]
    of_each = ends(found.recall_replicates)
    entry |= {
        "recall": means,
        "recall_interval": intervals,
        "per_transition": [
            {
                "name": names[t] if changes[t] else NO_CHANGE,
                "test_pixels": int(pixels[t]),
                "recall": number(float(found.recall[t])),
                "recall_interval": of_each[t],
            }
            for t in shown
        ],
        "confusion": np.sum(counts.tables, axis=0).tolist(),
    }
    return entry, found


def transition_groups(groups: Groups, transitions: NDArray[np.int64]) -> dict[str, list[int]]:
    """Transitions of `all`, `head`, `middle` and `tail`, without no change."""
    return {
        key: [t for t in members if transitions[t].any()]
        for key, members in group_members(groups).items()
    }
