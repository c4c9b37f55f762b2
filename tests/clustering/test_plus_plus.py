"""k-means++ draws what scikit-learn's draws in float64."""

import numpy as np
import pytest
from sklearn.cluster import kmeans_plusplus

from tailora.clustering.plus_plus import plus_plus


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "clusters"), [((500, 3), 8), ((5000, 20), 40), ((9, 2), 5)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_starts_are_those_of_scikit_learn(shape, clusters, seed, dtype):
    X = (np.random.default_rng(seed).normal(size=shape) ** 3 + 5).astype(dtype)
    found = plus_plus(X, clusters, mean=X.mean(axis=0, dtype=np.float64), seed=seed)
    theirs, _ = kmeans_plusplus(X.astype(np.float64), clusters, random_state=seed)
    assert np.array_equal(found, theirs)


def test_identical_samples_can_all_be_starts():
    X = np.full((6, 2), 3.0)
    assert np.array_equal(plus_plus(X, 4, mean=X[0], seed=0), X[:4])
