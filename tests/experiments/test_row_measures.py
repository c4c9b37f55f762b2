from dataclasses import replace

import numpy as np
import pytest

from tailora.experiments.record import row_measures
from tailora.metrics import (
    Coverage,
    GroupScores,
    Honesty,
    MethodMetrics,
    ShiftedScores,
    Spread,
)

SCOPES = ("all", "head", "middle", "tail")


def by_group(value):
    return dict.fromkeys(SCOPES, value)


def old(level):
    """What version 0.1 measured."""
    return MethodMetrics(
        method="lora", macro_f1=by_group(level), macro_f1_interval=by_group(None), accuracy=level,
        balanced_accuracy=level, ece=0.1, ece_by_group=by_group(0.1), per_class=(), confusion=(),
        geometry={}, trained_parameters=1, seconds=1.0, peak_memory_mb=1.0,
    )  # fmt: skip


def entry(level, **changes):
    measured = {
        "worst_class_recall": level,
        "g_mean": level / 2,
        "accuracy_disparity": None,
        "shots": {"all": level, "many": level, "medium": None, "few": level},
        "ranking": by_group(GroupScores(level, level, 0.1)),
        "priors": {"uniform": ShiftedScores(level, level, 9)},
        "scaling": {"none": Honesty(by_group(None), by_group(level))},
        "coverage": Coverage(0.9, by_group(level), by_group(10 * level), (), (), (), 0.0),
    }
    return replace(old(level), **(measured | changes))


def test_means_and_deviations_are_over_seeds():
    levels = [0.2, 0.4, 0.9]
    found = row_measures([entry(level) for level in levels])
    wanted = pytest.approx((np.mean(levels), np.std(levels, ddof=1)))
    for spread in (
        found.worst_class_recall, found.shots["few"], found.auroc["tail"], found.auprc["all"],
        found.priors["uniform"].macro_f1, found.nll["tail"], found.coverage["tail"],
    ):  # fmt: skip
        assert (spread.mean, spread.deviation) == wanted
    assert found.set_size["tail"].mean == pytest.approx(5.0)


@pytest.mark.parametrize("name", ["accuracy_disparity", "relative_accuracy"])
def test_what_no_seed_has_is_null_and_not_zero(name):
    found = row_measures([entry(0.2), entry(0.4)])
    assert getattr(found, name) == found.shots["medium"] == Spread(None, None)


def test_one_seed_has_no_deviation():
    assert row_measures([entry(0.2)]).g_mean == Spread(0.1, None)


def test_without_validation_there_is_no_coverage():
    found = row_measures([entry(0.2, coverage=None, scaling=None)])
    assert found.coverage["all"].mean is found.nll["all"].mean is None


def test_a_seed_of_an_earlier_version_leaves_the_row_blank():
    assert row_measures([entry(0.2), old(0.5)]) is None
