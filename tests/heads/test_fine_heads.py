"""Heads with logits finer than tokens: what they learn inside a token, and say of its centre."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tailora.backbones.encoder import PIXELS
from tailora.counts import ClassCounts, make_groups
from tailora.errors import ConfigError
from tailora.heads.map_probe import FINER, PixelStem, finest
from tailora.heads.probe import CHOSEN, Maps, ProbeData, check_kept
from tailora.heads.probes import find_probe
from tailora.heads.upernet import UPerNetHead
from tailora.runs.weights import HeadFacts, load_head, save_head

OPTIONS = {"channels": 8, "epochs": 20, "rate": 0.01, "tau": 0.0}


def draw(rng, images):
    """A feature of a token is the class of its left half; the right half has the other class."""
    features = (rng.normal(size=(images, 4, 4, 3)) * [1, 10, 0.1]).astype(np.float16)
    left = (features[..., 0] > 0).repeat(FINER, 1).repeat(FINER, 2)
    finer = np.where(np.arange(4 * FINER) % FINER < FINER // 2, left, ~left).astype(np.int16)
    finer[:, 0] = -1
    return Maps(features, finer[:, 2::FINER, 2::FINER], finer)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    train, val = draw(rng, 32), draw(rng, 8)
    rows = [(m.features.reshape(-1, 3).astype("f"), m.targets.ravel().astype(int))
            for m in (train, val)]  # fmt: skip
    counts = ClassCounts.from_labels(rows[0][1], names=("a", "b"))
    return ProbeData(
        *rows[0], *rows[1], counts, make_groups(counts), lambda t, p: float((t == p).mean()),
        maps=train, val_maps=val,
    )  # fmt: skip


@pytest.fixture(scope="module", params=["dpt", "upernet"])
def fitted(request, data):
    return request.param, find_probe(request.param).fit(data, OPTIONS)


def test_what_lies_inside_a_token_is_learnt(fitted, data):
    _, head = fitted
    maps = torch.from_numpy(data.val_maps.features.astype("f"))
    with torch.inference_mode():
        fine, centres = finest(head)(maps), head(maps)
    truth = data.val_maps.finer
    assert fine.shape == (*truth.shape, 2)
    assert (fine.argmax(-1).numpy() == truth)[truth >= 0].mean() > 0.9
    middle = fine.numpy().reshape(len(maps), 4, FINER, 4, FINER, 2)[:, :, 1:3, :, 1:3]
    np.testing.assert_allclose(centres, middle.mean(axis=(2, 4)), atol=1e-5)


def test_a_saved_head_is_the_same(fitted, data, tmp_path):
    name, head = fitted
    maps = torch.from_numpy(data.val_maps.features.astype("f"))
    save_head(head, tmp_path / "head.safetensors", HeadFacts(name, OPTIONS, 3, 2))
    read = load_head(tmp_path / "head.safetensors", classes=2, features=3)
    first, again = (find_probe(name).fit(data, OPTIONS | {"epochs": 1}) for _ in range(2))
    with torch.inference_mode():
        assert torch.equal(finest(read)(maps), finest(head)(maps))
        assert torch.equal(again(maps), first(maps))  # of equal seeds
    check_kept(find_probe(name), head, data.val_maps.features, 2, OPTIONS)


def with_pixels(maps, rng):
    """Tokens say nothing; of two bands, the first is bright where the class of a place is 1."""
    bright = (maps.finer == 1).repeat(2, 1).repeat(2, 2).astype("f")
    cells = torch.from_numpy(np.stack([bright, rng.normal(size=bright.shape)], axis=1)).float()
    folded = torch.nn.functional.pixel_unshuffle(cells, PIXELS).movedim(1, -1).numpy()
    noise = rng.normal(size=(*folded.shape[:3], 3))
    features = np.concatenate([noise, folded], axis=-1).astype(np.float16)
    return Maps(features, maps.targets, maps.finer, bands=2)


@pytest.mark.parametrize("name", ["dpt", "upernet"])
def test_pixels_under_tokens_are_seen_where_they_are(name, data, tmp_path):
    """What tokens do not know is learnt from pixels, place by place, and kept in a run."""
    rng = np.random.default_rng(1)
    train, val = (with_pixels(maps, rng) for maps in (data.maps, data.val_maps))
    head = find_probe(name).fit(replace(data, maps=train, val_maps=val), OPTIONS)
    options = getattr(head, CHOSEN)
    assert options == OPTIONS | {"bands": 2}
    maps, truth = torch.from_numpy(val.features.astype("f")), val.finer
    width = 3 + 2 * PIXELS**2
    save_head(head, tmp_path / "head.safetensors", HeadFacts(name, options, width, 2))
    read = load_head(tmp_path / "head.safetensors", classes=2, features=width)
    with torch.inference_mode():
        fine = finest(head)(maps)
        assert torch.equal(finest(read)(maps), fine)
    said = fine.argmax(-1).numpy()
    assert (said == truth)[truth >= 0].mean() > 0.95
    moved = [np.roll(said, step, axis) for step in (-1, 1) for axis in (1, 2)]
    assert max((one == truth)[truth >= 0].mean() for one in moved) < 0.9
    with pytest.raises(ConfigError, match="are no tokens beside pixels of 2 bands"):
        find_probe(name).empty(2 * PIXELS**2, 2, options)
    with pytest.raises(ConfigError, match="has no option 'bands'"):
        find_probe(name).check({"bands": 3}, data.counts)


def test_the_stem_sees_as_far_before_a_place_as_behind_it():
    """A kernel of odd width at every second pixel would be half a pixel beside the place."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stem = PixelStem(1, 8)
    pixels = torch.zeros(1, 1, 32, 32, requires_grad=True)
    folded = torch.nn.functional.pixel_unshuffle(pixels, PIXELS)
    said = stem(torch.zeros(1, 8, 16, 16), folded)
    [slope] = torch.autograd.grad(said[0, :, 7, 9].sum(), pixels)
    for axis, place in ((1, 7), (0, 9)):
        seen = torch.nonzero(slope[0, 0].abs().sum(dim=axis)).flatten()
        assert (seen.min() + seen.max()) / 2 == 2 * place + 0.5


