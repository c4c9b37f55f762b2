"""The two best clusters of each sample, against a sorted table."""

import numpy as np
import pytest

from tailora.clustering import centered_rows
from tailora.clustering.prices import two_best


@pytest.mark.parametrize("whole", [True, False], ids=["whole numbers, many ties", "no ties"])
@pytest.mark.parametrize("clusters", [2, 5, 63, 64, 300])
def test_the_two_best_are_those_of_the_sorted_table(monkeypatch, clusters, whole):
    monkeypatch.setattr(centered_rows, "NUMBERS_AT_ONCE", 40 * clusters)  # several blocks
    rng = np.random.default_rng(clusters)
    costs, prices = rng.normal(size=(210, clusters)), rng.random(clusters)
    if whole:
        costs, prices = np.round(2 * costs), np.round(3 * prices)
    before = costs.copy()
    first, second, gaps = two_best(costs, prices)
    order = np.argsort(costs - prices, axis=1, kind="stable")  # of equals the first
    assert np.array_equal(first, order[:, 0])
    assert np.array_equal(second, order[:, 1])
    ordered = np.sort(costs - prices, axis=1)
    np.testing.assert_allclose(gaps, ordered[:, 1] - ordered[:, 0], rtol=1e-12, atol=1e-12)
    assert np.array_equal(costs, before)


@pytest.mark.parametrize("samples", [0, 3])
def test_one_cluster_has_no_second(samples):
    first, _, gaps = two_best(np.ones((samples, 1)), np.zeros(1))
    assert first.tolist() == [0] * samples
    assert np.isinf(gaps).all()
