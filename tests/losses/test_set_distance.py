"""Distances of two sets of masks: by hand, by scipy, by exact assignment, by published values."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.stats import energy_distance as scipy_energy

from tailora.losses.set_distance import (
    SET_DISTANCES,
    energy_distance,
    frechet_distance,
    sinkhorn_divergence,
)
from tailora.metrics.frechet_distance import frechet_distance as of_features


def points(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape))


def test_energy_distance_on_a_line_is_the_square_of_scipys():
    a, b = points(7, 1), points(4, 1, seed=1) + 0.5
    expected = scipy_energy(a[:, 0], b[:, 0]) ** 2
    assert energy_distance(a, b).item() == pytest.approx(expected)


def test_fair_energy_distance_leaves_a_point_and_itself_out():
    a, b = points(3, 5), points(4, 5, seed=1)
    pairs = cdist(a, a)[np.triu_indices(3, 1)].mean()
    expected = 2 * cdist(a, b).mean() - pairs - cdist(b, b).mean()
    assert energy_distance(a, b, fair=True).item() == pytest.approx(expected)
    assert SET_DISTANCES["energy"](a, b).item() == pytest.approx(expected)


def test_two_draws_follow_the_raters_where_the_fair_distance_is_smallest():
    """Of four raters one is at 1, and draws with chance p: with draws to themselves, never."""
    ends, raters = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [0.0], [0.0], [1.0]])

    def expected(p, fair):
        chances = {(0, 0): (1 - p) ** 2, (0, 1): 2 * p * (1 - p), (1, 1): p**2}
        return sum(
            chance * energy_distance(ends[list(pair)], raters, fair=fair).item()
            for pair, chance in chances.items()
        )

    shares = np.linspace(0, 1, 101)
    assert shares[np.argmin([expected(p, True) for p in shares])] == pytest.approx(0.25)
    assert shares[np.argmin([expected(p, False) for p in shares])] == 0


def test_transport_of_distant_points_is_that_of_the_best_assignment():
    a, b = points(6, 9) * 3, points(6, 9, seed=1) * 3
    cost = cdist(a, b, "sqeuclidean") / 2
    expected = cost[linear_sum_assignment(cost)].mean()
    # far points are transported to themselves for nothing but the entropy, which is the same
    assert sinkhorn_divergence(a, b).item() == pytest.approx(expected, rel=1e-4)


def test_frechet_distance_has_the_published_value_and_that_of_whole_covariances():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 5))
    y = rng.normal(size=(8, 5)) + 0.5
    found = frechet_distance(torch.tensor(x), torch.tensor(y)).item()
    assert found == pytest.approx(6.854267, abs=1e-6)
    assert found == pytest.approx(of_features(x, y))


@pytest.mark.parametrize("distance", [energy_distance, sinkhorn_divergence, frechet_distance])
class TestAnyDistance:
    def test_a_set_has_none_to_itself_in_any_order(self, distance):
        a = points(5, 4)
        assert distance(a, a[[3, 1, 0, 4, 2]]).item() == pytest.approx(0, abs=1e-6)

    def test_is_symmetric_and_grows_apart(self, distance):
        a, b = points(5, 4) / 4, points(3, 4, seed=1) / 4
        assert distance(a, b).item() == pytest.approx(distance(b, a).item(), rel=1e-4)
        assert 0 < distance(a, b) < distance(a, b + 1)

    def test_measures_each_pair_of_a_batch_alone(self, distance):
        a, b = points(2, 5, 4), points(2, 3, 4, seed=1)
        both = [distance(one, other).item() for one, other in zip(a, b, strict=True)]
        np.testing.assert_allclose(distance(a, b), both, rtol=1e-6)

    def test_has_the_gradient_of_finite_differences(self, distance):
        a, b = points(3, 2) / 4, points(4, 2, seed=1) / 4
        torch.autograd.gradcheck(lambda x: distance(x, b), a.requires_grad_(), atol=1e-4)

    def test_of_one_point_and_one_has_finite_gradients(self, distance):
        a = torch.zeros(1, 3, requires_grad=True)
        distance(a, torch.zeros(1, 3)).backward()
        assert torch.isfinite(a.grad).all()
