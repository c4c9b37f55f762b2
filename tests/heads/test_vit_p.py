"""Segments and their points by hand, fusion with the published values."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tailora.counts import ClassCounts, make_groups
from tailora.errors import ConfigError
from tailora.heads.dpt import DPTHead
from tailora.heads.map_probe import FINER, finest
from tailora.heads.probe import Maps, ProbeData, check_kept
from tailora.heads.probes import find_probe
from tailora.heads.vit_p import ViTPHead, draw_points, fuse, segments, tokens_under

OPTIONS = {"channels": 8, "epochs": 20, "rate": 0.02, "tau": 0.0}


def test_fusion_has_the_published_values():
    """(.6, .3, .1) and (.1, .8, .1) with a share of .4, before 20 % are void."""
    found = fuse(torch.tensor([0.6, 0.3, 0.1]).log(), torch.tensor([0.1, 0.8, 0.1]).log(), 0.4)
    expected = np.array([0.280014, 0.424423, 0.095563]) / 0.8
    np.testing.assert_allclose(found.softmax(dim=0), expected, atol=1e-6)


def test_segments_are_connected_areas_with_their_surest_place():
    said = np.array([[0, 0, 1], [2, 1, 0], [2, 2, 0]])  # corners do not connect
    sure = np.array([[1, 3, 2], [1, 4, 1], [5, 2, 2]])
    logits = np.where(said == np.arange(3)[:, None, None], sure, 0.0)
    number, points = segments(torch.tensor(logits))
    groups = {tuple(np.flatnonzero(number == k)): points[k] for k in range(number.max() + 1)}
    assert groups == {(0, 1): 1, (2,): 2, (4,): 4, (3, 6, 7): 6, (5, 8): 8}


def test_a_point_sees_the_token_it_lies_in():
    """Two rows and three columns of tokens, each of four by two places."""
    places = np.ravel_multi_index(([0, 3, 4, 7], [1, 2, 5, 0]), (8, 6))
    assert tokens_under(places, (8, 6), (2, 3)).tolist() == [0, 1, 5, 3]


def test_points_are_drawn_from_all_classes_of_a_map_alike():
    targets = torch.tensor([[0] * 95 + [1] * 4 + [-1], [2] * 50 + [-1] * 50])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        points = draw_points(targets, 4000)
    drawn = targets.gather(1, points)
    assert (drawn[0] == 1).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert (drawn[1] == 2).all()
    rare = torch.bincount(points[0][drawn[0] == 1])[95:]
    assert rare.min() > 0.8 * rare.max()


def test_what_it_says_is_fused_segment_by_segment():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = ViTPHead(DPTHead(5, 3, 8), 5, 3, 0.3).eval()
        maps = torch.randn(2, 4, 3, 5)
    head.mean += 0.5
    with torch.no_grad():
        found = finest(head)(maps)
        scaled = maps - 0.5
        proposed = head.proposer.logits(scaled.movedim(-1, 1)).movedim(1, -1)
    for own, said, tokens in zip(found, proposed, scaled, strict=True):
        number, points = segments(said.movedim(-1, 0))
        for at, k in np.ndenumerate(number):
            row, column = divmod(points[k], said.shape[1])
            point = head.point(tokens[row // FINER, column // FINER]).softmax(dim=0)
            q = said[at].softmax(dim=0) ** 0.7 * point**0.3
            torch.testing.assert_close(own[at].softmax(dim=0), q / q.sum(), rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def data():
    """The second class is one token in sixteen, and half of them look like the first."""
    rng = np.random.default_rng(0)
    made = []
    for images in (40, 20):
        finer = np.zeros((images, 16, 16), np.int16)
        features = rng.normal(size=(images, 4, 4, 3)).astype(np.float16)
        for i, (row, column) in enumerate(rng.integers(0, 4, (images, 2))):
            finer[i, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 1
            features[i, row, column, 0] += 1.5
        made.append(Maps(features, finer[:, 2::FINER, 2::FINER], finer))
    rows = [(m.features.reshape(-1, 3).astype("f"), m.targets.ravel().astype(int)) for m in made]
    counts = ClassCounts.from_labels(rows[0][1], names=("a", "b"))
    return ProbeData(
        *rows[0], *rows[1], counts, make_groups(counts), lambda t, p: float((t == p).mean()),
        maps=made[0], val_maps=made[1],
    )  # fmt: skip


def test_the_classifier_of_points_finds_more_of_a_rare_class(data):
    """What the head says with points and without, of one training; and a saved head is the same."""
    head = find_probe("vit-p").fit(data, OPTIONS | {"share": 0.6})
    assert isinstance(head, ViTPHead)
    maps, truth = torch.from_numpy(data.val_maps.features.astype("f")), data.val_maps.finer
    tokens = ((maps - head.mean) / head.spread).flatten(0, 2)
    with torch.inference_mode():
        rare = data.val_maps.targets.ravel() == 1
        recall = (head.point(tokens).argmax(dim=1).numpy() == 1)[rare].mean()
        alone = head.proposer.logits(((maps - head.mean) / head.spread).movedim(-1, 1))
        proposed = (alone.argmax(dim=1).numpy() == 1)[truth == 1].mean()
        fused = (finest(head)(maps).argmax(dim=-1).numpy() == 1)[truth == 1].mean()
    assert recall > proposed + 0.1
    assert fused >= proposed
    check_kept(find_probe("vit-p"), head, data.val_maps.features, 2, OPTIONS | {"share": 0.6})


def test_points_learn_from_moved_rows_all_classes_alike(data):
    """N(-1, 1) and N(1, 1) along the last dimension, 19 : 1: the border of equal shares is 0.

    That of the shares as they are is log(19) / 2, about 1.5. The proposer is that of maps, to the
    bit: there the first dimension tells classes apart, and the last nothing.
    """
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], [3800, 200])
    rows = rng.normal(size=(4000, 3)).astype(np.float32)
    rows[:, 2] += 2 * labels - 1
    moved = replace(data, features=rows, labels=labels, moved=True)
    plain, head = (find_probe("vit-p").fit(one, OPTIONS) for one in (data, moved))
    own, other = plain.state_dict(), head.state_dict()
    differ = {key for key in own if not torch.equal(own[key], other[key])}
    assert differ == {"point.weight", "point.bias"}
    along = (other["point.weight"][1] - other["point.weight"][0]) / other["spread"]
    assert along.abs().argmax() == 2
    bias = other["point.bias"][1] - other["point.bias"][0] - along @ other["mean"]
    assert -bias / along[2] == pytest.approx(0, abs=0.25)
    np.testing.assert_allclose(along[:2] / along[2], 0, atol=0.2)


def test_it_learns_from_maps_without_finer_labels(data):
    maps = replace(data.maps, finer=None)
    head = find_probe("vit-p").fit(replace(data, maps=maps), OPTIONS | {"epochs": 1})
    assert torch.isfinite(head.point.weight).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [({"share": 1.5}, "share must lie in .0, 1., got 1.5"),
     ({"channels": 12}, "channels must be a multiple of 8")],
)  # fmt: skip
def test_values_out_of_range_are_refused(options, says, data):
    with pytest.raises(ConfigError, match=says):
        find_probe("vit-p").check(options, data.counts)
