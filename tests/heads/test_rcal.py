"""RCAL's Gaussians against loops over its formulas, and the head that learns samples of them."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from tailora.counts import ClassCounts, Groups, make_groups
from tailora.errors import ConfigError
from tailora.heads.probe import ProbeData, as_logits
from tailora.heads.probes import find_probe
from tailora.heads.rcal import class_gaussians, with_virtual

GROUPS = Groups(head=(0, 1, 2), middle=(3,), tail=(4,))
SIZES = (15, 12, 18, 9, 4)  # too few for outliers to be looked for


@pytest.fixture(scope="module")
def small():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), SIZES)
    centres = rng.normal(size=(5, 4))
    return (centres[labels] + rng.normal(size=(len(labels), 4))).astype("f"), labels


def test_a_tail_class_borrows_from_the_nearest_head_classes(small):
    features, labels = small
    of = [features[labels == c].astype(float) for c in range(5)]
    means, spread = [x.mean(0) for x in of], [np.cov(x.T, bias=True) for x in of]
    apart = [np.linalg.norm(means[c] - means[4]) ** 2 for c in range(3)]
    near = sorted(range(3), key=apart.__getitem__)[:2]
    weights = [SIZES[c] * np.exp(-apart[c] / np.median(apart)) for c in near]
    mean, covariance = 0.4 * means[4], 0.4 * spread[4]
    for c, weight in zip(near, weights, strict=True):
        mean = mean + 0.6 * weight / sum(weights) * means[c]
        covariance = covariance + 0.6 * weight / sum(weights) * spread[c]
    found = class_gaussians(features, labels, GROUPS, neighbours=2, gamma=0.6)
    np.testing.assert_allclose(found[4].mean, mean)
    ridge = 1e-3 * np.trace(covariance) / 4
    np.testing.assert_allclose(found[4].covariance(), covariance + ridge * np.eye(4))
    for c in range(4):  # the others are as they are
        np.testing.assert_allclose(found[c].mean, means[c])
        ridge = 1e-3 * np.trace(spread[c]) / 4
        np.testing.assert_allclose(found[c].covariance(), spread[c] + ridge * np.eye(4))


def test_samples_have_the_mean_and_covariance_of_the_gaussian(small):
    one = class_gaussians(*small, GROUPS)[4]
    drawn = one.sample(100_000, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(0), one.mean, atol=0.02)
    np.testing.assert_allclose(np.cov(drawn.T), one.covariance(), atol=0.03)


def test_scattered_wrong_labels_hardly_move_a_mean():
    rng = np.random.default_rng(0)
    clean, wrong = rng.normal(size=(200, 16)), 2 + 3 * rng.normal(size=(20, 16))
    rows, labels = np.concatenate([clean, wrong]), np.zeros(220, dtype=int)
    found = class_gaussians(rows, labels, Groups((0,), (), ()))[0].mean
    plain, true = rows.mean(0), clean.mean(0)
    assert np.linalg.norm(found - true) < 0.5 * np.linalg.norm(plain - true)


def test_a_mean_of_five_rows_is_nearer_the_truth_with_head_classes_beside_it():
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(20):
        labels = np.repeat(np.arange(4), [200, 200, 200, 5])
        centres = np.zeros((4, 16))
        centres[:3] = 0.1 * rng.normal(size=(3, 16))
        features = centres[labels] + rng.normal(size=(605, 16))
        both = [
            class_gaussians(features, labels, Groups((0, 1, 2), (), (3,)), gamma=gamma)[3].mean
            for gamma in (0.0, 0.7)
        ]
        errors.append([(mean**2).sum() for mean in both])
    alone, borrowed = np.mean(errors, axis=0)
    assert borrowed < 0.3 * alone


@pytest.fixture(scope="module")
def data(small):
    features, labels = small
    counts = ClassCounts.from_labels(labels, names=tuple("abcdef"))  # none of the last
    return ProbeData(
        features, labels, features, labels, counts, GROUPS,
        lambda y, p: float(f1_score(y, p, average="macro", zero_division=0)), l2=(0.1,),
    )  # fmt: skip


def test_every_class_with_rows_is_filled_up_to_the_largest(data, monkeypatch):
    filled = with_virtual(data)
    assert filled.counts.values == (18, 18, 18, 18, 18, 0)
    np.testing.assert_array_equal(filled.features[: sum(SIZES)], data.features)
    monkeypatch.setattr("tailora.heads.rcal.MOST", 5)
    assert with_virtual(data).counts.values == (18, 17, 18, 14, 9, 0)


def test_the_head_is_that_of_cross_entropy_on_balanced_rows(small):
    features, labels = small
    counts = ClassCounts.from_labels(labels, names=tuple("abcde"))
    one = ProbeData(
        features, labels, features, labels, counts, make_groups(counts), lambda *_: 0.0, l2=(0.1,)
    )
    mean, spread = features.mean(0, dtype=float), features.std(0, dtype=float)
    filled = with_virtual(replace(one, features=((features - mean) / spread).astype("f")))
    centre, scale = filled.features.mean(0), filled.features.std(0)
    known = LogisticRegression(C=1 / (0.1 * len(filled.labels)), tol=1e-9, max_iter=5000)
    known.fit((filled.features - centre) / scale, filled.labels)
    expected = known.predict_log_proba(((features - mean) / spread - centre) / scale)
    found = as_logits(find_probe("rcal").fit(one))(features)
    found = found - np.log(np.exp(found).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found, expected, atol=1e-2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gamma": 1.1}, "gamma of rcal must be a number in .0, 1., got 1.1"),
        ({"gamma": [0.5, "x"]}, "gamma of rcal must be a number in .0, 1., got 'x'"),
        ({"neighbours": 0}, "neighbours of rcal must be a whole number of at least 1, got 0"),
        ({"neighbours": 2.0}, "neighbours of rcal must be a whole number of at least 1, got 2.0"),
        ({"q": 3}, "probe 'rcal' has no option 'q'; it has neighbours, gamma"),
    ],
)
def test_what_does_not_fit_is_refused(options, said, data):
    with pytest.raises(ConfigError, match=said):
        find_probe("rcal").check(options, data.counts)