def test_orders_of_dates_are_maps_of_their_own(fitted, data):
    _, head = fitted
    pairs = torch.from_numpy(data.val_maps.features.astype("f")).reshape(4, 2, 4, 4, 3)
    with torch.inference_mode():
        for said in (head, finest(head)):
            apart = torch.stack([said(one) for one in pairs.unbind(1)], dim=1)
            torch.testing.assert_close(said(pairs), apart, rtol=1e-4, atol=1e-5)


def test_a_loss_of_the_shelf_takes_the_place_of_the_usual_one(data):
    """Balanced softmax is logit adjustment with tau = 1, and focal loss without focus neither."""
    maps = torch.from_numpy(data.val_maps.features.astype("f"))
    for loss, tau in (({"loss": "balanced-softmax"}, 1.0), ({"loss": "focal", "gamma": 0.0}, 0.0)):
        options = {"channels": 8, "epochs": 1}
        by_name, usual = (
            find_probe("conv").fit(data, options | more) for more in (loss, {"tau": tau})
        )
        with torch.inference_mode():
            torch.testing.assert_close(by_name(maps), usual(maps), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"channels": 12}, "channels must be a multiple of 8, got 12"),
        ({"loss": "lovas"}, "lovasz"),
        ({"loss": "focal", "tau": 1.0}, "no option 'tau'; it has .* and those of its loss: gamma"),
        ({"gamma": 1.0}, "no option 'gamma'"),
        ({"loss": "tversky", "misses": -1}, "misses must be finite"),
    ],
)
def test_options_out_of_range_are_refused(options, says, data):
    with pytest.raises(ConfigError, match=says):
        find_probe("dpt").check(options, data.counts)


def test_a_last_batch_of_one_map_can_be_learnt_from():
    """Pooled to one place, a group of one channel would have nothing to be normalised by."""
    with torch.random.fork_rng():
        head = UPerNetHead(12, 2, 8)
    maps = torch.linspace(-1, 1, 48).reshape(1, 2, 2, 12)
    assert torch.isfinite(head.train()(maps)).all()


def test_a_loss_without_tau_needs_none(data):
    find_probe("dpt").check({"loss": "focal", "gamma": 1.0}, data.counts)
