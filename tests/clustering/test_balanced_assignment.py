import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import linear_sum_assignment, linprog

from tailora.clustering import balanced_assignment as module
from tailora.clustering.balanced_assignment import BalancedAssignment, balanced_assignment
from tailora.clustering.centered_rows import CenteredRows
from tailora.clustering.prices import improve_prices
from tailora.clustering.transport import Limits, Transport
from tailora.errors import ConfigError

SHARES = (0.0, 0.1, 0.5, 0.9, 1.0)  # of the largest minimum there can be, N // K


def squared_distances(X, centers):
    return np.array([[sum((x - c) ** 2) for c in centers] for x in X.astype(np.float64)])


def least_cost_by_linear_program(costs, minimum_size):
    """The transportation problem itself; its vertices are integral."""
    samples, clusters = costs.shape
    solution = linprog(
        costs.ravel(),
        A_eq=sparse.kron(sparse.eye(samples), np.ones((1, clusters))),
        b_eq=np.ones(samples),
        A_ub=-sparse.kron(np.ones((1, samples)), sparse.eye(clusters)),
        b_ub=np.full(clusters, -minimum_size),
        method="highs",
    )
    return solution.fun


def least_cost_by_places(costs, minimum_size):
    """One column for each place that must be filled, and free places at each sample's best cost."""
    samples, clusters = costs.shape
    free = samples - clusters * minimum_size
    places = [np.repeat(costs, minimum_size, axis=1)]
    places += [np.repeat(costs.min(axis=1, keepdims=True), free, axis=1)]
    table = np.concatenate(places, axis=1)
    return table[linear_sum_assignment(table)].sum()


def require_optimal(X, centers, labels, minimum_size, least_cost=least_cost_by_linear_program):
    costs = squared_distances(X, centers)
    assert np.bincount(labels, minlength=len(centers)).min() >= minimum_size
    cost = costs[np.arange(len(X)), labels].sum()
    assert cost == pytest.approx(least_cost(costs, minimum_size), rel=1e-6, abs=1e-9)


