"""The eight symmetries of a square, and means over them."""

import numpy as np
import torch

from tailora.backbones.symmetries import (
    VIEWS,
    dihedral,
    maps_over_views,
    over_views,
    turn_all,
    turn_back,
)

IMAGES = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
WEIGHT = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(1))


def by_hand(image, turn):
    """NumPy's own turns: mirrored first from 4 on, then quarter turns counter-clockwise."""
    array = image.numpy()[..., ::-1] if turn >= 4 else image.numpy()
    return np.rot90(array, turn % 4, (-2, -1))


def test_the_views_are_the_eight_symmetries_each_once():
    views = [turn_all(IMAGES[:1], turn).numpy() for turn in range(VIEWS)]
    assert len({view.tobytes() for view in views}) == 8
    for turn, view in enumerate(views):
        np.testing.assert_array_equal(view, by_hand(IMAGES[:1], turn))
        assert torch.equal(turn_back(torch.from_numpy(view.copy()), turn), IMAGES[:1])
    mixed = dihedral(IMAGES, np.array([5, 0, 2]))
    for row, turn in enumerate((5, 0, 2)):
        np.testing.assert_array_equal(mixed[row], by_hand(IMAGES[row], turn))


def weighted(images):
    """A feature that sees where things lie in the image."""
    return (images * WEIGHT).sum(dim=(-2, -1))


def test_the_mean_feature_is_that_of_the_views_and_does_not_depend_on_how_an_image_lies():
    found = over_views(weighted, IMAGES)
    expected = np.mean(
        [(by_hand(IMAGES, turn) * WEIGHT.numpy()).sum(axis=(-2, -1)) for turn in range(8)], axis=0
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for turn in range(8):
        torch.testing.assert_close(over_views(weighted, turn_all(IMAGES, turn)), found)
    assert not torch.allclose(weighted(turn_all(IMAGES, 1)), weighted(IMAGES), atol=0.1)


def test_maps_are_turned_back_before_they_are_averaged():
    """A weight by place is averaged over the symmetries, and the image stays where it is."""

    def model(images):
        return (images * WEIGHT).movedim(1, -1)

    even = np.mean([by_hand(WEIGHT, turn) for turn in range(8)], axis=0)
    found = maps_over_views(model, IMAGES)
    np.testing.assert_allclose(found, np.moveaxis(IMAGES.numpy() * even, 1, -1), rtol=1e-5)
