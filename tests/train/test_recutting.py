"""Windows re-cut around the class they were drawn for: which class, where it is, what is learnt."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from tailora.data import FileImages, assemble_targets
from tailora.data.masks import MaskArray
from tailora.samplers import ClassBalancedSampler, ProgressiveSampler, SquareRootSampler
from tailora.tasks.change import Change
from tailora.tasks.segmentation import Segmentation, token_pixels
from tailora.train.objectives import row_objective
from tailora.train.recutting import Recutting
from tailora.train.sampling import TwoPhases

SIDE, TOKENS = 12, 3
ROWS = np.arange(4)


def masks():
    """Four windows of class 0, with one pixel of class 1 in two of them and of 2 in the last."""
    found = np.zeros((4, SIDE, SIDE), np.int16)
    found[1, 0, 11] = found[3, 5, 5] = 1
    found[3, 11, 2] = 2
    found[0, :4] = -1
    return found


def data(classes=("a", "b", "c")):
    source = FileImages([None] * 4, list("wxyz"))
    targets = MaskArray(masks(), 3)
    return assemble_targets("m", source, targets, classes=classes, to_learn=False)


def recutting(order=ClassBalancedSampler, *, reach=1.0, task=None, made=None, grid=None):
    task, made = task or Segmentation(), made or data()
    held = task.held(made, ROWS, "crop")
    order = order(held) if isinstance(order, type) else order
    return Recutting(
        task, made, ROWS, held, order, grid=grid or (TOKENS, TOKENS), reach=reach, fit="crop"
    )


def pictures():
    """Images whose values are the number of their pixel, from 1."""
    numbers = 1 + torch.arange(4 * SIDE * SIDE).reshape(4, 1, SIDE, SIDE)
    return numbers.float()


@pytest.mark.parametrize("sampler", [ClassBalancedSampler, SquareRootSampler, ProgressiveSampler])
def test_classes_are_drawn_as_the_sampler_draws_them(sampler):
    """Chance of a window times that of its class given it, summed, is the share of the class."""
    held = Segmentation().held(data(), ROWS, "crop")
    assert held.tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 0], [1, 1, 1]]
    sizes = np.array([4.0, 2.0, 1.0])
    made = sampler(held, 4) if sampler is ProgressiveSampler else sampler(held)
    wanted = {
        ClassBalancedSampler: [1 / 3] * 3,
        SquareRootSampler: np.sqrt(sizes) / np.sqrt(sizes).sum(),
        ProgressiveSampler: 0.5 * sizes / 7 + 0.5 / 3,
    }[sampler]
    made.set_epoch(2)
    window = (held / held.sum(axis=0) * wanted).sum(axis=1)
    np.testing.assert_allclose(window @ made.class_chances(), wanted)
    cut = recutting(made)
    cut.start_epoch(2)
    np.testing.assert_allclose(window @ cut.chances, wanted)


def test_the_drawn_pixel_lies_at_the_centre_of_a_token_in_image_and_targets():
    cut = recutting()
    cut.start_epoch(0)
    rng, seen = np.random.default_rng(0), Counter()
    centres = {tuple(at) for at in token_pixels((SIDE, SIDE), (TOKENS, TOKENS)).tolist()}
    marked = pictures()
    for draws in rng.random((200, 3)):
        images, targets = cut(np.array([3]), marked[3:], draws[None])
        image, tokens = images[0, 0].numpy(), targets[0]
        for c, pixel in ((1, (5, 5)), (2, (11, 2))):
            [places] = np.nonzero((tokens == c).ravel())
            if not len(places):
                continue
            at = token_pixels((SIDE, SIDE), (TOKENS, TOKENS))[places[0]]
            assert tuple(at) in centres
            assert image[tuple(at)] == marked[3, 0][pixel]
            seen[c, int(places[0])] += 1
    assert {place for c, place in seen if c == 2} == set(range(TOKENS**2))  # anywhere


def test_larger_images_move_as_far_as_their_masks():
    cut = recutting()
    cut.start_epoch(0)
    draws = np.random.default_rng(2).random((4, 3))
    large = pictures().repeat_interleave(3, -2).repeat_interleave(3, -1)
    small, targets = cut(ROWS, pictures(), draws)
    found, again = cut(ROWS, large, draws)
    np.testing.assert_array_equal(targets, again)
    # a reflection does not repeat the pixel at the edge, so only what came from inside is compared
    moves = [cut.task.recut(cut.data, i, cut.grid, chances=cut.chances[i], reach=1.0, draws=one,
                            fit="crop")[0] * SIDE for i, one in enumerate(draws)]  # fmt: skip
    for one, other, move in zip(small[:, 0], found[:, 0, 1::3, 1::3], moves, strict=True):
        rows, columns = (slice(max(0, round(n)), SIDE + min(0, round(n))) for n in move)
        assert torch.equal(one[rows, columns], other[rows, columns])


def test_both_orders_of_dates_move_with_a_pair():
    made = data(("p → p", "p → q", "q → p"))
    task = Change()
    cut = recutting(task=task, made=made, grid=(2, TOKENS, TOKENS))
    assert cut.held.tolist()[1] == [True, True, True]  # the inverse of what it has
    cut.start_epoch(0)
    _, targets = cut(
        np.full(30, 1), pictures()[np.full(30, 1)], np.random.default_rng(0).random((30, 3))
    )
    first, second = targets[:, 0], targets[:, 1]
    assert ((first == 1) == (second == 2)).all()
    assert (first == 1).any()


def test_an_epoch_repeats_itself_whatever_was_before():
    order = ProgressiveSampler(Segmentation().held(data(), ROWS, "crop"), 3)
    straight, resumed = recutting(order), recutting(order)
    for epoch in range(3):
        straight.start_epoch(epoch)
    resumed.start_epoch(2)
    np.testing.assert_array_equal(straight.chances, resumed.chances)


def test_a_phase_without_a_sampler_of_classes_leaves_windows_as_they_are():
    made = ClassBalancedSampler(Segmentation().held(data(), ROWS, "crop"))
    cut = recutting(TwoPhases(None, made, 1))
    cut.start_epoch(0)
    assert cut.chances is None
    cut.start_epoch(1)
    assert cut.chances is not None


class Pixels(Segmentation):
    """Each pixel is a decision whose feature is its value."""

    def model(self, encoder):
        return lambda images: images.movedim(1, -1)


class Answers(nn.Module):
    """Logits that say the class that a pixel's value is."""

    def forward(self, features):
        return nn.functional.one_hot(features[:, 0].long().clamp(min=0), 3).float()


