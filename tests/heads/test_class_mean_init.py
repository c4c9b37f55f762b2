import pytest
import torch
from torch import nn

from tailora.errors import ConfigError, DataError
from tailora.heads import CosineHead, init_from_class_means, nearest_class_mean
from tailora.heads.class_mean_init import lift_adapter_width
from tailora.heads.classifier_retraining import fresh_linear

FEATURES = torch.tensor([[2.0, 0.0], [4.0, 0.0], [0.0, 3.0]])
LABELS = torch.tensor([0, 0, 1])


def test_a_linear_head_starts_as_nearest_class_mean(blobs):
    features, labels = blobs
    head = fresh_linear(4, 3)
    init_from_class_means(head, features, labels)
    queries = torch.randn(500, 4, generator=torch.Generator().manual_seed(2))
    nearest = nearest_class_mean(features, labels, 3, variant="un")
    assert torch.equal(head(queries).argmax(dim=1), nearest(queries).argmax(dim=1))


def test_weights_and_biases_by_hand():
    head = fresh_linear(2, 2)
    init_from_class_means(head, FEATURES, LABELS)
    assert head.weight.tolist() == [[3, 0], [0, 3]]
    assert head.bias.tolist() == [-4.5, -4.5]


@pytest.mark.parametrize("make", [CosineHead, lambda d, k: nn.Linear(d, k, bias=False)])
def test_other_heads_take_the_directions_of_the_means(make):
    with torch.random.fork_rng():
        head = make(2, 2)
    init_from_class_means(head, FEATURES.numpy(), LABELS.numpy())
    assert head.weight.tolist() == [[1, 0], [0, 1]]
    assert head.weight.requires_grad


def test_a_class_without_rows_is_named():
    with pytest.raises(DataError, match=r"classes \['2'\]"):
        init_from_class_means(fresh_linear(2, 3), FEATURES, LABELS)


@pytest.mark.parametrize(
    ("num_classes", "width", "millions"),
    [(100, 4, 0.101), (1000, 32, 0.618), (365, 8, 0.175), (8142, 256, 4.749)],
)
def test_adapter_widths_give_the_papers_parameter_counts(num_classes, width, millions):
    """Twelve blocks of 768 features: normalisation, down, up and one scale each."""
    assert lift_adapter_width(num_classes, 12) == width
    block = 2 * 768 + (768 * width + width) + (width * 768 + 768) + 1
    assert 12 * block / 1e6 == pytest.approx(millions, abs=5e-4)


@pytest.mark.parametrize(
    ("num_classes", "num_blocks", "minimum", "width"),
    [
        (15, 12, 4, 4),
        (2, 12, 4, 4),
        (24, 12, 1, 1),
        (47, 12, 1, 1),
        (48, 12, 1, 2),
        (384, 6, 4, 32),
    ],
)
def test_few_classes_get_the_narrowest_width(num_classes, num_blocks, minimum, width):
    assert lift_adapter_width(num_classes, num_blocks, minimum=minimum) == width


def test_nothing_to_divide_is_refused():
    with pytest.raises(ConfigError, match="must be at least 1"):
        lift_adapter_width(0, 12)
