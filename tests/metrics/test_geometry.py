from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailora.counts import Groups
from tailora.errors import DataError
from tailora.metrics.geometry import cluster_purity, feature_geometry

GROUPS = Groups(head=(0, 1), middle=(2,), tail=(3, 4, 5))


def distance(a, b):
    return 1 - sum(a * b) / (sum(a * a) ** 0.5 * sum(b * b) ** 0.5)


def between(rows, labels, pairs):
    means = []
    for first, second in pairs:
        distances = [distance(a, b) for a in rows[labels == first] for b in rows[labels == second]]
        if distances:
            means.append(np.mean(distances))
    return np.mean(means) if means else np.nan


def within(rows, labels, classes):
    means = []
    for c in classes:
        distances = [distance(a, b) for a, b in combinations(rows[labels == c], 2)]
        if distances:
            means.append(np.mean(distances))
    return np.mean(means) if means else np.nan


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 25))
def test_distances_agree_with_a_loop_over_all_pairs_of_samples(seed, rows):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 6, rows)
    features, center = generator.normal(1, 1, (rows, 5)), generator.normal(1, 1, 5)
    result = feature_geometry(features, labels, GROUPS, center=center)
    moved = features - center
    head_tail = [(h, t) for h in GROUPS.head for t in GROUPS.tail]
    tail_tail = list(combinations(GROUPS.tail, 2))
    expected = (
        between(moved, labels, head_tail),
        between(moved, labels, tail_tail),
        within(moved, labels, GROUPS.tail),
    )
    found = (result.inter_head_tail, result.inter_tail_tail, result.intra_tail)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_opposite_classes_are_two_apart_and_a_tight_class_is_zero_wide():
    features = np.array([[1.0, 0], [2, 0], [-1, 0], [-3, 0]])
    groups = Groups(head=(0,), middle=(), tail=(1,))
    result = feature_geometry(features, [0, 0, 1, 1], groups, center=[0, 0])
    assert (result.inter_head_tail, result.intra_tail) == (2, 0)
    assert np.isnan(result.inter_tail_tail)


def test_the_center_is_taken_away_before_directions_are_compared():
    features = np.array([[101.0, 100], [100, 101]])
    groups = Groups(head=(0,), middle=(), tail=(1,))
    centred = feature_geometry(features, [0, 1], groups, center=[100, 100])
    raw = feature_geometry(features, [0, 1], groups, center=[0, 0])
    assert centred.inter_head_tail == pytest.approx(1)
    assert raw.inter_head_tail < 1e-3


def test_a_row_at_the_center_has_no_direction_and_is_left_out():
    groups = Groups(head=(0,), middle=(), tail=(1,))
    features = [[1.0, 0], [1, 1], [0, 1], [0, 3]]
    result = feature_geometry(features, [0, 1, 1, 1], groups, center=[1, 1])
    # from (1, 1): head points (0, -1); tail (-1, 0) and (-1, 2)/sqrt 5, the row (1, 1) is gone
    assert result.inter_head_tail == pytest.approx(1 - (0 - 2 / np.sqrt(5)) / 2)
    assert result.intra_tail == pytest.approx(1 - 1 / np.sqrt(5))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match=r"\(2, 3\), \(2,\) and \(2,\)"):
        feature_geometry(np.ones((2, 3)), [0, 1], GROUPS, center=[0, 0])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(3, 9)), min_size=1, max_size=50))
def test_purity_agrees_with_counting_the_majority_of_each_cluster(pairs):
    labels, clusters = zip(*pairs, strict=True)
    majority = 0
    for cluster in set(clusters):
        members = [c for c, k in pairs if k == cluster]
        majority += max(members.count(c) for c in set(members))
    assert cluster_purity(labels, clusters) == pytest.approx(majority / len(pairs))


def test_clusters_that_are_classes_are_pure_however_they_are_numbered():
    assert cluster_purity([0, 1, 1, 2], [7, 3, 3, 90]) == 1


def test_purity_needs_one_cluster_per_label():
    with pytest.raises(DataError, match="one cluster per label"):
        cluster_purity([0, 1], [0])
