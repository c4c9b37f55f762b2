"""Objects as decisions: which token decides, how boxes turn, and how places become detections."""

import numpy as np
import pytest
import torch

from tailora.backbones.symmetries import dihedral
from tailora.boxes import iou_matrix, to_boxes, to_corners, turned_boxes
from tailora.data import open_shapes_dota
from tailora.heads.boxed import logits_in_boxes
from tailora.tasks.detection import (
    Detection,
    as_shares,
    detections_of,
    likely_places,
    tokens_at,
)


def drawn(box, side=40):
    """A picture of one box (side, side), 1 inside."""
    rows, columns = np.mgrid[:side, :side] + 0.5
    x, y = columns - box[0], rows - box[1]
    u = np.cos(box[4]) * x + np.sin(box[4]) * y
    v = np.cos(box[4]) * y - np.sin(box[4]) * x
    return torch.from_numpy(((abs(u) < box[2] / 2) & (abs(v) < box[3] / 2)).astype(np.float32))


@pytest.mark.parametrize("turn", range(8))
def test_boxes_turn_with_their_images(turn):
    box = np.array([12.3, 25.1, 18, 6, 0.4])
    picture = dihedral(drawn(box)[None, None], np.array([turn]))[0, 0]
    again = drawn(turned_boxes(box[None], turn, 40)[0])
    assert (picture != again).float().mean() < 0.004  # borders of pixels


