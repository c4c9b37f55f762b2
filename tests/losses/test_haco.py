"""Balance over places and samples: published values, by hand, and what rare places gain."""

import numpy as np
import pytest
import torch

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.losses.cross_entropy import CrossEntropyLoss
from tailora.losses.haco import (
    SHARE,
    balanced_order,
    bins_of,
    place_counts,
    place_weights,
    unusual,
)
from tailora.losses.overlap import DiceLoss
from tailora.losses.place_loss import PlaceLoss

COUNTS = ClassCounts(("a", "b"), (845, 155))


def test_weights_have_the_published_values():
    counts = np.array([[[990.0, 10.0], [700.0, 300.0]]])
    first, last = place_weights(counts, 0.0), place_weights(counts, SHARE)
    np.testing.assert_allclose(first, [[[0.159534, 0.840466]] * 2], atol=1e-6)
    np.testing.assert_allclose(last, [[[0.115374, 0.884626], [0.203300, 0.796700]]], atol=1e-6)


def test_a_place_without_labels_has_the_weights_of_all():
    counts = np.array([[[0.0, 0.0], [700.0, 300.0]]])
    weights = place_weights(counts, 1.0)
    np.testing.assert_allclose(weights[0, 0], place_weights(counts, 0.0)[0, 1])


def test_counts_are_those_of_labelled_places():
    targets = np.array([[[0, 1], [-1, 1]], [[0, 0], [-1, 1]]])
    expected = [[[2, 0], [1, 1]], [[0, 0], [0, 2]]]
    assert place_counts(targets, 2).tolist() == expected


def test_unusual_images_are_those_of_the_paper():
    """Its formula for two classes: mean(c (1 - mu)) - mean(c mu) over vertices."""
    c = np.random.default_rng(0).random((40, 3, 4)) < np.linspace(0.05, 0.4, 12).reshape(3, 4)
    c[3] = False
    mu = c.mean(axis=0)
    expected = (c * (1 - mu)).mean(axis=(1, 2)) - (c * mu).mean(axis=(1, 2))
    found = unusual(c.astype(int), 2)
    some = c.any(axis=(1, 2))
    assert not some[3]
    assert np.isnan(found[~some]).all()
    np.testing.assert_allclose(found[some], expected[some])


def test_edges_of_bins_have_the_published_values_and_both_ends_are_in_one():
    scores = np.linspace(0, 1, 100_001)
    number = bins_of(scores)
    edges = scores[np.flatnonzero(np.diff(number)) + 1]
    np.testing.assert_allclose(edges, [0.386864, 0.613153, 0.773708, 0.898246], atol=1e-5)
    assert (number.min(), number.max()) == (0, 4)


def test_every_bin_is_drawn_alike_and_images_without_a_score_once():
    scores = np.array([0.0] * 30 + [0.5] * 8 + [1.0] * 4 + [np.nan] * 3)
    order = balanced_order(scores, np.random.default_rng(0))
    often = np.bincount(order, minlength=len(scores))
    assert [often[:30].sum(), often[30:38].sum(), often[38:42].sum()] == [14, 14, 14]
    assert often[42:].tolist() == [1, 1, 1]
    for held in (often[:30], often[30:38], often[38:42]):
        assert held.max() - held.min() <= 1
    equal = balanced_order(np.full(5, 0.3), np.random.default_rng(0))
    assert sorted(equal) == [0, 1, 2, 3, 4]


def test_rows_weigh_by_their_class_and_place_more_and_more():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, (50, 2, 3))
    targets[:, 0, 0] = 0
    targets[0, 0, 0] = 1
    logits = torch.tensor(rng.normal(size=(50, 2, 3, 2)))
    loss = PlaceLoss(CrossEntropyLoss(COUNTS), by_place=0.6)
    advance = loss.begin(targets, 2)
    terms = -np.take_along_axis(logits.log_softmax(-1).numpy(), targets[..., None], -1)[..., 0]
    for over in (0.0, 0.5, 1.0):
        advance(over)
        table = place_weights(place_counts(targets, 2), 0.6 * over)
        weights = np.stack([table[r, c, targets[:, r, c]] for r in (0, 1) for c in range(3)], -1)
        expected = (terms * weights.reshape(50, 2, 3)).sum() / weights.sum()
        assert loss(logits, torch.tensor(targets)).item() == pytest.approx(expected, rel=1e-5)


def test_a_class_is_told_where_it_is_rare_in_place():
    """Grids of 20 x 20 with positives about the centre, of places that say nothing else.

    What is learnt of a place are its odds times the weights', which rise to even where it is rare.
    """
    rows, columns = np.mgrid[:20, :20] - 9.5
    chance = 0.9 * np.exp(-(rows**2 + columns**2) / 60)
    targets = (np.random.default_rng(0).random((200, 20, 20)) < chance).astype(np.int64)
    mean = targets.mean(axis=0)
    rare = (mean > 0.05) & (mean < 0.15)
    told = []
    for share in (0.0, 1.0):
        loss = PlaceLoss(CrossEntropyLoss(COUNTS), by_place=1.0)
        loss.begin(targets, 2)(share)
        values = torch.zeros(20, 20, 2, requires_grad=True)
        optimizer = torch.optim.LBFGS([values], max_iter=200, line_search_fn="strong_wolfe")

        def closure(loss=loss, values=values, optimizer=optimizer):
            optimizer.zero_grad()
            cost = 1000 * loss(values.expand(200, -1, -1, -1), torch.from_numpy(targets))
            cost.backward()
            return cost

        optimizer.step(closure)
        weights = place_weights(place_counts(targets, 2), share)
        odds = mean / (1 - mean) * weights[..., 1] / weights[..., 0]
        found = values.detach().softmax(dim=-1)[..., 1].numpy()
        told.append(found[rare])
        np.testing.assert_allclose(told[-1], (odds / (1 + odds))[rare], atol=0.01)
    assert (told[0] < 0.45).all()
    assert (told[1] > 0.48).all()


@pytest.mark.parametrize("value", [-0.1, 1.1, "all"])
def test_shares_out_of_range_are_refused(value):
    with pytest.raises(ConfigError, match=r"by_place must lie in \[0, 1\]"):
        PlaceLoss(CrossEntropyLoss(COUNTS), by_place=value)


def test_losses_without_rows_have_none_to_weigh():
    with pytest.raises(ConfigError, match="looks at all rows of a class together"):
        PlaceLoss(DiceLoss(COUNTS), by_place=0.3)
