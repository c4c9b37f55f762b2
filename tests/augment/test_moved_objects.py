"""Augmentation that moves objects: boxes by shapely, pixels by drawing, what is left of them."""

import numpy as np
import pytest
import shapely
import torch
from PIL import Image, ImageDraw
from shapely import affinity

from tailora.augment.moved_objects import (
    ImageObjects,
    MovedObjects,
    Stock,
    covered,
    move_image,
    pasted,
    read_moved_objects,
)
from tailora.boxes import moved_boxes, to_corners
from tailora.data import open_object_tiles, open_shapes_dota, prepare_images
from tailora.detection import focal_presence
from tailora.detection.rotated_fcos import assign
from tailora.errors import ConfigError
from tailora.methods.stages import rows_of_maps
from tailora.tasks.detection import Detection
from tailora.train.objectives import Moving

NONE = ImageObjects(np.zeros((0, 5)), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool))


def objects(*boxes):
    return ImageObjects(
        np.array(boxes, dtype=float), np.arange(len(boxes)), np.ones(len(boxes), dtype=bool)
    )


@pytest.mark.parametrize(("angle", "scale"), [(0.3, 1.0), (-0.7, 0.8), (0.0, 1.2), (2.0, 1.1)])
def test_corners_are_those_that_shapely_turns_and_scales(angle, scale):
    boxes = np.array([[12.3, 25.1, 18, 6, 0.4], [30, 8, 5, 9, -1.2]])
    moved = to_corners(moved_boxes(boxes, angle, scale, 40))
    for before, after in zip(to_corners(boxes), moved, strict=True):
        shape = affinity.rotate(shapely.Polygon(before), angle, (20, 20), use_radians=True)
        shape = affinity.scale(shape, scale, scale, origin=(20, 20))
        np.testing.assert_allclose(after, shapely.get_coordinates(shape)[:4], atol=1e-9)


def test_an_image_moves_with_its_boxes_and_beyond_it_is_its_mean():
    box, angle, scale = np.array([24.0, 18.0, 16, 7, 0.4]), 0.6, 0.7
    image = torch.from_numpy(200 * covered(box, 40))[None].to(torch.uint8)
    moved = move_image(image, angle, scale)
    assert moved.dtype == torch.uint8
    own = moved_boxes(box[None], angle, scale, 40)[0]
    mean = image.float().mean().round().item()
    assert moved[0, 0, 0] == moved[0, -1, -1] == mean
    assert ((moved[0] > 100).numpy() != covered(own, 40)).mean() < 0.01
    seen = objects(box).moved(angle, scale, 40).seen
    beyond = ~covered(seen, 40, margin=1.0)
    assert beyond.sum() > 300
    assert (moved[0].numpy()[beyond] == mean).all()


def test_what_leaves_by_half_is_dropped_and_what_is_cut_does_not_count():
    """Twice as large, of 16 px: six, twelve and all are left."""
    three = objects([9, 20, 8, 8, 0], [12, 20, 8, 8, 0], [20, 20, 8, 8, 0])
    left = three.moved(0.0, 2.0, 40)
    assert left.classes.tolist() == [1, 2]
    assert left.counts.tolist() == [False, True]
    np.testing.assert_allclose(left.boxes, [[4, 20, 16, 16, 0], [20, 20, 16, 16, 0]])


