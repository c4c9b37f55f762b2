"""Similarity to examples, compared with SciPy and scikit-learn on whole arrays."""

import numpy as np
import pytest
from scipy.linalg import inv, sqrtm
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import StandardScaler, normalize

from tailora.errors import ConfigError
from tailora.features import similar
from tailora.features.similar import similarities
from tailora.features.whitening import RIDGE


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(similar, "_VALUES", 6 * 7)


@pytest.fixture
def bank():
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.1, 9, 6)
    return (rng.normal(size=(50, 6)) * scale + 5 * scale).astype(np.float32)


@pytest.mark.parametrize("against", [0, 2])
def test_scores_are_those_of_scikit_learn(bank, against):
    rng = np.random.default_rng(1)
    like, unlike = rng.normal(size=(3, 6)) * 9 + 20, rng.normal(size=(against, 6)) * 9 + 20
    scale = StandardScaler().fit(bank.astype(np.float64))
    either = np.concatenate([like, unlike])
    copies = cosine_similarity(scale.transform(bank.astype(float)), scale.transform(either))
    covariance = np.cov(bank.astype(float).T, bias=True)
    ridge = RIDGE * covariance.trace() / 6 * np.eye(6)
    root = inv(sqrtm(covariance + ridge))
    rows, of, less = ((one.astype(float) - bank.mean(0)) @ root for one in (bank, like, unlike))
    near = cosine_similarity(rows, np.concatenate([of, less]))
    to_mean = cosine_similarity(rows, normalize(of).mean(axis=0)[None])[:, 0]
    to_nearest = near[:, :3].max(axis=1)
    if against:
        to_mean -= cosine_similarity(rows, normalize(less).mean(axis=0)[None])[:, 0] / 4
        to_nearest -= np.maximum(0, near[:, 3:].max(axis=1) - to_nearest)
    found = similarities(bank, like, unlike)
    np.testing.assert_allclose(found.scores, to_mean, atol=1e-6)
    np.testing.assert_allclose(found.nearest, copies.max(axis=1), atol=1e-8)
    nearest = similarities(bank, like, unlike, combine="max")
    np.testing.assert_allclose(nearest.scores, to_nearest, atol=1e-6)


def test_rows_without_features_neither_score_nor_count(bank):
    holes = bank.copy()
    holes[[0, 7, 8, 9, 10, 11, 12, 13, 20]] = np.nan  # 7 to 13 is a whole block
    kept = ~np.isnan(holes[:, 0])
    found = similarities(holes, bank[:2]).scores
    assert np.isnan(found[~kept]).all()
    np.testing.assert_allclose(found[kept], similarities(bank[kept], bank[:2]).scores, atol=1e-9)


@pytest.mark.parametrize("width", [6, 768])
def test_equal_rows_score_equally_wherever_they_lie(monkeypatch, width):
    monkeypatch.setattr(similar, "_VALUES", 7 * width)  # the last block has one row
    twins = np.random.default_rng(0).normal(size=(50, width)).astype(np.float32)
    same = [0, 3, 10, 23, 48, 49]
    twins[same] = twins[3]
    assert len(set(similarities(twins, twins[4:7], twins[8:9]).scores[same])) == 1


def test_a_feature_that_does_not_vary_changes_nothing(bank):
    still = np.concatenate([bank, np.full((50, 1), 3, np.float32)], axis=1)
    found = similarities(still, still[:2]).scores
    np.testing.assert_allclose(found, similarities(bank, bank[:2]).scores, atol=1e-9)


def test_a_search_without_example_or_by_another_rule_is_refused(bank):
    with pytest.raises(ConfigError, match="needs an example"):
        similarities(bank, np.empty((0, 6)))
    with pytest.raises(ConfigError, match="did you mean 'mean'"):
        similarities(bank, bank[:1], combine="means")
