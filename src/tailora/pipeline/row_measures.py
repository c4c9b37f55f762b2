"""What a row of a comparison keeps of each seed's metrics, beside macro-F1."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from tailora.evaluate.group_f1 import MACRO_KEYS
from tailora.evaluate.seed_differences import mean_and_deviation

Spread = dict[str, float | None]

_SCALARS: Final = ("worst_class_recall", "g_mean", "accuracy_disparity", "relative_accuracy")
_SHOTS: Final = ("many", "medium", "few")


def row_measures(methods: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Mean and deviation over seeds of shots, worst class, ranking, priors, losses and coverage.

    Args:
        methods: The row's entry in the metrics.json of each seed.

    Returns:
        Each number as `{"mean", "deviation"}`, null where no seed has it. None where an earlier
        version measured a seed: a mean over the other seeds would not be that of the row.
    """
    if any(not method.get("shots") for method in methods):
        return None

    def spread(*path: str) -> Spread:
        found = [value for method in methods if (value := _at(method, path)) is not None]
        mean, deviation = mean_and_deviation(np.array(found, dtype=np.float64))
        return {"mean": mean, "deviation": deviation}

    return {
        **{name: spread(name) for name in _SCALARS},
        "shots": {name: spread("shots", name) for name in _SHOTS},
        **{
            name: {scope: spread("ranking", scope, name) for scope in MACRO_KEYS}
            for name in ("auroc", "auprc", "prevalence")
        },
        "priors": {
            name: {key: spread("priors", name, key) for key in ("accuracy", "macro_f1")}
            for name in _prior_names(methods)
        },
        "nll": {scope: spread("scaling", "none", "nll", scope) for scope in MACRO_KEYS},
        "coverage": {scope: spread("coverage", "by_group", scope) for scope in MACRO_KEYS},
        "set_size": {scope: spread("coverage", "size_by_group", scope) for scope in MACRO_KEYS},
    }


def _prior_names(methods: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for method in methods for name in method.get("priors") or {}))


def _at(entry: Any, path: Sequence[str]) -> float | None:
    for key in path:
        entry = (entry or {}).get(key)
    return entry
