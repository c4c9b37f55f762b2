import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tailora.augment.rotation_pretext import (
    balanced_turns,
    load_all_but_head,
    rotated_batch,
    rotation_loss,
)
from tailora.errors import DataError
from tailora.heads.classifier_retraining import fresh_linear


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("rows", [0, 4, 12, 400])
def test_a_batch_of_four_times_m_has_every_turn_m_times(rows):
    turns = balanced_turns(rows, rng())
    assert np.bincount(turns, minlength=4).tolist() == [rows // 4] * 4


def test_other_batches_to_within_one_and_in_random_order():
    turns = balanced_turns(11, rng())
    assert np.ptp(np.bincount(turns, minlength=4)) == 1
    assert turns.tolist() != sorted(turns.tolist())
    assert turns.tolist() != (np.arange(11) % 4).tolist()


def test_images_are_turned_as_far_as_is_told():
    images = torch.arange(8 * 2 * 9.0).reshape(8, 2, 3, 3)
    turned, turns = rotated_batch(images, rng(1))
    for image, result, turn in zip(images, turned, turns.tolist(), strict=True):
        expected = image
        for _ in range(turn):
            expected = expected.transpose(-2, -1).flip(-2)  # a quarter turn counter-clockwise
        assert torch.equal(result, expected)


def test_the_loss_is_that_of_telling_the_turn():
    images = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    encoder, head = nn.Flatten(), fresh_linear(16, 4)
    turned, turns = rotated_batch(images, rng(2))
    expected = functional.cross_entropy(head(turned.flatten(1)), turns)
    value = rotation_loss(encoder, head, images, rng(2))
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    assert rotation_loss(encoder, head, images[:0], rng()).item() == 0


def test_images_must_be_square():
    with pytest.raises(DataError, match=r"square images, got \(3, 4\)"):
        rotated_batch(torch.zeros(2, 1, 3, 4), rng())


def network(classes, seed):
    model = nn.Module()
    model.body, model.fc = fresh_linear(3, 2, seed=seed), fresh_linear(2, classes, seed=seed)
    return model


def test_everything_but_the_head_equals_the_checkpoint():
    pretext, model, untouched = network(4, 1), network(7, 2), network(7, 2)
    load_all_but_head(model, pretext.state_dict())
    assert torch.equal(model.body.weight, pretext.body.weight)
    assert torch.equal(model.body.bias, pretext.body.bias)
    assert torch.equal(model.fc.weight, untouched.fc.weight)


def test_weights_that_are_missing_or_do_not_belong_are_named():
    state = network(4, 1).state_dict()
    with pytest.raises(DataError, match=r"body\.bias$"):
        load_all_but_head(network(7, 2), {k: v for k, v in state.items() if k != "body.bias"})
    with pytest.raises(DataError, match=r"stem$"):
        load_all_but_head(network(7, 2), {**state, "stem": torch.zeros(1)})
    with pytest.raises(DataError, match="fc"):
        load_all_but_head(network(7, 2), {"body.weight": state["body.weight"]}, heads=("body",))
