"""Variance of gradients, against finite differences and numpy."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tailora.train.variance_of_gradients import GRID, VarianceOfGradients, label_gradients


def encoder(images):
    """A smooth function of every pixel, of 5 features."""
    weights = torch.linspace(-1, 1, 5 * images[0].numel()).reshape(5, -1).to(images)
    return torch.tanh(images.flatten(1) @ weights.T / 20)


def head():
    made = nn.utils.skip_init(nn.Linear, 5, 3)
    made.weight.data = torch.linspace(-2, 2, 15).reshape(3, 5)
    made.bias.data.zero_()
    return made


def test_gradients_are_those_of_finite_differences_averaged_over_bands_and_cells():
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 9, size=(2, 2, 32, 32)).astype(np.uint8))
    labels, linear = torch.tensor([2, 0]), head()
    found = label_gradients(encoder, linear, images, labels)
    assert found.shape == (2, GRID * GRID)
    exact = linear.double()
    for image in range(2):
        for row, column in ((0, 0), (5, 30), (31, 17)):
            cell = 0.0  # four pixels of two bands
            for band in range(2):
                for dy in range(2):
                    for dx in range(2):
                        moved = images[image].double().repeat(2, 1, 1, 1)
                        y, x = row // 2 * 2 + dy, column // 2 * 2 + dx
                        moved[:, band, y, x] += torch.tensor([-1e-4, 1e-4])
                        low, high = exact(encoder(moved))[:, labels[image]].tolist()
                        cell += (high - low) / 2e-4 / 8
            value = found[image, row // 2 * GRID + column // 2].item()
            np.testing.assert_allclose(value, cell, rtol=1e-3, atol=1e-7)


def test_the_spread_is_the_standard_deviation_over_epochs_mean_over_cells():
    rng = np.random.default_rng(1)
    seen = rng.normal(size=(3, 7, GRID * GRID)).astype(np.float32)  # epochs, images, cells

    def gradient(batch):
        assert len(batch) <= 2
        return torch.from_numpy(seen[int(part.epochs)][batch])

    part = VarianceOfGradients(np.array([1, 2, 4, 6, 6]), 7, gradient, batch_size=2)
    for _ in range(3):
        part.look(lambda rows: rows)
        part.end_epoch(part.fresh)
    samples = np.array([6, 1])
    expected = seen[:, samples].std(axis=0).mean(axis=1)
    np.testing.assert_allclose(part.spread(samples), expected, rtol=1e-4)


def test_a_model_that_stays_as_it_is_has_no_spread():
    images = torch.zeros(1, 1, 16, 16)
    part = VarianceOfGradients(
        np.array([0]), 1, lambda _: label_gradients(encoder, head(), images, torch.tensor([1])), 4
    )
    for _ in range(4):
        part.look(lambda rows: rows)
        part.end_epoch(part.fresh)
    assert part.sums.abs().sum() > 0
    np.testing.assert_allclose(part.spread(np.array([0])), 0, atol=1e-6)


def test_the_official_steps_give_the_same_on_images_of_the_grids_size():
    """Mean over bands, spread over checkpoints, mean over pixels, as equations 1 to 3 say."""
    images = torch.rand(1, 2, GRID, GRID, generator=torch.Generator().manual_seed(0))
    layers = [head() for _ in range(3)]
    for number, layer in enumerate(layers):
        layer.weight.data.mul_(number + 1)
    part = VarianceOfGradients(
        np.array([0]),
        1,
        lambda _: label_gradients(encoder, layers[int(part.epochs)], images, torch.tensor([1])),
        1,
    )
    maps = []
    for layer in layers:
        part.look(lambda rows: rows)
        part.end_epoch(part.fresh)
        given = images.clone().requires_grad_()
        functional.linear(encoder(given), layer.weight)[0, 1].backward()
        maps.append(given.grad[0].mean(0).numpy())
    expected = np.sqrt(((np.array(maps) - np.mean(maps, axis=0)) ** 2).mean(0)).mean()
    np.testing.assert_allclose(part.spread(np.array([0])), expected, rtol=1e-3)
    assert not images.requires_grad  # images are lent
