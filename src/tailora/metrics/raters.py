"""Several raters of an image: how far they agree, and how far predictions are from all of them.

The distance of two masks is 1 - mean IoU, over the classes that either has and the pixels that are
labelled in both. One truth says how far a prediction is from one rater; the energy distance is 0
only for predictions that are spread as the raters are.

Reference: Kohl et al., A Probabilistic U-Net for Segmentation of Ambiguous Images, NeurIPS 2018
(generalised energy distance); Chatterjee et al., PULASki, 2023.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailora.metrics.bootstrap import unit_weights
from tailora.metrics.intervals import percentile_interval
from tailora.metrics.segmentation import iou_of_sums, pixel_table, sums_of

_BLOCK: Final = 64  # resamples at once
_FEWEST_UNITS: Final = 2


def mask_distance(first: NDArray[np.integer], second: NDArray[np.integer], classes: int) -> float:
    """Return 1 - mean IoU of two masks, over the classes that either has; symmetric.

    Args:
        first: Class index of each pixel, negative where it has none.
        second: Of the same shape.
        classes: Number of classes.

    Returns:
        In [0, 1]; NaN if no pixel has a class in both.

    Example:
        >>> mask_distance(np.array([0, 0, 1, 1]), np.array([0, 1, 1, -1]), 3)
        0.5
    """
    both = np.where(second >= 0, first, -1)
    iou = iou_of_sums(sums_of(pixel_table(both, second, classes)))
    return float("nan") if np.isnan(iou).all() else float(1 - np.nanmean(iou))


def generalised_energy_distance(between: ArrayLike, samples: ArrayLike, raters: ArrayLike) -> float:
    """Return 2 E d(S, Y) - E d(S, S') - E d(Y, Y'), the squared energy distance of two sets.

    Args:
        between: Distance of each predicted mask to each rater's (samples, raters).
        samples: Distances among predicted masks (samples, samples), 0 on the diagonal.
        raters: Distances among the raters' (raters, raters), 0 on the diagonal.

    Example:
        >>> generalised_energy_distance([[0, 1]], [[0]], [[0, 1], [1, 0]])
        0.5
    """
    apart, drawn, told = (np.asarray(one, np.float64).mean() for one in (between, samples, raters))
    return float(2 * apart - drawn - told)


@final
@dataclass
class RaterDistances:
    """Distances of masks, image by image.

    Args:
        classes: Number of classes.
        rows: Number of predictions of each image, e.g. of several methods.

    Attributes:
        raters: Mean distance of two raters of each image.
        model: Mean distance of each prediction to a rater (rows,) of each image.
        energy: Generalised energy distance of each prediction (rows,) of each image.
        units: What each image belongs to, which intervals resample.
    """

    classes: int
    rows: int
    raters: list[float] = field(default_factory=list)
    model: list[NDArray[np.float64]] = field(default_factory=list)
    energy: list[NDArray[np.float64]] = field(default_factory=list)
    units: list[Any] = field(default_factory=list)

    def add(
        self,
        masks: Sequence[NDArray[np.integer]],
        predicted: Sequence[NDArray[np.integer]],
        unit: Any,
        drawn: Sequence[Sequence[NDArray[np.integer]] | None] | None = None,
    ) -> bool:
        """Measure an image; one without two raters who labelled the same pixels is left out.

        Args:
            masks: Of its raters, class indices (height, width), negative where there is none.
            predicted: One mask of each row, whole.
            unit: See `units`.
            drawn: Masks that each row draws, whose energy distance is measured in place of that of
                the one mask; None for a row without.

        Returns:
            Whether it was measured.
        """
        n = len(masks)
        among = self._apart(masks, masks)
        between = self._apart(predicted, masks)
        if n < _FEWEST_UNITS or np.isnan(among).any() or np.isnan(between).any():
            return False
        self.raters.append(among.sum() / (n * (n - 1)))
        self.model.append(between.mean(axis=1))
        sets = [
            own or [one] for own, one in zip(drawn or [None] * self.rows, predicted, strict=True)
        ]
        self.energy.append(
            np.array(
                [
                    generalised_energy_distance(
                        self._apart(own, masks), self._apart(own, own), among
                    )
                    for own in sets
                ]
            )
        )
        self.units.append(unit)
        return True

    def _apart(
        self, first: Sequence[NDArray[np.integer]], second: Sequence[NDArray[np.integer]]
    ) -> NDArray[np.float64]:
        return np.array([[mask_distance(a, b, self.classes) for b in second] for a in first])

    def summary(self, *, replicates: int, confidence: float, seed: int) -> dict[str, Any] | None:
        """Means over images as plain JSON, with intervals that resample units; None without any.

        Args:
            replicates: Number of resamples.
            confidence: Of the intervals, in (0, 1).
            seed: Of the resampling.

        Returns:
            Agreement is mean IoU: of two raters, and in `rows` of a prediction with a rater.
        """
        if not self.raters:
            return None
        agreed = 1 - np.column_stack([self.raters, np.stack(self.model)])
        values = np.column_stack([agreed, np.stack(self.energy)])
        names, unit = np.unique(np.asarray(self.units), return_inverse=True)
        sums = np.zeros((len(names), values.shape[1] + 1))
        np.add.at(sums, unit, np.column_stack([values, np.ones(len(values))]))
        totals = np.concatenate(
            [
                weights @ sums
                for weights in unit_weights(
                    np.zeros(len(names), np.int64), replicates=replicates, seed=seed, block=_BLOCK
                )
            ]
        )
        low, high = percentile_interval(totals[:, :-1] / totals[:, -1:], confidence=confidence)
        several = len(names) >= _FEWEST_UNITS
        means = values.mean(axis=0).tolist()
        spans = np.column_stack([low, high]).tolist()
        ends = spans if several else [None] * len(spans)
        own, energy = slice(1, 1 + self.rows), slice(1 + self.rows, None)
        rows = zip(means[own], ends[own], means[energy], ends[energy], strict=True)
        return {
            "images": len(self.raters),
            "agreement": means[0],
            "agreement_interval": ends[0],
            "rows": [
                {
                    "agreement": one, "agreement_interval": span,
                    "energy_distance": apart, "energy_distance_interval": width,
                }
                for one, span, apart, width in rows
            ],
        }  # fmt: skip
