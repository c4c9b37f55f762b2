import numpy as np
import pytest
from scipy.optimize import minimize

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, DataError
from tailora.metrics.neural_collapse import (
    imbalanced_targets,
    neural_collapse,
    orthogonal_frame,
    simplex_etf,
)

COUNTS = ClassCounts(("a", "b", "c", "d"), (200, 100, 50, 6))
DECAYS = {"weight_decay": 0.02, "feature_decay": 0.001}


def noisy_classes(seed, *, sizes=(9, 6, 4), width=5, offset=0.0):
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    centres = generator.normal(0, 3, (len(sizes), width)) + offset
    weight = generator.normal(size=(len(sizes), width))
    return centres[labels] + generator.normal(size=(len(labels), width)), labels, weight


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_nc1_agrees_with_the_pseudo_inverse(offset):
    features, labels, weight = noisy_classes(0, offset=offset)
    means = np.stack([features[labels == c].mean(axis=0) for c in range(3)])
    central = means - means.mean(axis=0)
    within = sum(np.cov(features[labels == c].T, bias=True) for c in range(3)) / 3
    # two directions are spanned by three centred means
    inverse = np.linalg.pinv(central.T @ central / 3, rcond=1e-8)
    expected = np.trace(within @ inverse) / 3
    found = neural_collapse(features, labels, weight, simplex_etf(3))
    assert found.nc1 == pytest.approx(expected, rel=1e-6)


def test_nc2_and_nc3_agree_with_their_formulas():
    features, labels, weight = noisy_classes(1)
    means = np.stack([features[labels == c].mean(axis=0) for c in range(3)])
    central = means - means.mean(axis=0)
    simplex = (np.eye(3) - np.ones((3, 3)) / 3) / np.sqrt(2)

    def distance(gram, target):
        return np.linalg.norm(gram / np.linalg.norm(gram) - target)

    found = neural_collapse(features, labels, weight, simplex_etf(3))
    assert found.nc2_classifier == pytest.approx(distance(weight @ weight.T, simplex))
    assert found.nc2_means == pytest.approx(distance(central @ central.T, simplex))
    assert found.nc3_product == pytest.approx(distance(weight @ central.T, simplex))
    expected = np.linalg.norm(weight / np.linalg.norm(weight) - central / np.linalg.norm(central))
    assert found.nc3_alignment == pytest.approx(expected)
    plain = neural_collapse(features, labels, weight, orthogonal_frame(3))
    assert plain.nc2_means == pytest.approx(distance(means @ means.T, np.eye(3) / np.sqrt(3)))
    assert plain.nc1 == pytest.approx(found.nc1)


def test_a_simplex_is_collapsed_wherever_it_lies_and_however_it_is_scaled():
    generator = np.random.default_rng(2)
    rotation = np.linalg.qr(generator.normal(size=(7, 7)))[0][:4]
    corners = (np.eye(4) - 1 / 4) @ rotation
    labels = np.array([0, 0, 1, 2, 2, 2, 3])
    found = neural_collapse(5 * corners[labels] + 100, labels, 0.1 * corners, simplex_etf(4))
    distances = (found.nc1, found.nc2_classifier, found.nc2_means, found.nc3_product)
    np.testing.assert_allclose((*distances, found.nc3_alignment), 0, atol=1e-10)
    turned = neural_collapse(corners[labels], labels, -corners, simplex_etf(4))
    assert turned.nc3_alignment == pytest.approx(2)


def minimum_by_descent(sizes, *, weight_decay, feature_decay, width, depth):
    """Minimise the squared error over features and `depth` linear layers by L-BFGS."""
    total, classes = sum(sizes), len(sizes)
    roots = np.sqrt(sizes)  # features of a class are equal at the minimum: one column for each
    shapes = [(classes, width)] + [(width, width)] * (depth - 1) + [(width, classes)]
    ends = np.cumsum([rows * columns for rows, columns in shapes])[:-1]

    def split(flat):
        return [part.reshape(s) for part, s in zip(np.split(flat, ends), shapes, strict=True)]

    def loss(flat):
        parts = split(flat)
        left = [np.eye(classes)]
        for part in parts:
            left.append(left[-1] @ part)
        error = (left[-1] - np.eye(classes)) * roots**2
        value = 0.5 / total * np.sum((left[-1] - np.eye(classes)) ** 2 * roots**2)
        value += weight_decay / 2 * sum(np.sum(part**2) for part in parts[:-1])
        value += feature_decay / 2 * np.sum((parts[-1] * roots) ** 2)
        right, slopes = np.eye(classes), []
        for i in range(len(parts) - 1, -1, -1):
            decay = weight_decay if i < depth else feature_decay * roots**2
            slopes.append((left[i].T @ (error / total) @ right.T + decay * parts[i]).ravel())
            right = parts[i] @ right
        return value, np.concatenate(slopes[::-1])

    start = 0.6 * np.random.default_rng(0).normal(size=ends[-1] + width * classes)
    options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-16, "gtol": 1e-10}
    parts = split(minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x)
    product = np.eye(classes)
    for part in parts[:-1]:
        product = product @ part
    return product, parts[-1].T


