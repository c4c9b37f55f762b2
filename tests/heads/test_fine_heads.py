"""Heads with logits finer than tokens: what they learn inside a token, and say of its centre."""

import numpy as np
import pytest
import torch

from tailora.counts import ClassCounts, make_groups
from tailora.errors import ConfigError
from tailora.heads.map_probe import FINER, finest
from tailora.heads.probe import Maps, ProbeData, check_kept
from tailora.heads.probes import find_probe
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


def test_a_loss_without_tau_needs_none(data):
    find_probe("dpt").check({"loss": "focal", "gamma": 1.0}, data.counts)
