"""The convolutional head: what lies around a place decides, which no row alone tells."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from tailora.counts import ClassCounts, make_groups
from tailora.errors import ConfigError
from tailora.heads import map_probe
from tailora.heads.probe import Maps, ProbeData, check_kept
from tailora.heads.probes import find_probe
from tailora.runs.weights import HeadFacts, load_head, save_head

OPTIONS = {"channels": 16, "epochs": 30, "rate": 0.01, "tau": 0.0}


def draw(rng, images):
    """The class of a place is the sign of its left neighbour; the first column has none."""
    features = (rng.normal(size=(images, 6, 6, 3)) * [1, 10, 0.1]).astype(np.float16)
    targets = np.full((images, 6, 6), -1, np.int16)
    targets[:, :, 1:] = features[:, :, :-1, 0] > 0
    return Maps(features, targets)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    train, val = draw(rng, 40), draw(rng, 12)
    rows = [
        (maps.features[maps.targets >= 0].astype("f"), maps.targets[maps.targets >= 0].astype(int))
        for maps in (train, val)
    ]
    counts = ClassCounts.from_labels(rows[0][1], names=("a", "b"))
    return ProbeData(
        *rows[0], *rows[1], counts, make_groups(counts), lambda t, p: float((t == p).mean()),
        maps=train, val_maps=val,
    )  # fmt: skip


@pytest.fixture(scope="module")
def head(data):
    return find_probe("conv").fit(data, OPTIONS)


def right(head, maps):
    with torch.inference_mode():
        said = head(torch.from_numpy(maps.features.astype("f"))).argmax(-1).numpy()
    known = maps.targets >= 0
    return (said == maps.targets)[known].mean()


def test_neighbours_decide(head, data):
    alone = LogisticRegression().fit(data.features, data.labels)
    assert alone.score(data.val_features, data.val_labels) < 0.6
    assert right(head, data.val_maps) > 0.9


def test_it_standardises_by_places_with_a_class(head, data):
    np.testing.assert_allclose(head.mean, data.features.mean(0), atol=1e-4)
    np.testing.assert_allclose(head.spread, data.features.std(0), rtol=1e-3)


def test_equal_seeds_give_equal_heads_and_a_saved_one_is_the_same(head, data, tmp_path):
    again = find_probe("conv").fit(data, OPTIONS)
    maps = torch.from_numpy(data.val_maps.features.astype("f"))
    path = tmp_path / "head.safetensors"
    save_head(head, path, HeadFacts("conv", OPTIONS, 3, 2))
    read = load_head(path, classes=2, features=3)
    with torch.inference_mode():
        expected = head(maps)
        assert torch.equal(again(maps), expected)
        assert torch.equal(read(maps), expected)
    check_kept(find_probe("conv"), head, data.val_maps.features, 2, OPTIONS)


def test_options_given_as_lists_are_chosen_on_validation(data):
    found = find_probe("conv").fit(data, OPTIONS | {"epochs": [1, 30]})
    assert right(found, data.val_maps) > 0.9


def test_few_images_are_passed_over_more_often(data, monkeypatch):
    """Sixteen images a step: 20 epochs, or as many as 500 steps take."""
    taken = []
    monkeypatch.setattr(map_probe, "train_map_head", lambda *_, **how: taken.append(how["epochs"]))
    for images in (16, 17, 40):
        maps = Maps(data.maps.features[:images], data.maps.targets[:images])
        find_probe("conv").fit(replace(data, maps=maps), {"channels": 8})
    assert taken == [500, 250, 167]
    assert [map_probe.enough_epochs(n) for n in (399, 400, 401, 5000)] == [20, 20, 20, 20]
    find_probe("conv").fit(data, {"channels": 8, "epochs": 3})
    assert taken[-1] == 3


@pytest.mark.parametrize(("images", "epochs"), [(1, 1), (1, 2), (1, 10), (40, 1)])
def test_few_steps_are_enough_to_train(images, epochs, data):
    few = Maps(data.maps.features[:images], data.maps.targets[:images])
    found = find_probe("conv").fit(replace(data, maps=few), OPTIONS | {"epochs": epochs})
    weights = torch.cat([value.flatten() for value in found.parameters()])
    assert torch.isfinite(weights).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"width": 3}, "no option 'width'; it has channels, epochs, rate, tau"),
        ({"channels": 0}, "channels must be a whole number from 1, got 0"),
        ({"epochs": 2.5}, "epochs must be a whole number from 1, got 2.5"),
        ({"rate": [0.1, -1]}, "rate must be finite and above 0, got -1"),
        ({"tau": -1.0}, "tau must be finite and at least 0"),
    ],
)
def test_options_out_of_range_are_refused(options, says, data):
    with pytest.raises(ConfigError, match=says):
        find_probe("conv").fit(data, options)


def test_rows_alone_are_no_maps(data):
    with pytest.raises(ConfigError, match="sees maps of tokens, and there are none"):
        find_probe("conv").fit(ProbeData(**{**vars(data), "maps": None}))
