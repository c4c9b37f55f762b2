import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tailora.heads.linear_probe import fit_linear_probe
from tailora.methods.label_curves import FEWEST_LABELS, head_penalty, label_curves

GRID = [1.0, 0.3, 0.1, 0.03, 0.01, 0.003]


def rows(counts, seed, *, apart=1.5, width=6):
    generator = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(len(counts), width)) * apart
    labels = np.repeat(np.arange(len(counts)), counts)
    x = centers[labels] + generator.normal(size=(len(labels), width)) * (1 + np.arange(width))
    return x.astype(np.float32), labels


def fit(train, l2=0.03):
    classes = int(train[1].max()) + 1
    return fit_linear_probe(*train, loss=cross_entropy, num_classes=classes, l2=l2).linear


@pytest.fixture(scope="module")
def small():
    """A training set, and the curve of its last class, which takes a second to make."""
    train = rows((100, 40, 20), 0)
    return train, curves(train, (2,))


def curves(train, classes, **changes):
    given = {"loss": cross_entropy, "classes": classes, "l2": GRID, "units": None}
    given |= {"confidence": 0.95, "seed": 0}
    return label_curves(fit(train), train, rows((60, 60, 60), 7), **(given | changes))


@pytest.mark.parametrize("l2", GRID)
def test_the_penalty_of_a_head_is_found_again(l2):
    x, labels = rows((200, 60, 20), 0)
    train = (10 * x, labels)  # the penalty acts on standardised features, whatever their unit
    assert head_penalty(fit(train, l2), *train, loss=cross_entropy, grid=GRID) == l2


def test_only_the_classes_named_are_thinned_and_only_they_are_told():
    found = curves(rows((200, 60, 50), 0), (1, 2))
    assert [curve.index for curve in found.classes] == [1, 2]
    assert [curve.sizes for curve in found.classes] == [(15, 24, 38, 60), (12, 20, 32, 50)]
    assert found.shares == (0.25, 0.4, 0.64, 1.0)


def test_the_last_point_is_the_head_as_it_is_and_values_lie_within_their_intervals():
    train, test = rows((200, 60, 50), 0), rows((60, 60, 60), 7)
    [curve] = curves(train, (2,)).classes
    predicted = fit(train)(torch.from_numpy(test[0])).argmax(1).numpy()
    hits = ((predicted == 2) & (test[1] == 2)).sum()
    f1 = 2 * hits / ((predicted == 2).sum() + (test[1] == 2).sum())
    assert curve.scores[-1] == pytest.approx(f1)
    assert [value.factor for value in curve.values] == [2.0, 5.0]
    for value in curve.values:
        assert 0 <= value.low <= value.score <= value.high <= 1
        assert value.gain_low >= 0


def test_a_class_with_too_few_labels_is_left_out_with_the_reason():
    train = rows((200, 60, FEWEST_LABELS - 1), 0)
    found = curves(train, (1, 2)).classes
    assert found[0].values
    assert found[1].left_out == "5 training samples, fewer than 6: too few to thin"


def test_the_same_seed_gives_the_same_curve(small):
    train, found = small
    assert curves(train, (2,)) == found
    assert curves(train, (2,), seed=1) != found
