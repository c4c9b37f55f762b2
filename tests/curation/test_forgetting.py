"""Forgetting of a head that learns by steps, by hand and beside torch."""

import numpy as np
import torch

from tailora.curation import forgetting as module
from tailora.curation.forgetting import forgetting, forgetting_events


def test_right_and_then_wrong_is_an_event():
    # the sequences 1,0,1,0; 0,1,1,1; 0,0,0,0; 1,1,1,0
    right = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [1, 1, 0, 1], [0, 1, 0, 0]], dtype=bool)
    assert forgetting_events(right).tolist() == [2, 0, 0, 1]


def test_a_course_is_that_of_stochastic_gradient_descent(monkeypatch):
    monkeypatch.setattr(module, "_BATCH", 4)
    rng = np.random.default_rng(0)
    labels = np.array([0] * 12 + [1] * 8 + [2] * 3)
    features = (rng.normal(size=(23, 5)) + 0.7 * np.eye(3, 5)[labels]).astype(np.float32)
    found = forgetting(features, labels, orders=2, epochs=6, seed=3)
    x = torch.from_numpy((features - features.mean(0)) / features.std(0))
    y, times, learnt = torch.from_numpy(labels), np.zeros(23), np.zeros(23, dtype=bool)
    for order in range(2):
        drawn = np.random.default_rng([3, order])
        head = torch.nn.utils.skip_init(torch.nn.Linear, 5, 3)
        for one in head.parameters():
            torch.nn.init.zeros_(one)
        descent = torch.optim.SGD(head.parameters(), lr=1 / 5)
        before = np.zeros(23, dtype=bool)
        for _ in range(6):
            for batch in np.split(drawn.permutation(23), range(4, 23, 4)):
                descent.zero_grad()
                loss = torch.nn.functional.cross_entropy(head(x[batch]), y[batch], reduction="sum")
                loss.backward()
                descent.step()
            right = (head(x).argmax(1) == y).numpy()
            times += before & ~right
            learnt |= right
            before = right
    assert times.sum() > 5
    np.testing.assert_array_equal(found.forgotten, times / 2)
    np.testing.assert_array_equal(found.learnt, learnt)


def test_what_lies_between_classes_is_forgotten_and_a_wrong_label_never_learnt():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 100)
    features = rng.normal(size=(200, 4)) * 0.3 + 3.0 * labels[:, None]
    features[:4] = 1.5 + 0.05 * rng.normal(size=(4, 4))  # between
    labels[50] = 1  # in the midst of the other class
    found = forgetting(features.astype(np.float32), labels)
    assert found.forgotten[50] == 0
    assert not found.learnt[50]
    clear = np.setdiff1d(np.arange(200), [0, 1, 2, 3, 50])
    assert found.learnt[clear].all()
    assert found.forgotten[clear].max() == 0
