"""Strategies of selection, against distances and gradients written out."""

import numpy as np
import pytest

from tailora.curation.strategies import STRATEGIES, Candidates
from tailora.curation.strategies.typical import typicality


@pytest.fixture(scope="module")
def pool():
    """Four clusters of 60, 30, 12 and 8 in six dimensions, with probabilities."""
    rng = np.random.default_rng(0)
    true = np.repeat(np.arange(4), [60, 30, 12, 8])
    centers = 6 * np.eye(4, 6)
    features = (centers[true] + rng.normal(size=(len(true), 6))).astype(np.float32)
    logits = -((features[:, None] - centers) ** 2).sum(axis=2) / 8
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Candidates(features, p, np.array([60.0, 30, 12, 8])), true


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("budget", [1, 17, 110])
def test_a_choice_has_different_rows_and_is_the_same_again(name, budget, pool):
    candidates, _ = pool
    rows, scores = STRATEGIES[name].choose(candidates, budget)
    assert len(rows) == len(scores) == budget
    assert len(set(rows.tolist())) == budget
    assert set(rows.tolist()) <= set(range(110))
    np.testing.assert_array_equal(rows, STRATEGIES[name].choose(candidates, budget)[0])


@pytest.mark.parametrize("name", STRATEGIES)
def test_equal_images_can_be_chosen_from(name):
    equal = Candidates(np.ones((9, 3), np.float32), np.full((9, 2), 0.5), np.ones(2))
    rows, _ = STRATEGIES[name].choose(equal, 9)
    assert sorted(rows.tolist()) == list(range(9))


def test_typicality_is_one_over_the_mean_distance():
    points = np.array([[0.0, 0], [1, 0], [0, 1], [5, 5]])
    by_hand = []
    for i, one in enumerate(points):
        near = np.sort(np.linalg.norm(np.delete(points, i, 0) - one, axis=1))[:2]
        by_hand.append(1 / near.mean())
    np.testing.assert_allclose(typicality(points, neighbours=2), by_hand)


def test_typical_takes_the_middle_of_each_cluster(pool):
    candidates, true = pool
    rows, scores = STRATEGIES["typical"].choose(candidates, 4)
    assert sorted(true[rows].tolist()) == [0, 1, 2, 3]
    assert true[rows].tolist() == [0, 1, 2, 3]  # the largest first
    for row, score in zip(rows, scores, strict=True):
        own = np.flatnonzero(true == true[row])
        apart = np.linalg.norm(candidates.features[own][:, None] - candidates.features[own], axis=2)
        mean = np.sort(apart, axis=1)[:, 1:21].mean(axis=1)
        assert row == own[mean.argmin()]
        assert score == pytest.approx(1 / mean.min(), rel=1e-5)


def test_diverse_takes_the_farthest_from_all_before(pool):
    candidates, _ = pool
    x = candidates.features.astype(float)
    rows, scores = STRATEGIES["diverse"].choose(candidates, 12)
    assert rows[0] == np.linalg.norm(x - x.mean(axis=0), axis=1).argmin()
    for k in range(1, 12):
        nearest = np.linalg.norm(x[:, None] - x[rows[:k]], axis=2).min(axis=1)
        assert rows[k] == nearest.argmax()
        assert scores[k] == pytest.approx(nearest.max())


def test_bands_give_small_clusters_more_than_their_share(pool):
    candidates, true = pool
    shares = []
    for seed in range(10):
        again = Candidates(candidates.features, seed=seed)
        rows, _ = STRATEGIES["bands"].choose(again, 30)
        shares.append((true[rows] >= 2).mean())
    assert np.mean(shares) > (true >= 2).mean() * 1.2


def test_margins_take_turns_from_the_rarest_class_on(pool):
    candidates, _ = pool
    p = candidates.probabilities
    rows, scores = STRATEGIES["margin"].choose(candidates, 8)
    two = np.sort(p, axis=1)[:, ::-1]
    margin = two[:, 0] - two[:, 1]
    np.testing.assert_allclose(scores, margin[rows])
    taken = []
    for turn in range(8):
        wanted = [3, 2, 1, 0][turn % 4]
        among = [i for i in range(110) if wanted in np.argsort(-p[i])[:2] and i not in taken]
        taken.append(min(among, key=lambda i: margin[i]))
    assert rows.tolist() == taken


def test_badge_is_k_means_plus_plus_on_gradients_written_out(pool):
    candidates, _ = pool
    error = candidates.probabilities - np.eye(4)[candidates.probabilities.argmax(axis=1)]
    gradients = (error[:, :, None] * candidates.features[:, None, :]).reshape(110, -1)
    rows, scores = STRATEGIES["badge"].choose(candidates, 10)
    assert rows[0] == np.linalg.norm(gradients, axis=1).argmax()
    drawn = np.random.default_rng(0)
    for k in range(1, 10):
        nearest = ((gradients[:, None] - gradients[rows[:k]]) ** 2).sum(axis=2).min(axis=1)
        assert scores[k] == pytest.approx(nearest[rows[k]], rel=1e-6)
        assert rows[k] == drawn.choice(110, p=nearest / nearest.sum())


def test_objects_spread_the_budget_and_leave_out_what_is_covered():
    at = np.array([0.0, 0.1, 0.2, 10, 10.1, 10.2, 20, 20.1, 20.2, 30, 30.1, 30.2])
    p = np.zeros((12, 3))
    p[6:, 0], p[:6, 1] = 1, 1
    p[1] = 0.0, 0.6, 0.4  # the only proposal of class 2
    candidates = Candidates(at[:, None].astype(np.float32), p, np.ones(3))
    rows, scores = STRATEGIES["objects"].choose(candidates, 5)
    # class 2 has but one image; two of the four left go to class 0: the middle of each group; of
    # the two groups of class 1 one is covered; what is left goes round again
    assert rows[0] == 1
    assert sorted(rows[1:3].tolist()) == [7, 10]
    assert rows[3] == 4
    assert rows[4] in {6, 8, 9, 11}
    np.testing.assert_allclose(scores, [0.4, 1, 1, 1, 1])


def test_objects_find_more_of_rare_classes_than_a_random_choice():
    """A pool with classes by Zipf's law, features with noise and every tenth proposal wrong."""
    rng = np.random.default_rng(0)
    sizes = np.array([1000, 500, 250, 120, 60, 30, 20, 20])
    true = np.repeat(np.arange(8), sizes)
    features = (3 * rng.normal(size=(8, 16))[true] + rng.normal(size=(2000, 16))).astype(np.float32)
    proposed = np.where(rng.random(2000) < 0.1, rng.integers(0, 8, 2000), true)
    p = np.full((2000, 8), 0.02)
    p[np.arange(2000), proposed] = 0.86
    rows, _ = STRATEGIES["objects"].choose(Candidates(features, p, sizes.astype(float)), 100)
    found = np.bincount(true[rows], minlength=8)
    assert (found[5:] >= 2 * 100 * sizes[5:] / 2000).all()
