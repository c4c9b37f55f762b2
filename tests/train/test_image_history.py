"""What training saw of each image, against what plain PyTorch counts beside it."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tailora.train.image_history import ImageHistory


def watched(epochs, *, images=6, classes=3, learning_rate=0.4):
    """Train a linear head on random features; give the history and what was seen by image."""
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(images, 4)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(classes, size=images))
    head, history = nn.utils.skip_init(nn.Linear, 4, classes), ImageHistory(images + 2)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.SGD(head.parameters(), lr=learning_rate)
    seen = {image: [] for image in range(images)}
    for epoch in range(epochs):
        for batch in np.array_split(np.random.default_rng(epoch).permutation(images), 2):
            rows = torch.from_numpy(batch)
            logits = head(features[rows])
            history.note(batch, features[rows], logits, labels[rows])
            for image in batch.tolist():
                seen[image].append(look(head, features[image], labels[image]))
            optimizer.zero_grad()
            functional.cross_entropy(logits, labels[rows]).backward()
            optimizer.step()
        history.end_epoch(history.fresh)
    return history.seen(), seen


def look(head, features, label):
    """Return probability of the label, length of the error, squared gradient, and if right."""
    one = nn.utils.skip_init(nn.Linear, *head.weight.T.shape)
    one.load_state_dict(head.state_dict())
    logits = one(features)
    functional.cross_entropy(logits[None], label[None]).backward()
    error = logits.detach().softmax(0) - functional.one_hot(label, len(logits))
    squared = sum(weight.grad.square().sum().item() for weight in one.parameters())
    chance = logits.detach().softmax(0)[label].item()
    return chance, error.norm().item(), squared, bool(logits.argmax() == label)


def test_values_are_means_of_what_autograd_finds_at_each_look():
    found, seen = watched(5)
    np.testing.assert_array_equal(found.samples, np.arange(6))  # not the two never looked at
    np.testing.assert_array_equal(found.looks, 5)
    chances, errors, squared, right = np.array(list(seen.values()), dtype=float).transpose(2, 0, 1)
    np.testing.assert_allclose(found.confidence, chances.mean(1), rtol=1e-5)
    np.testing.assert_allclose(found.variability, chances.std(1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.el2n, errors.mean(1), rtol=1e-5)
    np.testing.assert_allclose(found.self_influence, squared.mean(1), rtol=1e-5)
    np.testing.assert_array_equal(found.learnt, right.any(1))


def one_image(*epochs):
    """Let training see one image in each epoch, right (1) or wrong (0) at each look."""
    history = ImageHistory(1)
    for looks in epochs:
        for right in looks:
            logits = torch.tensor([[1.0, 0.0]]) if right else torch.tensor([[0.0, 1.0]])
            history.note(np.array([0]), torch.zeros(1, 2), logits, torch.tensor([0]))
        history.end_epoch(history.fresh)
    return history.seen()


@pytest.mark.parametrize(
    ("epochs", "forgotten", "learnt"),
    [
        ([[1], [0], [1], [0]], 2, True),
        ([[0], [1], [1], [1]], 0, True),
        ([[0], [0], [0]], 0, False),
        ([[1], [], [0]], 1, True),  # not drawn in an epoch: as it was before
        ([[1], [0, 1]], 0, True),  # half of its looks are enough
        ([[1], [0, 1, 0], [1]], 1, True),
    ],
)
def test_an_image_is_forgotten_in_epochs_that_are_wrong_after_right(epochs, forgotten, learnt):
    found = one_image(*epochs)
    assert (found.forgotten.tolist(), found.learnt.tolist()) == ([forgotten], [learnt])
    assert found.looks.tolist() == [sum(map(len, epochs))]


def test_what_two_processes_saw_adds_up():
    whole, halves = ImageHistory(4), [ImageHistory(4), ImageHistory(4)]
    features, labels = torch.eye(4), torch.tensor([0, 1, 1, 0])
    logits = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0], [0.5, 0.5]])
    for rows, part in ((range(4), whole), (range(2), halves[0]), (range(2, 4), halves[1])):
        own = list(rows)
        part.note(np.array(own), features[own], logits[own], labels[own])
    together = halves[0].fresh + halves[1].fresh
    for part in (whole, *halves):
        part.end_epoch(whole.fresh.clone() if part is whole else together)
    for part in halves:
        for name, values in vars(whole.seen()).items():
            if name == "vog":
                continue
            np.testing.assert_allclose(vars(part.seen())[name], values, rtol=1e-6)