def test_the_token_at_the_centre_decides_and_of_two_the_rarer_class():
    data = open_shapes_dota(train=40, test=12, ratio=3)
    grid = (2, 2)  # tokens of 64 px: two centres in one are frequent
    found = Detection().targets(data, grid)
    counts = data.counts("train").values
    shared = 0
    for i in range(len(data)):
        one, expected = data.targets.read(i).inside, np.full(grid, -1)
        for (x, y), c in zip(to_boxes(one.corners)[:, :2], one.classes, strict=True):
            row, column = int(y // 64), int(x // 64)
            other = expected[row, column]
            shared += other >= 0
            if other < 0 or counts[c] < counts[other]:
                expected[row, column] = c
        assert found[i].tolist() == expected.tolist()
    assert shared


def test_images_are_as_large_as_their_tiles_in_whole_tokens_or_last_strides():
    """Tiles of 128 px: nine tokens of 14 px, and four cells of 32 px where patches have 4 or 1."""
    data = open_shapes_dota(train=40, test=12, ratio=3)
    sizes = [Detection().image_size(data, patch) for patch in (14, 4, 1)]
    assert sizes == [126, 128, 128]


def test_points_outside_an_image_take_the_nearest_token():
    row, column = tokens_at(np.array([[-3.0, 5], [40, 27.9], [14, 60]]), 28, (2, 2))
    assert (row.tolist(), column.tolist()) == ([0, 1, 1], [0, 1, 1])


def test_every_object_that_counts_is_a_row_even_of_two_in_one_token():
    data = open_shapes_dota(train=40, test=12, ratio=3)
    samples = np.arange(5, 20)
    found = Detection().decisions(data, samples, np.zeros(0))
    whole = [data.targets.read(i).inside for i in samples.tolist()]
    assert found.sample.tolist() == np.repeat(samples, [len(one.classes) for one in whole]).tolist()
    assert found.labels.tolist() == np.concatenate([one.classes for one in whole]).tolist()
    expected = np.concatenate([to_boxes(one.corners) for one in whole])
    np.testing.assert_allclose(found.boxes[:, :4] * 128, expected[:, :4], atol=1e-9)
    np.testing.assert_allclose(found.boxes[:, 4], expected[:, 4])
    x, y = expected[0, :2]
    name = Detection().names(data, found, (9, 9))[0]
    assert name == f"{data.source.id(5)}#{x:.0f},{y:.0f}"


class Last(torch.nn.Module):
    """The square of the feature is the logit of the second class; it sees maps or rows."""

    def __init__(self, *, sees_maps):
        super().__init__()
        self.sees_maps = sees_maps
        self.shapes = []

    def forward(self, features):
        self.shapes.append(features.shape)
        return torch.cat([0 * features, features.square()], dim=-1)


def test_a_head_sees_vectors_of_boxes_and_one_on_maps_is_read_under_them():
    """Half of the box lies on 1, half on 3: the square of their mean, or the mean of squares."""
    maps = torch.tensor([[[[1.0], [3.0]], [[1.0], [3.0]]]] * 2)
    boxes = [np.zeros((0, 5)), np.array([[0.5, 0.5, 0.5, 0.5, np.pi / 2]] * 3)]
    rows, placed = Last(sees_maps=False), Last(sees_maps=True)
    none, found = logits_in_boxes(rows, maps, boxes)
    assert (none.shape, found.shape) == ((0, 2), (3, 2))
    np.testing.assert_allclose(found[:, 1], 2.0**2, rtol=1e-6)
    np.testing.assert_allclose(logits_in_boxes(placed, maps, boxes)[1][:, 1], 5.0, rtol=1e-6)
    assert (rows.shapes, placed.shapes) == ([(3, 1)], [(2, 2, 2, 1)])


def test_the_class_of_a_box_scores_it():
    """Two boxes of one place fall to one; a second likely class keeps its own detection."""
    detected = np.array([
        [0.9, 10, 10, 8, 4, 0.3], [0.8, 10.5, 10, 8, 4, 0.3], [0.5, 30, 30, 6, 6, 0],
        [0.04, 5, 30, 6, 6, 0],
    ])  # fmt: skip
    places = likely_places(detected[[3, 1, 0, 2]])
    np.testing.assert_array_equal(places, detected[:3])
    logits = np.log([[0.7, 0.28, 0.02], [0.7, 0.28, 0.02], [0.01, 0.01, 0.98]])
    corners, scores, classes = detections_of(places, logits)
    assert classes.tolist() == [0, 2, 1]
    np.testing.assert_allclose(scores, [0.9 * 0.7, 0.5 * 0.98, 0.9 * 0.28])
    expected = to_corners(detected[[0, 2, 0], 1:])
    assert (np.diag(iou_matrix(corners, expected)) > 0.999).all()


def test_nothing_detected_gives_empty_arrays():
    places = likely_places(np.zeros((5, 6)))
    corners, scores, classes = detections_of(places, np.zeros((0, 3)))
    assert as_shares(places[:, 1:], 28).shape == (0, 5)
    assert (corners.shape, scores.shape, classes.shape) == ((0, 4, 2), (0,), (0,))


def test_losses_follow_the_turn_of_the_images():
    """Maps and boxes turned alike cost the same where the detector is symmetric."""
    data = open_shapes_dota(train=40, test=12, ratio=3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = Detection().detector(4, (8, 8), 112)
        for part in detector.modules():
            if isinstance(part, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                with torch.no_grad():
                    part.weight.copy_(
                        part.weight.mean(dim=(2, 3), keepdim=True).expand_as(part.weight)
                    )
        features = torch.randn(2, 8, 8, 4)
    samples = np.array([0, 3])
    plain = Detection().detector_losses(detector, features, data, samples, None)
    turns = np.array([1, 6])
    turned = dihedral(features.movedim(-1, 1), turns).movedim(1, -1)
    other = Detection().detector_losses(detector, turned, data, samples, turns)
    still = Detection().detector_losses(detector, turned, data, samples, None)
    for name in ("presence", "centrality"):
        assert other[name].item() == pytest.approx(plain[name].item(), rel=1e-3)
    assert abs(still["presence"] - plain["presence"]) > 1e-3 * plain["presence"]


def test_how_well_a_class_is_found_is_that_of_the_run_and_unknown_where_images_are_few():
    rows = [[[0.0, 0.1], [0.0, 0.2]], [[0.3, 0.9], None]]
    found = {"rows": [{"per_class": [{"ap50_interval": ends} for ends in row]} for row in rows]}
    assert Detection().found_intervals(found) == [(0.3, 0.9), (0.0, 1.0)]
