"""The rule by hand, and by trying every pair of classes."""

import numpy as np
import pytest

from tailora.errors import ConfigError
from tailora.metrics.change_rule import check_prior, compare_shares, read_transitions
from tailora.transitions import parse_transitions


def draw(n=400, classes=4, seed=0):
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.15), (2, n)).astype(np.float32)


@pytest.mark.parametrize("prior", [0.5, 0.1])
def test_change_is_what_bayes_says_of_two_independent_dates(prior):
    """Every pair of classes is equally likely within change and within no change."""
    a, b = draw()
    found = compare_shares(a, b, prior=prior)
    classes = a.shape[1]
    for i in range(len(a)):
        joint = np.outer(a[i], b[i]).astype(float)
        weights = np.full((classes, classes), prior / (classes * (classes - 1)))
        np.fill_diagonal(weights, (1 - prior) / classes)
        posterior = joint * weights / (joint * weights).sum()
        change = 1 - np.trace(posterior)
        assert found.changed[i] == (change > 0.5)
        assert found.confidence[i] == pytest.approx(max(change, 1 - change), abs=1e-6)
        allowed = joint * (1 - np.eye(classes)) if found.changed[i] else joint * np.eye(classes)
        best = np.unravel_index(allowed.argmax(), allowed.shape)
        assert (found.before[i], found.after[i]) == (best[0] + 1, best[1] + 1)
    assert 0.1 < found.changed.mean() < 0.95


def test_swapping_the_dates_swaps_land_cover_to_the_bit():
    a, b = draw()
    one, two = compare_shares(a, b), compare_shares(b, a)
    np.testing.assert_array_equal(one.changed, two.changed)
    np.testing.assert_array_equal(one.before, two.after)
    np.testing.assert_array_equal(one.after, two.before)
    np.testing.assert_array_equal(one.confidence, two.confidence)


def test_an_identical_pair_gives_no_change_however_unsure():
    a, _ = draw()
    a = np.concatenate([a, np.full((1, 4), 0.25, np.float32), [[0.4, 0.3, 0.3, 0]]])
    assert not compare_shares(a, a).changed.any()


def test_a_smaller_prior_finds_less():
    a, b = draw()
    found = [compare_shares(a, b, prior=prior).changed.sum() for prior in (0.5, 0.2, 0.01)]
    assert found[0] > found[1] > found[2] > 0
    for wrong in (0, 0.51, float("nan")):
        with pytest.raises(ConfigError, match="probability of change in"):
            check_prior(wrong)


def test_transitions_are_read_from_the_most_likely():
    shares = np.array([[0.6, 0.3, 0.1, 0.0], [0.1, 0.2, 0.4, 0.3], [0.1, 0.2, 0.2, 0.5]])
    classes = parse_transitions(["no change", "a → b", "b → a", "b → b"])
    found = read_transitions(shares, classes)
    assert found.changed.tolist() == [False, True, False]
    assert (found.before.tolist(), found.after.tolist()) == ([0, 2, 2], [0, 1, 2])
    np.testing.assert_allclose(found.confidence, [0.6, 0.6, 0.6], rtol=1e-6)