def test_a_pasted_object_keeps_its_size_and_its_pixels():
    box, rng = np.array([14.4, 22.7, 12, 6, 0.5]), np.random.default_rng(0)
    source = torch.arange(40 * 40).reshape(1, 40, 40) + 1000
    other = objects([30, 30, 12, 8, 0.2])
    image, own = pasted(torch.zeros(1, 40, 40, dtype=torch.int64), other, source, box, 5, 1.0, rng)
    place = own.boxes[1]
    assert own.classes.tolist() == [0, 5]
    assert own.counts.all()
    np.testing.assert_array_equal(place[2:], box[2:])
    shift = place[:2] - box[:2]
    np.testing.assert_allclose(shift, shift.round(), atol=1e-9)
    inside = covered(place, 40)
    rows, columns = np.nonzero(inside)
    dx, dy = shift.round().astype(int)
    expected = 1000 + 40 * (rows - dy) + columns - dx
    np.testing.assert_array_equal(image[0].numpy()[inside], expected)
    shapes = [shapely.Polygon(one) for one in to_corners(own.boxes)]
    assert not shapes[0].intersects(shapes[1])
    assert shapely.box(0, 0, 40, 40).contains(shapes[1])
    assert not image[0].numpy()[covered(own.boxes[0], 40)].any()
    full = objects([20, 20, 40, 40, 0])
    assert pasted(image, full, source, box, 5, 1.0, rng)[1] is full


def test_rare_classes_are_pasted_as_often_as_frequent_ones():
    classes = np.array([0] * 19 + [1])
    boxes = np.tile([20.0, 20, 6, 4, 0], (20, 1))
    stock = Stock(lambda rows: torch.zeros(len(rows), 1, 40, 40), np.arange(20), boxes, classes)
    rng = np.random.default_rng(1)
    drawn = np.mean([stock.draw(rng)[2] for _ in range(400)])
    assert drawn == pytest.approx(1 / (1 + 1 / 19), abs=0.06)


