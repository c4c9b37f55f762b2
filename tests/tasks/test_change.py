"""Rows of pairs: both orders of the dates, and what is said of them together."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import jaccard_score

from tailora.backbones import Encoder
from tailora.counts import Groups
from tailora.data import open_changes, resize
from tailora.tasks.change import Change, in_both_orders, transition_logits
from tailora.tasks.segmentation import token_classes
from tailora.tasks.task import Measured, PlacedRow
from tailora.transitions import parse_transitions
from tests.data.change_pairs import write

CLASSES = ("no change", "a → b", "b → a", "a → c", "c → a")


def test_features_are_those_of_both_dates_and_how_far_they_differ(tiny_encoder):
    one = Encoder(tiny_encoder.backbone, pooling="mean", mean=[0.5] * 3, std=[0.25] * 3)
    pair = Encoder(tiny_encoder.backbone, pooling="mean", mean=[0.5] * 3, std=[0.25] * 3, dates=2)
    images = torch.rand((2, 6, 28, 28), generator=torch.Generator().manual_seed(0)) * 255
    with torch.inference_mode():
        first, second = (one.patch_features(date) for date in (images[:, :3], images[:, 3:]))
        found = pair.patch_features(images)
        both = Change().model(pair)(images)
        swapped = Change().model(pair)(images.roll(3, dims=1))
    assert pair.features == 3 * one.features == found.shape[-1]
    torch.testing.assert_close(found, torch.cat([first, second, (first - second).abs()], dim=-1))
    torch.testing.assert_close(both[:, 0], found)
    assert torch.equal(both[:, 0], swapped[:, 1])
    assert torch.equal(both[:, 1], swapped[:, 0])


def test_what_is_said_does_not_depend_on_the_order_of_the_dates():
    found = parse_transitions(CLASSES)
    logits = np.random.default_rng(0).normal(size=(2, 3, 3, len(CLASSES))).astype(np.float32)
    there = transition_logits(logits, (6, 6), found)
    back = transition_logits(logits[::-1], (6, 6), found)
    assert torch.equal(there[[0, 2, 1, 4, 3]], back)
    said = Change().decided(logits, (6, 6), CLASSES)
    np.testing.assert_array_equal(
        found.inverse[said], Change().decided(logits[::-1], (6, 6), CLASSES)
    )


def test_tokens_have_a_transition_in_both_orders(tmp_path):
    data = open_changes(write(tmp_path / "land"))
    found = Change().targets(data, (2, 3, 3))
    assert found.shape == (6, 2, 3, 3)
    inverse = parse_transitions(data.classes).inverse
    for i in range(6):
        own = token_classes(data.targets.read(i), (3, 3))
        assert (found[i, 0] == own).mean() > 0.8  # but for classes that no centre has
        np.testing.assert_array_equal(np.append(inverse, -1)[found[i, 0]], found[i, 1])


def test_objects_of_a_transition_are_its_areas_in_both_orders(tmp_path):
    data = open_changes(write(tmp_path / "land"))
    counts = Change().counts(data)
    index = {name: c for c, name in enumerate(data.classes)}
    expected = np.zeros(len(index), dtype=int)
    for i in data.indices("train"):
        mask = data.targets.read(int(i))
        for name, c in index.items():
            there, back = (mask == k for k in (c, parse_transitions(data.classes).inverse[c]))
            expected[index[name]] += ndimage.label(there)[1] + ndimage.label(back)[1]
    assert list(counts.of_objects().values) == expected.tolist()
    assert counts.values == data.counts("train").values


def test_masks_turn_with_their_images():
    targets = torch.arange(18).reshape(1, 2, 3, 3)
    turned = Change().turned(targets, np.array([1]))
    assert not torch.equal(turned, targets)
    assert torch.equal(turned[0, 1] - 9, turned[0, 0])


def test_features_of_both_orders_of_several_images():
    rows = torch.arange(12.0).reshape(2, 6)
    found = in_both_orders(rows)
    assert found[0].tolist() == [[0, 1, 2, 3, 4, 5], [2, 3, 0, 1, 4, 5]]


def test_false_alarms_are_of_images_with_themselves_and_shifted(tmp_path):
    """A model that calls changed whatever differs by a step of a known ramp, pixel by pixel."""
    data = open_changes(write(tmp_path / "land"), to_learn=False)
    found = parse_transitions(data.classes)
    change = int(np.flatnonzero(found.changed)[0])

    def said(image):
        apart = np.abs(image[:3].astype(int) - image[3:]).max(axis=0) > 40
        logits = np.zeros((2, *apart.shape, len(data.classes)), np.float32)
        logits[0, ..., change] = logits[1, ..., found.inverse[change]] = np.where(apart, 1, -1)
        return logits

    expected = []
    for i in range(2):
        first = data.source.read(i)[:3].astype(int)
        expected.append((np.abs(np.diff(first, axis=2)).max(axis=0) > 40).sum() / first[0].size)
    measured = Measured(
        data=data, samples=np.arange(2), units=None, codes=np.arange(len(data.classes)),
        rows=[PlacedRow("lora", "own", lambda _: np.zeros((1, 2, 3, 3, len(data.classes))))],
        classes=data.classes, groups=Groups((0,), (), ()), train_pixels=[1] * len(data.classes),
        fit="crop", image_size=6, replicates=2, confidence=0.9, seed=0, said=said,
    )  # fmt: skip
    entry, _ = Change().measure(measured)
    assert entry["false_alarms"]["identical"] == 0
    assert entry["false_alarms"]["shifted"] == pytest.approx(np.mean(expected))


def test_the_worst_pairs_of_rare_transitions_are_shown(tmp_path):
    """Each pixel is said at random; what stays is one class, and none that is shown."""
    data = open_changes(write(tmp_path / "land"), to_learn=False)
    found = parse_transitions(data.classes)
    n, count = len(data.classes), len(data)
    said = np.random.default_rng(5).integers(0, n, (count, 6, 6))
    logits = np.eye(n)[np.stack([said, found.inverse[said]], axis=1)].astype(np.float32)
    measured = Measured(
        data=data, samples=np.arange(count), units=None, codes=np.arange(n),
        rows=[PlacedRow("lora", "own", lambda i: logits[i])], classes=data.classes,
        groups=Groups((), (), (2, 1, 0)), train_pixels=[10, 20, 30],
        fit="crop", image_size=6, replicates=2, confidence=0.9, seed=0,
    )  # fmt: skip
    _, arrays = Change().measure(measured)
    truths = np.stack([data.targets.read(i) for i in range(count)])
    assert arrays["window_class"][0] == 1  # 0 is rarer, but stays
    assert set(arrays["window_class"]) == {1, 2}
    assert len(set(arrays["window_id"])) == len(arrays["window_id"]) == count
    worst = np.argmax((((truths == 1) ^ (said == 1)) & (truths >= 0)).sum(axis=(1, 2)))
    assert arrays["window_id"][0] == data.ids()[worst]
    known = truths[worst] >= 0
    expected = jaccard_score(truths[worst][known], said[worst][known], labels=[1], average=None)
    assert arrays["window_iou"][0] == pytest.approx(expected[0])
    dates = np.split(data.source.read(worst), 2)
    np.testing.assert_array_equal(
        arrays["window_picture"][0],
        np.concatenate([np.moveaxis(resize(one, 128), 0, -1) for one in dates], axis=1),
    )
    shown = arrays["window_predicted"][0][10::21, 10::21]  # a pixel of six is 21 wide
    one = np.where(found.changed, np.arange(n), np.argmin(found.changed))
    np.testing.assert_array_equal(shown[:6, :6], one[said[worst]])
