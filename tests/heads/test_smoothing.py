"""Smoothing over the images that are predicted together."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from tailora.errors import DataError
from tailora.heads import smoothing
from tailora.heads.smoothing import smooth_logits

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(20, 4)).astype(np.float32)
FEATURES = RNG.normal(size=(20, 6)).astype(np.float32)


def smoothed(share, neighbours, rows=20):
    logits, features = (torch.from_numpy(one[:rows]) for one in (LOGITS, FEATURES))
    return smooth_logits(logits, features, share=share, neighbours=neighbours).numpy()


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("at_once", [7, 1024])
def test_logits_are_mixed_with_those_of_the_neighbours_of_scikit_learn(share, at_once, monkeypatch):
    monkeypatch.setattr(smoothing, "_AT_ONCE", at_once)
    found = NearestNeighbors(n_neighbors=6, metric="cosine").fit(FEATURES)
    nearest = found.kneighbors(FEATURES, return_distance=False)[:, 1:]  # the first is itself
    expected = (1 - share) * LOGITS + share * LOGITS[nearest].mean(axis=1)
    np.testing.assert_allclose(smoothed(share, 5), expected, rtol=1e-5, atol=1e-6)


def test_by_hand():
    features = torch.tensor([[1.0, 0.0], [3.0, 0.1], [0.0, 1.0]])
    logits = torch.tensor([[4.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    found = smooth_logits(logits, features, share=0.5, neighbours=1)
    assert found.tolist() == [[2.0, 1.0], [2.0, 1.0], [0.5, 1.5]]


def test_with_few_images_all_others_are_neighbours():
    others = [LOGITS[[1, 2]], LOGITS[[0, 2]], LOGITS[[0, 1]]]
    expected = [rows.mean(axis=0) for rows in others]
    np.testing.assert_allclose(smoothed(1.0, 5, rows=3), expected, rtol=1e-5)


def test_one_image_has_no_neighbour_and_none_is_nothing():
    with pytest.raises(DataError, match="needs several images"):
        smoothed(0.5, 5, rows=1)
    assert smoothed(0.5, 5, rows=0).shape == (0, 4)
