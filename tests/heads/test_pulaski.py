"""A head that draws masks: its parts by hand, and discs that three raters draw differently."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from tailora.counts import ClassCounts, make_groups
from tailora.errors import ConfigError
from tailora.heads.map_probe import finest
from tailora.heads.probe import Maps, ProbeData, check_kept
from tailora.heads.probes import find_probe
from tailora.heads.pulaski import Gaussian, PulaskiHead, PulaskiLoss, as_points, rater_sets, shares
from tailora.metrics.raters import RaterDistances

OPTIONS = {"channels": 16, "epochs": 60, "rate": 0.003}
RADII = (2.5, 4.0, 5.5)


def test_divergence_is_that_of_torchs_distributions():
    rng = np.random.default_rng(0)
    values = torch.tensor(rng.normal(size=(4, 5, 3)))
    one, other = Gaussian(values[0], values[1]), Gaussian(values[2], values[3])
    first, second = (Independent(Normal(g.mean, g.spread.exp()), 1) for g in (one, other))
    torch.testing.assert_close(one.divergence(other), kl_divergence(first, second))
    torch.testing.assert_close(one.divergence(one), torch.zeros(5, dtype=torch.float64))


def test_a_gap_of_one_rater_is_filled_by_the_others():
    masks = torch.tensor([[0, 1, -1], [0, 2, 1], [0, -1, 2]])
    found = shares(masks, 3)
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(3, 3))
    assert found[0, 2].tolist() == [0, 0.5, 0.5]
    assert found[2, 1].tolist() == [0, 0.5, 0.5]
    assert found[1].argmax(dim=-1).tolist() == [0, 2, 1]


def test_masks_without_a_class_in_common_are_one_apart():
    first, second = as_points(torch.eye(2)[torch.tensor([[0, 0, 1, 1], [1, 1, 0, 0]])])
    assert (first - second).norm().item() == pytest.approx(1)


def test_raters_of_an_image_are_a_set_and_empty_masks_are_in_none():
    targets = np.array([[[0]], [[1]], [[-1]], [[1]], [[0]]])
    found = rater_sets(targets, np.array([7, 7, 7, 3, 7]))
    assert [one.tolist() for one in found] == [[3], [0, 1, 4]]
    assert [one.tolist() for one in rater_sets(targets, None)] == [[0], [1], [3], [4]]


def test_the_loss_of_an_image_is_a_distance_of_its_masks_alone():
    """Two images of two pixels; draws that are the masks but for the scale of their logits."""
    counts = ClassCounts(("a", "b"), (3, 1))
    loss = PulaskiLoss(counts, distance="energy", draws=2, kl=0.5, tau=0.0)
    masks = [torch.tensor([[[0, 1]], [[0, 0]]]), torch.tensor([[[1, -1]]])]
    one_hot = torch.tensor([[[[[9, -9]], [[-9, 9]]], [[[-9, 9]], [[9, 9]]]],
                            [[[[9, 9]], [[-9, -9]]], [[[-9, 9]], [[9, 9]]]]]) * 9.0  # fmt: skip
    found = loss(one_hot, masks, torch.tensor([2.0, 4.0]))
    # image 1: both sets are the same, apart by sqrt(1/2): 2 * .5 d - d - .5 d; image 2: no distance
    expected = -np.sqrt(0.5) / 2 / 2 + 0.5 * 3
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_tau_raises_what_is_rare_by_its_prior():
    counts = ClassCounts(("a", "b"), (9, 1))
    drawn = torch.zeros(2, 1, 2, 1, 1)
    told = [
        PulaskiLoss(counts, distance="energy", draws=2, kl=0.0, tau=tau)(
            drawn, [torch.tensor([[[1]]])], torch.zeros(1)
        ).item()
        for tau in (0.0, 1.0)
    ]
    # in training b has a tenth of the chance, so that even logits are twice 0.9 away, not 0.5
    np.testing.assert_allclose(told, [1.0, 1.8], atol=1e-6)


@pytest.fixture(scope="module")
def discs():
    """Images of 4 x 4 tokens, and discs of three radii around the same centre."""
    rng = np.random.default_rng(0)
    made = []
    rows, columns = np.mgrid[:16, :16] + 0.5
    down, across = np.mgrid[:4, :4] * 4 + 2.0
    for images in (30, 15):
        features, masks = [], []
        for row, column in rng.uniform(5, 11, (images, 2)):
            seen = [down - row, across - column, np.hypot(down - row, across - column)]
            features += [np.stack(seen, axis=-1) / 4] * len(RADII)
            masks += [np.hypot(rows - row, columns - column) < radius for radius in RADII]
        finer = np.array(masks).astype(np.int16)
        pictures = np.repeat(np.arange(images), len(RADII))
        coarse = finer[:, 2::4, 2::4]
        made.append(Maps(np.array(features, np.float16), coarse, finer, pictures=pictures))
    train, val = made
    labels = train.targets.ravel().astype(np.int64)
    counts = ClassCounts(("out", "in"), tuple(np.bincount(labels).tolist()))
    rows = train.features.reshape(-1, 3).astype(np.float32)
    return ProbeData(rows, labels, rows, labels, counts, make_groups(counts), lambda _a, _b: 0.0,
                     maps=train, val_maps=val)  # fmt: skip


def fitted(data, **options):
    return find_probe("pulaski").fit(data, OPTIONS | options)


@pytest.fixture(scope="module")
def head(discs):
    return fitted(discs)


def energy(head, maps):
    """Mean energy distance to the raters, and how far the areas of draws are apart."""
    found, n = RaterDistances(2, 1), len(RADII)
    seen = torch.from_numpy(maps.features[::n].astype(np.float32))
    with torch.inference_mode():
        said = finest(head)(seen).argmax(dim=-1).numpy()
        drawn = head.masks(seen).argmax(dim=-1).numpy() if hasattr(head, "masks") else said[:, None]
    for i, (one, own) in enumerate(zip(said, drawn, strict=True)):
        found.add(list(maps.finer[n * i : n * i + n]), [one], unit=i, drawn=[list(own)])
    return np.mean(found.energy), drawn.sum(axis=(2, 3)).std(axis=1).mean()


def test_draws_are_spread_as_raters_are_and_those_of_dice_are_not(discs, head):
    dice = find_probe("dpt").fit(discs, OPTIONS | {"loss": "dice"})
    apart, spread = energy(head, discs.val_maps)
    apart_dice, spread_dice = energy(dice, discs.val_maps)
    assert spread_dice == 0
    areas = [discs.val_maps.finer[k :: len(RADII)].sum(axis=(1, 2)) for k in range(len(RADII))]
    assert spread == pytest.approx(np.std(areas, axis=0).mean(), rel=0.5)
    assert apart < apart_dice / 2


@pytest.mark.parametrize("distance", ["sinkhorn", "frechet"])
def test_other_distances_spread_them_too(discs, distance):
    few = slice(0, 12)
    train = discs.maps
    maps = Maps(train.features[few], train.targets[few], train.finer[few], 0, train.pictures[few])
    _, spread = energy(fitted(replace(discs, maps=maps), distance=distance), discs.val_maps)
    assert spread > 5


def test_a_prediction_is_the_mean_of_its_draws(discs, head):
    seen = torch.from_numpy(discs.val_maps.features[:3].astype(np.float32))
    with torch.inference_mode():
        mean = head.masks(seen).softmax(dim=-1).mean(dim=1)
        torch.testing.assert_close(finest(head)(seen).softmax(dim=-1), mean)
        assert head.masks(seen).shape == (3, len(head.noise), 16, 16, 2)
        assert head(seen).shape == (3, 4, 4, 2)
    assert isinstance(head, PulaskiHead)
    torch.testing.assert_close(head.noise.sum(dim=0), torch.zeros(3))


def test_is_kept_and_repeats_and_leaves_torchs_generator_as_it_is(discs, head):
    check_kept(find_probe("pulaski"), head, discs.val_maps.features, 2, OPTIONS)
    before = torch.random.get_rng_state()
    first, again = (fitted(discs, epochs=1) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, value in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_images_without_several_raters_are_sets_of_one(discs):
    maps = replace_pictures(discs.maps, None)
    head = fitted(replace(discs, maps=maps), epochs=1)
    assert np.isfinite(energy(head, discs.val_maps)).all()


def replace_pictures(maps, pictures):
    return Maps(maps.features, maps.targets, maps.finer, maps.bands, pictures)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"distance": "hausdorff"}, "unknown distance 'hausdorff'"),
        ({"draws": 1}, "draws must be a whole number from 2, got 1"),
        ({"kl": -1}, "kl must be finite and at least 0, got -1"),
        ({"tau": float("inf")}, "tau must be finite and at least 0"),
        ({"channels": 12}, "channels must be a multiple of 8, got 12"),
        ({"loss": "dice"}, "probe 'pulaski' has no option 'loss'"),
        ({"boundary": 0.5}, "probe 'pulaski' has no option 'boundary'"),
    ],
)
def test_options_that_do_not_fit_are_refused(discs, options, says):
    with pytest.raises(ConfigError, match=says):
        find_probe("pulaski").fit(discs, OPTIONS | options)
