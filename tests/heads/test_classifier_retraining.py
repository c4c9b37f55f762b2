import pytest
import torch
from torch import nn
from torch.nn import functional

from tailora.heads import retrain_classifier
from tailora.heads.classifier_retraining import fresh_linear
from tailora.samplers import OversamplingSampler


def test_fresh_weights_lie_within_torchs_own_bound():
    head = fresh_linear(16, 500)
    assert head.weight.abs().max() <= 0.25
    assert head.weight.abs().max() > 0.249
    assert head.bias.abs().max() <= 0.25
    assert head.weight.mean().abs() < 0.01


def test_one_step_by_hand_on_a_class_balanced_batch(blobs):
    features, labels = blobs
    head = fresh_linear(4, 3)
    weight, bias = head.weight.detach().clone(), head.bias.detach().clone()
    retrain_classifier(
        head,
        features,
        labels,
        epochs=1,
        batch_size=600,
        learning_rate=0.1,
        weight_decay=0.01,
        seed=7,
    )
    batch = list(OversamplingSampler(labels.tolist(), seed=7))
    rows, targets = features[batch], labels[batch]
    errors = (rows @ weight.T + bias).softmax(dim=1) - functional.one_hot(targets, 3)
    expected = weight - 0.1 * (errors.T @ rows / len(batch) + 0.01 * weight)
    assert torch.allclose(head.weight, expected, atol=1e-6)


class Slope(nn.Module):
    """One parameter whose gradient stays -1, so that it adds up the steps; remembers its rows."""

    def __init__(self):
        super().__init__()
        self.total = nn.Parameter(torch.zeros(()))
        self.seen = []

    def forward(self, features):
        self.seen.append(features.flatten().tolist())
        # 50 below the other class: the true class has probability 0, the loss slope -1
        return torch.stack([self.total - 50 + 0 * features[:, 0], 0 * features[:, 0]], dim=1)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_learning_rate_falls_to_zero_along_a_cosine(momentum):
    head = Slope()
    retrain_classifier(
        head,
        torch.ones(4, 1),
        torch.zeros(4).long(),
        epochs=3,
        learning_rate=1.0,
        momentum=momentum,
        weight_decay=0.0,
    )
    velocity = [1, 1 + momentum, 1 + momentum * (1 + momentum)]
    expected = sum(rate * v for rate, v in zip([1, 3 / 4, 1 / 4], velocity, strict=True))
    assert head.total.item() == pytest.approx(expected, rel=1e-5)


def test_every_epoch_draws_anew_in_batches():
    head = Slope()
    rows = torch.arange(10.0)[:, None]
    retrain_classifier(head, rows, torch.zeros(10).long(), epochs=2, batch_size=4)
    assert [len(batch) for batch in head.seen] == [4, 4, 2, 4, 4, 2]
    drawn = [row for batch in head.seen for row in batch]
    first, second = drawn[:10], drawn[10:]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_an_epoch_draws_every_class_as_often_as_the_largest_has_rows():
    """Counts 9, 2, 1: 27 draws an epoch, nine of each class, as the released code's."""
    labels = torch.tensor([0] * 9 + [1] * 2 + [2])

    class Three(Slope):
        def forward(self, features):
            return functional.pad(super().forward(features), (0, 1))

    head = Three()
    retrain_classifier(head, labels[:, None].float(), labels, epochs=2, batch_size=10)
    assert [len(batch) for batch in head.seen] == [10, 10, 7] * 2
    drawn = torch.tensor([row for batch in head.seen[:3] for row in batch]).long()
    assert drawn.bincount().tolist() == [9, 9, 9]


def test_finds_the_tail_that_training_on_the_data_as_they_are_misses(blobs):
    features, labels = blobs[0].numpy(), blobs[1].numpy()
    head = fresh_linear(4, 3)
    retrain_classifier(head, features, labels, epochs=10)
    predicted = head(blobs[0]).argmax(dim=1)
    assert (predicted[blobs[1] == 2] == 2).all()
