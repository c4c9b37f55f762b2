"""A verdict for each class, from what the test says of the last method."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailora.counts import rows_by_class
from tailora.evaluate import ClassEvidence, MethodMetrics, TrustLimits, judge
from tailora.runs.evaluate_options import EvaluateOptions

Units = NDArray[Any] | None


def class_verdicts(
    method: MethodMetrics,
    probabilities: NDArray[np.floating],
    targets: NDArray[np.int64],
    units: Units,
    options: EvaluateOptions,
) -> list[dict[str, Any]]:
    """Judge each class, in index order.

    Args:
        method: Metrics of the method on this test.
        probabilities: What it said, (rows, classes).
        targets: True classes, (rows,).
        units: Group of each test row (rows,), or None.
        options: Limits of trust and the coverage promised.

    Returns:
        `verdict`, `failed` and `reason` of each class.
    """
    limits = TrustLimits(
        f1=options.trust_f1,
        support=options.trust_support,
        overconfidence=options.trust_overconfidence,
        coverage=options.coverage if method.coverage is None else method.coverage["level"],
    )
    covered = _covered(method)
    predicted = probabilities.argmax(axis=1)
    found = []
    own = rows_by_class(targets, len(method.per_class))
    called = rows_by_class(predicted, len(method.per_class))
    for index, row in enumerate(method.per_class):
        chosen = called[index]
        some = len(chosen) > 0
        evidence = ClassEvidence(
            f1_interval=row.f1_interval,
            n_test=row.n_test,
            n_units=_count_units(own[index], units),
            stated=float(probabilities[chosen, index].mean()) if some else None,
            right=float((targets[chosen] == index).mean()) if some else None,
            predicted_units=_count_units(chosen, units),
            covered=covered[index],
        )
        judgement = asdict(judge(evidence, limits))
        found.append(judgement | {"failed": list(judgement["failed"])})
    return found


def _covered(method: MethodMetrics) -> Sequence[float | None]:
    """Coverage of each class whose sets could be calibrated."""
    if method.coverage is None:
        return [None] * len(method.per_class)
    loose = set(method.coverage["uncalibrated"])
    return [
        None if row.name in loose else share
        for row, share in zip(method.per_class, method.coverage["by_class"], strict=True)
    ]


def _count_units(rows: NDArray[np.int64], units: Units) -> int:
    return len(rows) if units is None else len(set(units[rows].tolist()))
