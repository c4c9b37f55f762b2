import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import StandardScaler

from tailora.errors import DataError
from tailora.metrics.retrieval import QUERIES, retrieval_scores


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_every_class_agrees_with_scikit_learn(seed):
    generator = np.random.default_rng(seed)
    gallery, queries = generator.normal(size=(40, 5)) + 3, generator.normal(size=(15, 5)) + 3
    labels, wanted = generator.integers(0, 3, 40), generator.integers(0, 4, 15)
    scale = StandardScaler().fit(gallery)
    similar = cosine_similarity(scale.transform(queries), scale.transform(gallery))
    found = retrieval_scores(gallery, labels, queries, wanted, 4)
    for c in range(3):
        rows = similar[wanted == c]
        if not len(rows):
            assert np.isnan(found[c])
            continue
        expected = np.mean([average_precision_score(labels == c, row) for row in rows])
        assert found[c] == pytest.approx(expected)
    assert np.isnan(found[3])  # no image of it in the gallery


def test_a_class_is_found_perfectly_where_all_its_images_come_first():
    gallery = np.array([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.1], [-1.0, 0.0]])
    found = retrieval_scores(gallery, [0, 0, 1, 1], [[2.0, 0.0], [-2.0, 0.0]], [0, 1], 2)
    assert found.tolist() == [1.0, 1.0]


def test_queries_beyond_the_limit_are_drawn_by_the_seed():
    generator = np.random.default_rng(0)
    gallery, queries = generator.normal(size=(30, 3)), generator.normal(size=(QUERIES + 30, 3))
    labels, wanted = generator.integers(0, 2, 30), np.zeros(len(queries), dtype=int)

    def found(seed):
        return retrieval_scores(gallery, labels, queries, wanted, 2, seed=seed)[0]

    assert found(0) == found(0) != found(1)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (([[1.0, 2.0]], [0], [[1.0]], [0]), "differ in width"),
        (([[1.0]], [0, 1], [[1.0]], [0]), "one label per row"),
        (([[1.0]], [0], [[1.0]], []), "one label per row"),
    ],
)
def test_what_does_not_match_is_refused(case, message):
    with pytest.raises(DataError, match=message):
        retrieval_scores(*case, 2)
