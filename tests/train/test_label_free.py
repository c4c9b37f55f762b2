"""Objectives without labels: what is altered, and what is asked of the student."""

import numpy as np
import pytest
import torch
from torch import nn

from tailora.backbones.symmetries import dihedral
from tailora.errors import ConfigError
from tailora.train.label_free import hide_cells, label_free_objective

CPU = torch.device("cpu")


def rng(seed=0):
    return np.random.default_rng(seed)


def pictures(count=4, size=10, dtype=torch.float32):
    return (torch.from_numpy(rng(1).random((count, 3, size, size))) * 200).to(dtype)


class Whole(nn.Module):
    """Every pixel is a feature, so nothing that is altered can hide."""

    def forward(self, images):
        return images.float().flatten(1)


def test_twelve_of_twenty_five_cells_are_painted_in_the_image_s_mean():
    images = pictures()
    hidden = hide_cells(images, rng())
    for before, after in zip(images, hidden, strict=True):
        changed = (before != after).all(dim=0)
        cells = changed.reshape(5, 2, 5, 2).permute(0, 2, 1, 3).reshape(25, 4)
        assert cells.all(dim=1).sum() == 12
        assert not cells[~cells.all(dim=1)].any()  # a cell is hidden whole or not at all
        for band in range(3):
            assert after[band][changed].numpy() == pytest.approx(float(before[band].mean()))


def test_each_image_hides_its_own_cells_and_the_given_one_stays():
    images = pictures(8)
    kept = images.clone()
    hidden = hide_cells(images, rng())
    assert torch.equal(images, kept)
    changed = (images != hidden).any(dim=1).flatten(1)
    patterns = {tuple(row.tolist()) for row in changed}
    assert len(patterns) == 8


@pytest.mark.parametrize("size", [5, 14, 17, 70])
def test_any_size_and_bytes_can_be_hidden(size):
    images = pictures(2, size, torch.uint8)
    hidden = hide_cells(images, rng())
    assert hidden.dtype == torch.uint8
    assert hidden.shape == images.shape
    assert not torch.equal(hidden, images)


def test_masked_is_the_mean_squared_distance_to_the_whole():
    images = pictures()
    teacher, scale = images.flatten(1), torch.linspace(1, 2, 300)
    objective = label_free_objective(
        Whole(), lambda rows: images[rows], teacher, scale, how="masked", device=CPU
    )
    batch = np.array([2, 0])
    altered = hide_cells(images[batch], rng(5)).flatten(1)
    expected = np.mean(((altered - teacher[batch]) / scale).numpy() ** 2)
    assert float(objective(batch, rng(5))) == pytest.approx(expected, rel=1e-5)


def test_self_distillation_always_turns_and_asks_for_the_unturned():
    images = pictures(64)
    teacher = images.flatten(1)
    objective = label_free_objective(
        Whole(), lambda rows: images[rows], teacher, torch.ones(300), how="self-distillation",
        device=CPU,
    )  # fmt: skip
    for row in range(64):  # turn 0 would give a loss of 0
        assert float(objective(np.array([row]), rng(row))) > 0
    turns = rng(3).integers(1, 8, size=2)
    expected = (dihedral(images[:2], turns).flatten(1) - teacher[:2]).square().mean()
    assert float(objective(np.arange(2), rng(3))) == pytest.approx(float(expected), rel=1e-5)


def test_a_student_that_does_not_see_turns_has_nothing_to_learn():
    class Mean(nn.Module):
        def forward(self, images):
            return images.mean(dim=(2, 3))

    images = pictures()
    objective = label_free_objective(
        Mean(), lambda rows: images[rows], images.mean(dim=(2, 3)), torch.ones(3),
        how="self-distillation", device=CPU,
    )  # fmt: skip
    assert float(objective(np.arange(4), rng())) == pytest.approx(0, abs=1e-8)


def test_an_unknown_objective_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'masked'"):
        label_free_objective(
            Whole(), lambda rows: rows, torch.ones(1), torch.ones(1), how="mask", device=CPU
        )
