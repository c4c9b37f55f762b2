import math

import numpy as np
import pytest

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, DataError
from tailora.losses.class_weights import class_weights, effective_number

COUNTS = ClassCounts(("ship", "plane", "helicopter"), (500, 50, 5))


def mean_one(values):
    return [value * len(values) / sum(values) for value in values]


def test_none_weighs_all_classes_alike():
    assert class_weights(COUNTS).tolist() == [1, 1, 1]


def test_inverse_weights_by_hand():
    expected = mean_one([1 / 500, 1 / 50, 1 / 5])
    assert class_weights(COUNTS, "inverse").tolist() == pytest.approx(expected, rel=1e-12)


def test_square_root_weights_by_hand():
    expected = mean_one([500**-0.5, 50**-0.5, 5**-0.5])
    assert class_weights(COUNTS, "square-root").tolist() == pytest.approx(expected, rel=1e-12)


def test_effective_number_weights_by_hand():
    """1 + beta + beta^2 + ... + beta^(n-1), summed term by term."""
    numbers = [sum(0.9999**i for i in range(n)) for n in COUNTS.values]
    expected = mean_one([1 / number for number in numbers])
    weights = class_weights(COUNTS, "effective-number")
    assert weights.tolist() == pytest.approx(expected, rel=1e-9)
    assert weights.tolist() == pytest.approx([0.028, 0.271, 2.70], abs=2e-3)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.99, 0.999999])
def test_effective_number_is_the_geometric_series(beta):
    expected = [math.fsum(beta**i for i in range(n)) for n in (1, 2, 40)]
    numbers = effective_number(np.array([1.0, 2.0, 40.0]), beta=beta)
    assert numbers.tolist() == pytest.approx(expected, rel=1e-9)


def test_effective_number_tends_to_the_count():
    assert effective_number(np.array([1e6]), beta=1 - 1e-12)[0] == pytest.approx(1e6, rel=1e-5)


def test_cap_limits_the_heaviest_over_the_lightest():
    weights = class_weights(COUNTS, "inverse", cap=20)
    assert weights.tolist() == pytest.approx(mean_one([1, 10, 20]), rel=1e-12)
    assert class_weights(COUNTS, "inverse", cap=1).tolist() == pytest.approx([1, 1, 1])
    assert class_weights(COUNTS, "inverse", cap=1000) == pytest.approx(
        class_weights(COUNTS, "inverse")
    )


def test_weights_by_hand_leave_other_classes_at_one():
    weights = class_weights(COUNTS, {"helicopter": 4, "ship": 0})
    assert weights.tolist() == pytest.approx(mean_one([0, 1, 4]))


def test_an_empty_class_may_be_weighed_by_hand_or_not_at_all():
    counts = ClassCounts(("ship", "plane"), (3, 0))
    assert class_weights(counts).tolist() == [1, 1]
    assert class_weights(counts, {"plane": 3}).tolist() == [0.5, 1.5]


@pytest.mark.parametrize("scheme", ["inverse", "square-root", "effective-number"])
def test_an_empty_class_is_named_where_its_count_divides(scheme):
    with pytest.raises(DataError, match="'plane'"):
        class_weights(ClassCounts(("ship", "plane"), (3, 0)), scheme)


@pytest.mark.parametrize(
    ("weights", "cap", "message"),
    [
        ("invers", None, "unknown class weights 'invers'; did you mean 'inverse'"),
        ({"plan": 2.0}, None, "unknown class in weights 'plan'; did you mean 'plane'"),
        ({"plane": -1.0}, None, "weight of class 'plane' must be finite and at least 0, got -1.0"),
        ({"plane": math.nan}, None, "must be finite"),
        ({"plane": 0, "ship": 0, "helicopter": 0}, None, "every class has weight 0"),
        ("none", 5, "cap=5 has no effect with weights 'none'"),
        ({"plane": 2.0}, 5, "cap=5 has no effect with manual weights"),
        ("inverse", 0.5, "cap must be at least 1"),
        ("inverse", math.nan, "cap must be at least 1"),
    ],
)
def test_weights_that_cannot_act_are_refused(weights, cap, message):
    with pytest.raises(ConfigError, match=message):
        class_weights(COUNTS, weights, cap=cap)


@pytest.mark.parametrize("beta", [-0.1, 1.0, math.nan])
def test_beta_out_of_range_is_refused(beta):
    with pytest.raises(ConfigError, match=r"beta must lie in \[0, 1\)"):
        effective_number(np.ones(2), beta=beta)