@st.composite
def problems(draw):
    """Samples and three sets of centres; on a coarse grid half of the time, so that many tie."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    clusters, features = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    samples = draw(st.integers(clusters, 40))
    X = rng.normal(size=(samples, features))
    if draw(st.booleans()):
        X = np.round(X)
    centers = rng.choice(X, size=clusters) * draw(st.sampled_from([0.1, 1.0, 3.0]))
    steps = rng.normal(size=(2, clusters, features)) * draw(st.sampled_from([0.0, 0.01, 1.0]))
    minimum_size = int(draw(st.sampled_from(SHARES)) * (samples // clusters))
    return X, [centers, centers + steps[0], centers + steps[0] + steps[1]], minimum_size


@settings(deadline=None, max_examples=60)
@given(problems())
def test_assignment_is_an_optimum_of_the_linear_program(problem):
    X, path, minimum_size = problem
    labels = balanced_assignment(X, path[0], minimum_size=minimum_size)
    require_optimal(X, path[0], labels, minimum_size)


@settings(deadline=None, max_examples=40)
@given(problems())
def test_assignment_stays_optimal_while_the_centres_move(problem):
    X, path, minimum_size = problem
    assignment = BalancedAssignment(
        CenteredRows(X), clusters=len(path[0]), minimum_size=minimum_size
    )
    for centers in [*path, path[0]]:
        assignment.update(centers)
        require_optimal(X, centers, assignment.labels, minimum_size)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("minimum_size", [12, 60, 120])
def test_assignment_far_from_the_nearest_centres_is_optimal(dtype, minimum_size):
    rng = np.random.default_rng(5)
    X = np.exp(rng.normal(size=(480, 3))).astype(dtype)  # nearly all near one centre
    X -= X.mean(axis=0)
    centers = rng.choice(X, size=4).astype(np.float64) * 4
    assignment = BalancedAssignment(CenteredRows(X), clusters=4, minimum_size=minimum_size)
    for step in (0.0, 1e-3, 0.3):
        assignment.update(centers + step)
        require_optimal(X, centers + step, assignment.labels, minimum_size, least_cost_by_places)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("step", [1e-3, 3e-2, 1.0])
def test_assignment_stays_optimal_on_a_walk_among_many_samples(step, share):
    rng = np.random.default_rng(6)
    X = rng.normal(size=(400, 2)) ** 3
    centers = rng.choice(X, size=5)
    minimum_size = int(share * 80)
    assignment = BalancedAssignment(CenteredRows(X), clusters=5, minimum_size=minimum_size)
    for _ in range(8):
        assignment.update(centers)
        require_optimal(X, centers, assignment.labels, minimum_size, least_cost_by_places)
        centers = centers + step * rng.normal(size=centers.shape)


@pytest.mark.parametrize(
    ("share", "dtype", "fewest"), [(0.7, "float32", 1), (0.7, "float64", 64), (0.8, "float64", 1)]
)
def test_prices_prove_the_optimum_where_a_subsample_says_who_is_concerned(
    monkeypatch, share, dtype, fewest
):
    """By the dual: all are where cost less price is least, prices only where a minimum binds."""
    monkeypatch.setattr(module, "FEWEST_WANTED", fewest)
    rng = np.random.default_rng(9)
    X = (rng.normal(size=(13_000, 2)) ** 3).astype(dtype)
    centers = rng.choice(X, size=12).astype(np.float64)
    minimum_size = int(share * len(X) / 12)
    assignment = BalancedAssignment(CenteredRows(X), clusters=12, minimum_size=minimum_size)
    priced = 0
    for _ in range(4):
        assignment.update(centers)
        prices, labels = assignment._prices, assignment.labels
        reduced = ((X[:, None].astype(np.float64) - centers) ** 2).sum(axis=2) - prices
        lost = reduced[np.arange(len(X)), labels] - reduced.min(axis=1)
        assert lost.max() <= assignment._rounding()
        sizes = np.bincount(labels, minlength=12)
        assert sizes.min() >= minimum_size
        assert (sizes[prices > 0] == minimum_size).all()
        priced += np.count_nonzero(prices)
        centers = centers + 0.2 * rng.normal(size=centers.shape)
    assert priced > 4


@pytest.mark.parametrize("share", SHARES)
def test_margin_is_never_more_than_the_distance_to_the_second_best_cluster(share):
    rng = np.random.default_rng(8)
    X = rng.normal(size=(1000, 2)) ** 3
    centers = rng.choice(X, size=4)
    assignment = BalancedAssignment(CenteredRows(X), clusters=4, minimum_size=int(share * 250))
    for _ in range(8):
        assignment.update(centers)
        reduced = squared_distances(X, centers) - assignment._prices
        own = reduced[np.arange(len(X)), assignment.labels]
        reduced[np.arange(len(X)), assignment.labels] = np.inf
        assert (assignment._margins <= reduced.min(axis=1) - own + 1e-9).all()
        centers = centers + 0.03 * rng.normal(size=centers.shape)


def test_every_copy_of_one_sample_is_dealt_out():
    X = np.full((100, 2), 0.25)
    labels = balanced_assignment(X, np.full((7, 2), 0.25), minimum_size=14)
    assert sorted(np.bincount(labels)) == [14, 14, 14, 14, 14, 14, 16]


def test_copies_go_to_the_clusters_that_lack_samples():
    X = np.repeat([[0.0], [1.0]], [90, 10], axis=0)
    labels = balanced_assignment(X, np.array([[0.0], [1.0], [5.0]]), minimum_size=20)
    # all from 1 go to 5, with half of what 5 needs still to come from 0, and 0 fills 1 as well
    expected = 10 * 16 + 10 * 25 + 20 * 1
    assert ((X - np.array([[0.0], [1.0], [5.0]])[labels]) ** 2).sum() == expected
    assert np.bincount(labels).tolist() == [60, 20, 20]


def test_without_a_minimum_each_sample_has_its_nearest_centre_and_ties_the_first():
    X = np.array([[0.0], [1.0], [2.0], [3.0]])
    labels = balanced_assignment(X, np.array([[3.0], [1.0], [1.0]]), minimum_size=0)
    assert labels.tolist() == [1, 1, 0, 0]


def test_too_few_samples_for_the_minimum_are_refused():
    with pytest.raises(ConfigError, match="need more than the 5 samples; lower minimum_size to 2"):
        balanced_assignment(np.zeros((5, 1)), np.zeros((2, 1)), minimum_size=3)


@pytest.mark.parametrize(
    ("reach", "slack", "repaired"),
    [
        ((np.inf, 1.9), np.inf, False),
        ((np.inf, np.inf), 1.9, False),
        ((0.0, 2.0), np.inf, True),
        ((np.inf, np.inf), 2.0, True),
    ],
)
def test_repair_stops_where_a_fixed_sample_would_have_to_move(reach, slack, repaired):
    costs = np.array([[0.0, 5.0], [0.0, 2.0]])
    transport = Transport(costs, fixed=np.array([3, 0]), prices=np.zeros(2), minimum_size=1)
    assert transport.repair(Limits(np.zeros(2), np.array(reach), slack)) is repaired
    assert not repaired or transport.labels.tolist() == [0, 1]


def imbalance(costs, prices, minimum_size):
    """How far clusters that have a price or lack samples are from the minimum, in samples."""
    sizes = np.bincount((costs - prices).argmin(axis=1), minlength=len(prices))
    return sum(
        abs(size - minimum_size)
        for size, price in zip(sizes, prices, strict=True)
        if price > 0 or size < minimum_size
    )


@settings(deadline=None, max_examples=40)
@given(problems())
def test_improved_prices_bring_sizes_no_farther_from_the_minimum(problem):
    X, path, minimum_size = problem
    costs = squared_distances(X, path[0])
    none = np.zeros(costs.shape[1])
    fixed = none.astype(np.intp)
    prices = improve_prices(costs, fixed=fixed, prices=none, minimum_size=minimum_size)
    assert prices.min() >= 0
    assert imbalance(costs, prices, minimum_size) <= imbalance(costs, none, minimum_size)


@pytest.mark.parametrize("minimum_size", [100, 300, 500])
def test_improved_prices_nearly_fill_clusters_of_many_samples(minimum_size):
    rng = np.random.default_rng(7)
    X = rng.normal(size=(3000, 2))
    costs = squared_distances(X, rng.normal(size=(6, 2)) * np.linspace(0.5, 3, 6)[:, None])
    none = np.zeros(6)
    fixed = none.astype(np.intp)
    prices = improve_prices(costs, fixed=fixed, prices=none, minimum_size=minimum_size)
    before = imbalance(costs, none, minimum_size)
    assert before > 50
    assert imbalance(costs, prices, minimum_size) < 0.1 * before
