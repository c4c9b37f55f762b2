import numpy as np
import pytest

from tailora.counts import ClassCounts
from tailora.metrics.feature_metrics import TrainedFeatures, collapse_of, shift_of
from tailora.metrics.frechet_distance import frechet_distance

COUNTS = ClassCounts(("a", "b", "c"), (64, 16, 4))
LABELS = np.repeat([0, 1, 2], COUNTS.values)


def test_a_balanced_simplex_is_full_collapse_to_the_balanced_target_only():
    corners = np.array([[1.0, 0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])
    found = collapse_of(TrainedFeatures(corners[LABELS], LABELS, corners), COUNTS)
    assert found.nc1 == pytest.approx(0, abs=1e-12)
    assert list(vars(found.balanced).values()) == pytest.approx([0.0] * 4, abs=1e-9)
    assert found.imbalanced.nc2_means > 0.3


def test_orthogonal_vectors_that_grow_with_their_class_are_the_imbalanced_target():
    # the minimum of the squared error under weak decay: |w|^2 ~ sqrt(n), |m|^2 ~ 1 / sqrt(n)
    root = np.array(COUNTS.values) ** 0.25
    trained = TrainedFeatures(np.diag(1 / root)[LABELS], LABELS, np.diag(root))
    found = collapse_of(trained, COUNTS)
    assert found.imbalanced.nc2_classifier == pytest.approx(0, abs=1e-3)
    assert found.imbalanced.nc2_means == pytest.approx(0, abs=1e-3)
    assert found.imbalanced.nc3_product == pytest.approx(0, abs=1e-3)
    assert found.balanced.nc2_classifier > 0.1


def test_no_collapse_is_measured_without_a_linear_head_or_a_class():
    rows = np.eye(3)[LABELS]
    assert collapse_of(TrainedFeatures(rows, LABELS), COUNTS) is None
    gone = ClassCounts(("a", "b", "c"), (64, 20, 0))
    assert collapse_of(TrainedFeatures(rows, LABELS % 2, np.eye(3)), gone) is None


def test_a_shift_along_a_main_axis_is_seen_in_units_of_the_variance():
    generator = np.random.default_rng(0)
    spread = np.array([3.0, 1.0, 0.1])
    train, test = (generator.normal(size=(n, 3)) * spread for n in (2000, 1500))
    test[:, 0] += 2
    found = shift_of(train, test, confidence=0.95, seed=0)
    assert found.axes == 3
    # all axes are kept, so it is the distance of the features themselves
    unit = train.var(axis=0).sum()
    assert found.distance == pytest.approx(frechet_distance(train, test) / unit)
    assert found.low < 4 / np.sum(spread**2) < found.high


def test_halves_of_one_set_show_no_shift_whatever_the_width_and_the_unit():
    rows = np.random.default_rng(1).normal(size=(400, 40))
    found = shift_of(rows[:200], rows[200:], confidence=0.95, seed=0)
    assert found.axes == 16
    assert found.low == 0
    scaled = shift_of(7 * rows[:200], 7 * rows[200:], confidence=0.95, seed=0)
    assert scaled.distance == pytest.approx(found.distance)


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_too_few_rows_say_nothing(rows):
    some = np.random.default_rng(0).normal(size=(rows, 4))
    assert shift_of(some, some, confidence=0.95, seed=0) is None


def test_constant_features_have_no_shift():
    assert shift_of(np.ones((50, 3)), np.ones((50, 3)), confidence=0.95, seed=0) is None
