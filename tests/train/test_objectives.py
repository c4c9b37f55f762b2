import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from tailora.backbones.symmetries import dihedral
from tailora.config.deblora_options import REGRESSIONS as OPTIONS
from tailora.errors import ConfigError
from tailora.train.objectives import REGRESSIONS, label_objective, target_objective

CPU = torch.device("cpu")


def letter():
    """An image without any symmetry: 2 bands of 3 x 3."""
    return torch.tensor(
        [
            [[1.0, 2, 3], [4, 5, 6], [7, 8, 9]],
            [[0.0, 9, 0], [0, 0, 1], [0, 0, 0]],
        ]
    )


def turn(image, number):
    return dihedral(image[None], np.array([number]))[0]


def by_index(image, number):
    """The same by looking up every pixel: mirror first, then quarter turns counter-clockwise."""
    size = image.shape[-1]
    result = torch.empty_like(image)
    for row in range(size):
        for column in range(size):
            y, x = row, column
            for _ in range(number % 4):  # undo one turn: what is now at (y, x) came from there
                y, x = x, size - 1 - y
            if number >= 4:
                x = size - 1 - x
            result[:, row, column] = image[:, y, x]
    return result


def test_turn_zero_leaves_an_image_as_it_is():
    assert torch.equal(turn(letter(), 0), letter())


def test_one_quarter_turn_is_counter_clockwise():
    assert turn(letter(), 1)[0].tolist() == [[3, 6, 9], [2, 5, 8], [1, 4, 7]]


def test_turn_four_is_the_mirror_image():
    assert turn(letter(), 4)[0].tolist() == [[3, 2, 1], [6, 5, 4], [9, 8, 7]]


@pytest.mark.parametrize("number", range(8))
def test_every_turn_agrees_with_looking_up_each_pixel(number):
    assert torch.equal(turn(letter(), number), by_index(letter(), number))


def test_the_eight_turns_of_an_image_without_symmetry_differ():
    turned = {tuple(turn(letter(), number).flatten().tolist()) for number in range(8)}
    assert len(turned) == 8


def test_two_turns_after_each_other_are_one_of_the_eight():
    single = [turn(letter(), number) for number in range(8)]
    for first in range(8):
        reached = [
            [torch.equal(turn(single[first], second), one) for one in single].index(True)
            for second in range(8)
        ]
        assert sorted(reached) == list(range(8))


def test_each_image_of_a_batch_gets_its_own_turn_and_the_batch_stays_as_it_was():
    batch = torch.stack([letter() + 10 * i for i in range(8)])
    before = batch.clone()
    turned = dihedral(batch, np.arange(8)[::-1].copy())
    for row in range(8):
        assert torch.equal(turned[row], by_index(before[row], 7 - row))
    assert torch.equal(batch, before)


def test_whole_numbers_stay_whole_numbers():
    image = letter().to(torch.uint8)
    assert turn(image, 3).dtype == torch.uint8