def test_targets_are_the_minimum_of_the_objective_and_the_smallest_class_shrinks():
    weight, means = minimum_by_descent(COUNTS.values, **DECAYS, width=8, depth=1)
    targets = imbalanced_targets(COUNTS, **DECAYS)
    np.testing.assert_allclose(weight @ weight.T, targets.classifier, atol=1e-5)
    np.testing.assert_allclose(means @ means.T, targets.means, atol=1e-5)
    np.testing.assert_allclose(weight @ means.T, targets.product, atol=1e-5)
    expected = [2.806, 1.880, 1.225, 0.192]  # the specification's own check
    np.testing.assert_allclose(np.diag(targets.classifier), expected, atol=5e-4)
    found = neural_collapse(means, [0, 1, 2, 3], weight, targets)
    assert (found.nc2_classifier, found.nc2_means, found.nc3_product) < (1e-5, 1e-5, 1e-5)


def test_targets_of_two_layers_are_the_minimum_of_the_deep_objective():
    counts = ClassCounts(("a", "b", "c"), (60, 40, 20))
    decays = {"weight_decay": 0.02, "feature_decay": 1e-4}
    weight, means = minimum_by_descent(counts.values, **decays, width=5, depth=2)
    targets = imbalanced_targets(counts, **decays, depth=2)
    np.testing.assert_allclose(weight @ weight.T, targets.classifier, atol=1e-4)
    np.testing.assert_allclose(means @ means.T, targets.means, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(weight @ means.T, targets.product, atol=1e-4)


@pytest.mark.parametrize("depth", [1, 2, 3, 6])
def test_a_class_lies_at_the_lowest_point_of_its_own_cost_or_vanishes(depth):
    sizes = (400, 200, 100, 60, 14, 10, 2)  # at 14 a stationary point may not be the lowest
    counts = ClassCounts(tuple("abcdefg"), sizes)
    decays = {"weight_decay": 4e-3, "feature_decay": 2e-3}
    fit = np.diag(imbalanced_targets(counts, **decays, depth=depth).product)
    scaled = counts.total * decays["feature_decay"]
    x = np.linspace(0, 60, 600_001)
    for size, found in zip(sizes, fit, strict=True):
        layers = depth * counts.total * decays["weight_decay"] * scaled ** (1 / depth) / size
        best = x[np.argmin(1 / (x**depth + 1) + layers * x)]
        assert found == pytest.approx(best**depth / (best**depth + 1), abs=1e-3)
    assert fit[0] > 0.3
    assert fit[-1] == 0


def test_a_class_vanishes_just_at_the_size_the_theory_gives():
    # N^2 lw lh = 200^2 * 0.025 * 0.02 = 20
    for size, gone in ((20, True), (21, False)):
        counts = ClassCounts(("a", "b"), (200 - size, size))
        targets = imbalanced_targets(counts, weight_decay=0.025, feature_decay=0.02)
        assert (targets.classifier[1, 1] == 0) == gone


def test_class_means_that_agree_are_infinitely_far_from_collapse():
    features = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    found = neural_collapse(features + 3, [0, 0, 1, 1], np.eye(2), orthogonal_frame(2))
    assert found.nc1 == np.inf


@pytest.mark.parametrize(
    ("features", "labels", "weight", "message"),
    [
        (np.ones((2, 3)), [0, 1], np.ones((2, 4)), "do not match 2 classes"),
        (np.ones((2, 3)), [0, 1], np.ones((3, 3)), "do not match 2 classes"),
        (np.ones((2, 3)), [0], np.ones((2, 3)), "do not match 2 classes"),
        (np.ones(3), [0], np.ones((2, 3)), "do not match"),
        (np.ones((2, 3)), [0, 0], np.ones((2, 3)), r"classes \[1\] have no row"),
        (np.full((2, 3), np.nan), [0, 1], np.ones((2, 3)), "finite"),
        (np.eye(2), [0, 1], np.zeros((2, 2)), "classifier are all zero"),
        (np.ones((2, 3)), [0, 1], np.ones((2, 3)), "class means are all zero"),
    ],
)
def test_what_has_no_geometry_is_refused(features, labels, weight, message):
    with pytest.raises(DataError, match=message):
        neural_collapse(features, labels, weight, simplex_etf(2))


def test_targets_that_do_not_exist_are_refused():
    with pytest.raises(ConfigError, match="two classes"):
        simplex_etf(1)
    with pytest.raises(ConfigError, match="two classes"):
        orthogonal_frame(1)
    with pytest.raises(ConfigError, match="above 0"):
        imbalanced_targets(COUNTS, weight_decay=0, feature_decay=1)
    with pytest.raises(ConfigError, match="every class vanishes"):
        imbalanced_targets(COUNTS, weight_decay=10, feature_decay=10)