def write_image(root, name, gsd, width, *objects):
    """A dark image with a bright box for each object, and its labels with a `gsd:` line."""
    for folder in ("images", "labelTxt"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    picture = Image.new("L", (width, 64), 50)
    lines = ["imagesource:GoogleEarth", f"gsd:{gsd}"]
    for *box, kind in objects:
        corners = to_corners(np.array([[*box, 0.0]]))[0]
        low, high = corners.min(axis=0), corners.max(axis=0)
        ImageDraw.Draw(picture).rectangle([*low, *(high - 1)], fill=250)
        lines.append(" ".join(f"{v:.1f}" for v in corners.ravel()) + f" {kind} 0")
    picture.save(root / "images" / f"{name}.png")
    (root / "labelTxt" / f"{name}.txt").write_text("\n".join(lines), "utf-8")


@pytest.fixture
def measured(tmp_path):
    """Tiles of images of 0.5 m, 1 m, and of one that does not say; by name of the image."""
    for split in ("val", "test"):
        write_image(
            tmp_path / split, split, 1.0, 64, (20, 20, 12, 8, "ship"), (40, 40, 8, 8, "van")
        )
    write_image(tmp_path / "train", "fine", 0.5, 96, (24, 24, 20, 8, "ship"))
    write_image(tmp_path / "train", "thin", 0.5, 64, (30, 30, 20, 6, "van"))
    write_image(tmp_path / "train", "coarse", 1.0, 64, (12, 50, 14, 10, "ship"))
    write_image(tmp_path / "train", "silent", "null", 64, (24, 24, 16, 16, "van"))
    data = open_object_tiles(f"dota:{tmp_path}:tile=64")
    assert any("5 images of 6 have a ground sampling distance" in note for note in data.notes)
    images = prepare_images(data, tmp_path / "prepared", image_size=64)
    plain = MovedObjects(angle=False, scale=0.0, paste=1.0)
    moving = Moving(plain, Detection(), images.dataset, images.batch)
    return moving, {data.source.id(i): i for i in range(len(data))}


def test_pasted_objects_have_their_size_on_the_ground(measured):
    """Of 20 x 8 pixels at 0.5 m are left 10 x 4 at 1 m; what would be narrower stays away."""
    moving, tiles = measured
    rng, sizes = np.random.default_rng(0), set()
    for _ in range(30):
        [image], [own] = moving.look(np.array([tiles["train/images/coarse.png"]]), rng)
        assert own.gsd == 1.0
        sizes |= {tuple(box[2:4].round(6)) for box in own.boxes[1:]}
        drawn = (image[0].double().numpy() - 50).sum() / 200
        assert drawn == pytest.approx((own.boxes[:, 2] * own.boxes[:, 3]).sum(), rel=0.02)
    assert sizes == {(10.0, 4.0), (14.0, 10.0)}
    sizes = set()
    left, right = (tiles[f"train/images/fine.png__64__{x}___0"] for x in (0, 32))
    for _ in range(30):  # the object of the first tile is beyond the second
        [_], [own] = moving.look(np.array([right]), rng)
        sizes |= {tuple(box[2:4].round(6)) for box in own.boxes}
    assert sizes == {(20.0, 8.0), (20.0, 6.0), (28.0, 20.0)}
    assert moving.data.targets.read(left).gsd == moving.data.targets.read(right).gsd == 0.5


def test_an_image_of_unknown_distance_neither_gives_nor_takes(measured):
    moving, tiles = measured
    rng, silent = np.random.default_rng(0), tiles["train/images/silent.png"]
    [image], [own] = moving.look(np.array([silent]), rng)
    assert (len(own.boxes), own.gsd) == (1, None)
    assert (image[0] == 250).sum() == 16 * 16
    assert silent not in moving._stock.samples


def test_without_options_only_turns_are_left():
    box = np.array([12.3, 25.1, 18, 6, 0.4])
    image = torch.from_numpy(covered(box, 40).astype(np.float32))[None, None]
    plain = MovedObjects(angle=False, scale=0.0, paste=0.0)
    for seed in range(6):
        turned, [own] = plain(image, [objects(box)], np.random.default_rng(seed))
        assert own.seen is None
        assert turned.sum() == image.sum()
        assert (turned[0, 0].numpy() != covered(own.boxes[0], 40)).mean() < 0.004
    moved, [own] = MovedObjects()(image, [NONE], np.random.default_rng(0))
    assert (moved.shape, len(own.boxes)) == (image.shape, 0)
    assert own.seen is not None


def test_vectors_of_objects_that_stay_are_those_of_the_data():
    """Training, where objects may move, and heads, which see what is stored, see one vector."""
    data, task = open_shapes_dota(train=40, test=12, ratio=3), Detection()
    samples = np.arange(3, 20)
    with torch.random.fork_rng():
        maps = torch.randn(len(samples), 9, 9, 4)
    found, classes = task.object_rows(maps, task.objects(data, samples, 126), 126)
    decisions = task.decisions(data, samples, np.zeros(0))
    expected = rows_of_maps(maps.numpy(), samples, decisions)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    assert classes.tolist() == decisions.labels.tolist()


def test_beyond_an_image_nothing_is_learnt():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = Detection().detector(6, (5, 5), 70)
        features = torch.randn(1, 5, 5, 6)
    box, small = [35.0, 35, 24, 12, 0.2], np.array([35.0, 35, 40, 40, 0.3])
    one = ImageObjects(np.array([box]), np.array([0]), np.array([True]), small)
    losses = Detection().object_losses(detector, features, [one])
    whole = Detection().object_losses(detector, features, [objects(box)])
    presence = detector._say(features)[0][0].detach()
    area = shapely.Polygon(to_corners(small[None])[0])
    beyond = [not area.contains(shapely.Point(*point)) for point in detector.points.tolist()]
    absent = focal_presence(presence[beyond], torch.zeros(sum(beyond))).sum()
    positives = (
        assign(detector.points, detector.strides, torch.tensor([box]), torch.zeros(0, 5)).box >= 0
    ).sum()
    expected = whole["presence"] - absent / positives
    assert losses["presence"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert losses["box"].item() == pytest.approx(whole["box"].item())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"scale": 1.0}, r"scale must lie in \[0, 1\)"),
        ({"paste": 1.5}, r"paste must lie in \[0, 1\]"),
        ({"angle": 3}, "angle must be bool"),
        ({"scale": True}, "scale must be float"),
        ({"pasted": 0.2}, "did you mean 'paste'"),
    ],
)
def test_bad_options_are_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        read_moved_objects(options)