class Recorder(nn.Module):
    """Passes images on and remembers them."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(images)
        return images.flatten(1)


def labelled(augment, loss=None):
    images = torch.stack([letter() + 20 * i for i in range(6)])
    targets = torch.tensor([0, 1, 2, 0, 1, 2])
    encoder = Recorder()
    head = nn.utils.skip_init(nn.Linear, 18, 3)
    generator = torch.Generator().manual_seed(0)
    head.weight.data.copy_(torch.randn(3, 18, generator=generator) / 50)
    head.bias.data.zero_()
    objective = label_objective(
        encoder,
        head,
        lambda rows: images[torch.from_numpy(rows)],
        targets,
        loss=loss or nn.CrossEntropyLoss(),
        augment=augment,
        device=CPU,
    )
    return objective, encoder, head, images, targets


def test_without_augmentation_the_objective_is_the_loss_of_the_heads_logits():
    objective, _, head, images, targets = labelled("none")
    value = objective(np.array([4, 1, 3]), np.random.default_rng(0))
    total = 0.0
    for row in (4, 1, 3):
        logits = head.weight @ images[row].flatten() + head.bias
        total -= functional.log_softmax(logits, dim=0)[targets[row]]
    torch.testing.assert_close(value, total / 3)


def test_without_augmentation_nothing_is_drawn():
    generator = np.random.default_rng(0)
    labelled("none")[0](np.arange(6), generator)
    assert generator.integers(2**32) == np.random.default_rng(0).integers(2**32)


def test_augmented_images_are_turns_drawn_from_the_given_generator():
    objective, encoder, _, images, _ = labelled("dihedral")
    rows = np.array([5, 0, 2, 2, 1])
    objective(rows, np.random.default_rng(3))
    turns = np.random.default_rng(3).integers(8, size=5)
    for seen, row, number in zip(encoder.seen[0], rows, turns, strict=True):
        assert torch.equal(seen, by_index(images[row], int(number)))


def test_all_eight_turns_are_equally_likely():
    objective, encoder, *_ = labelled("dihedral")
    generator = np.random.default_rng(0)
    for _ in range(100):
        objective(np.zeros(16, np.int64), generator)
    codes = torch.cat(encoder.seen)[:, 0].flatten(1).tolist()
    single = [by_index(letter(), number)[0].flatten().tolist() for number in range(8)]
    counts = np.bincount([single.index(code) for code in codes], minlength=8)
    # chi-square of 1600 draws in 8 cells: 7 degrees of freedom, p = 0.001 at 24.3
    assert ((counts - 200) ** 2 / 200).sum() < 24.3


def test_an_unknown_augmentation_names_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown augmentation 'dihedrel'; did you mean"):
        labelled("dihedrel")


def test_the_distance_to_targets_is_taken_per_dimension_in_units_of_its_spread():
    images = torch.tensor([[1.0, 2.0], [3.0, 5.0], [7.0, 11.0]])
    targets = torch.tensor([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]])
    objective = target_objective(
        nn.Identity(),
        lambda rows: images[torch.from_numpy(rows)],
        targets,
        torch.tensor([2.0, 3.0]),
        device=CPU,
    )
    value = objective(np.array([2, 1]), np.random.default_rng(0))
    by_hand = ((2 / 2) ** 2 + (6 / 3) ** 2 + (2 / 2) ** 2 + (4 / 3) ** 2) / 4
    assert float(value) == pytest.approx(by_hand)


# two samples at distances (1, 2) and (1, 4/3) in units of the spread (2, 3)
APART = torch.tensor([[1.0, 2.0], [3.0, 5.0], [7.0, 11.0]])
AIMS = torch.tensor([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]])


def regress(regression, *, features=APART, targets=AIMS, mean=0.0, scale=(2.0, 3.0)):
    objective = target_objective(
        nn.Identity(),
        lambda rows: features[torch.from_numpy(rows)],
        targets,
        torch.tensor(scale),
        device=CPU,
        mean=mean,
        regression=regression,
    )
    return objective(np.array([2, 1]), np.random.default_rng(0))


def test_smooth_l1_is_squared_near_and_linear_far():
    by_hand = (0.5 * 1**2 + (2 - 0.5) + 0.5 * 1**2 + (4 / 3 - 0.5)) / 4
    assert float(regress("smooth-l1")) == pytest.approx(by_hand)


def test_cosine_is_of_the_angle_seen_from_the_mean_in_units_of_the_spread():
    """From (3, 2): features (2, 3) and (0, 1), targets (1, 1) and (-1, -1/3)."""
    cosines = [5 / math.sqrt(13 * 2), -1 / 3 / math.sqrt(1 + 1 / 9)]
    mean = torch.tensor([3.0, 2.0])
    assert float(regress("cosine", mean=mean)) == pytest.approx(1 - sum(cosines) / 2)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), offset=st.floats(-50, 50), longer=st.floats(0.1, 10))
def test_cosine_is_blind_to_a_common_offset_and_to_lengths(seed, offset, longer):
    generator = torch.Generator().manual_seed(seed)
    x, aims, mean = (torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    scale = (1.0, 2.0, 0.5, 3.0)
    mean = mean[0]
    value = regress("cosine", features=x, targets=aims, mean=mean, scale=scale)
    moved = regress(
        "cosine", features=x + offset, targets=aims + offset, mean=mean + offset, scale=scale
    )
    stretched = regress(
        "cosine", features=mean + longer * (x - mean), targets=aims, mean=mean, scale=scale
    )
    torch.testing.assert_close(moved, value, atol=1e-9, rtol=1e-7)
    torch.testing.assert_close(stretched, value, atol=1e-9, rtol=1e-7)
    assert -1e-9 <= value <= 2 + 1e-9


@pytest.mark.parametrize("regression", REGRESSIONS)
def test_at_the_targets_every_regression_has_no_loss(regression):
    assert float(regress(regression, targets=APART, mean=torch.zeros(2))) < 1e-6
    assert float(regress(regression)) > 0.01


@pytest.mark.parametrize("regression", ["squared", "smooth-l1"])
def test_distances_do_not_depend_on_the_mean(regression):
    assert regress(regression, mean=torch.tensor([9.0, -4.0])) == regress(regression)


def test_options_and_objective_know_the_same_regressions():
    assert tuple(REGRESSIONS) == OPTIONS


def test_an_unknown_regression_names_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown regression 'squard'; did you mean 'squared'"):
        regress("squard")


def test_at_its_targets_an_encoder_has_no_loss_and_no_gradient():
    weight = torch.eye(2).requires_grad_()
    rows = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    objective = target_objective(
        lambda batch: batch @ weight,
        lambda numbers: rows[torch.from_numpy(numbers)],
        rows,
        torch.ones(2),
        device=CPU,
    )
    value = objective(np.array([0, 1]), np.random.default_rng(0))
    value.backward()
    assert value.item() == 0
    assert not weight.grad.any()