def objective(cut, seen=None):
    """Cost of an image that is its own mask."""
    own = torch.from_numpy(masks()).float()[:, None]

    def loss(logits, labels):
        if seen is not None:
            seen.append(labels.numpy())
        return (logits.argmax(dim=1) != labels).float().mean()

    targets = masks().astype(np.int64)
    return row_objective(
        nn.Identity(), Answers(), lambda rows: own[torch.from_numpy(rows)], targets,
        rows_of=Pixels(), loss=loss, augment="dihedral", device=torch.device("cpu"), recutting=cut,
    )  # fmt: skip


def test_targets_are_turned_with_the_re_cut_window_and_batches_drawn_in_parts():
    cut = recutting(grid=(SIDE, SIDE), task=Pixels())
    cut.start_epoch(0)
    whole, parts = [], []
    batch = np.arange(40) % 4
    assert float(objective(cut, whole)(batch, np.random.default_rng(5))) == 0
    generator = np.random.default_rng(5)
    for start in range(0, 40, 8):
        assert float(objective(cut, parts)(batch[start : start + 8], generator)) == 0
    np.testing.assert_array_equal(np.concatenate(whole), np.concatenate(parts))
    shares = np.bincount(np.concatenate(whole), minlength=3)
    assert len(whole[0]) < 40 * SIDE**2  # what came into windows is not learnt
    assert shares[2] > 0


def test_without_it_the_same_numbers_are_drawn_as_ever():
    drawn = np.random.default_rng(5)
    objective(None)(np.arange(4), drawn)
    usual = np.random.default_rng(5)
    usual.integers(8, size=4)
    assert drawn.random() == usual.random()
