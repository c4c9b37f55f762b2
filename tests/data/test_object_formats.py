"""Objects in YOLO's and COCO's formats and as polygons, against the same boxes in DOTA's."""

import json
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
import yaml
from PIL import Image

from tailora.boxes import iou_matrix, smallest_rectangle, to_boxes, to_corners
from tailora.data import open_object_tiles
from tailora.errors import ConfigError, DataError
from tailora.tasks.task import find_task
from tests.data.scenes import NORTH, WEST, write_labels, write_scene

WIDTH, HEIGHT = 60, 40
NAMES = ("plane", "ship")
SPLITS = ("train",) * 5 + ("val",) * 2 + ("test",) * 2


def boxes_of(i):
    """Two objects of image `i`, of which the last has none."""
    if i == len(SPLITS) - 1:
        return np.zeros((0, 5))
    return np.array([[15 + i, 20, 12, 6, 0.3], [44, 18 - i, 10, 8, -0.7]])


def picture(path, i):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(i).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def as_dota(root):
    for i, split in enumerate(SPLITS):
        picture(root / split / "images" / f"a{i}.png", i)
        lines = [
            " ".join(map(repr, corners.ravel().tolist())) + f" {name} 0"
            for corners, name in zip(to_corners(boxes_of(i)), NAMES, strict=False)
        ]
        write_text(root / split / "labelTxt" / f"a{i}.txt", "\n".join(lines))
    return f"dota:{root}"


def as_yolo(root, *, inner=False, listed=True, dot_dot=False):
    for i, split in enumerate(SPLITS):
        parts = [Path("images", split), Path("labels", split)]
        parts = [Path(split, part.parts[0]) for part in parts] if inner else parts
        picture(root / parts[0] / f"a{i}.png", i)
        shares = to_corners(boxes_of(i)) / (WIDTH, HEIGHT)
        lines = [" ".join(map(repr, [k, *c.ravel().tolist()])) for k, c in enumerate(shares)]
        if lines:  # the empty image has no file
            write_text(root / parts[1] / f"a{i}.txt", "\n".join(lines))
    about = {"path": ".", "names": dict(enumerate(NAMES))}
    if listed:
        form = "../{}/images" if dot_dot else "{}/images" if inner else "images/{}"
        about |= {split: form.format(split) for split in ("train", "val", "test")}
    write_text(root / "data.yaml", yaml.safe_dump(about))
    return f"yolo:{root}"


def as_coco(root, *, beside=False, level=False):
    for split in ("train", "val", "test"):
        images, annotations = [], []
        for i in (i for i, own in enumerate(SPLITS) if own == split):
            picture(root / (split if beside else f"images/{split}") / f"a{i}.png", i)
            images.append({"id": i, "file_name": f"a{i}.png", "width": WIDTH, "height": HEIGHT})
            for k, corners in enumerate(to_corners(boxes_of(i))):
                low, high = corners.min(axis=0), corners.max(axis=0)
                middle = (corners + np.roll(corners, 1, axis=0)) / 2  # an outline of eight points
                outline = np.stack([middle, corners], axis=1).reshape(-1)
                annotations.append({
                    "id": 10 * i + k, "image_id": i, "category_id": 7 + k,
                    "bbox": [*low.tolist(), *(high - low).tolist()],
                    "segmentation": [] if level else [outline.tolist()],
                })  # fmt: skip
        content = {
            "images": images, "annotations": annotations,
            "categories": [{"id": 7 + k, "name": name} for k, name in enumerate(NAMES)],
        }  # fmt: skip
        at = f"{split}/_annotations.coco.json" if beside else f"annotations/instances_{split}.json"
        write_text(root / at, json.dumps(content))
    return f"coco:{root}"


def content(data):
    """Boxes by split and class, in an order of their own."""
    found = []
    for i in range(len(data)):
        one = data.targets.read(i).inside
        for box, c in zip(one.boxes.round(6).tolist(), one.classes, strict=True):
            found.append((str(data.splits[i]), data.classes[c], *box[:4]))
    return sorted(found)


def objects_of(data, ending):
    [i] = [i for i in range(len(data)) if data.source.id(i).endswith(ending)]
    return data.targets.read(i).inside


@pytest.mark.parametrize(
    "write",
    [
        as_yolo,
        lambda root: as_yolo(root, inner=True),
        lambda root: as_yolo(root, inner=True, dot_dot=True),
        lambda root: as_yolo(root, listed=False),
        lambda root: as_yolo(root).removeprefix("yolo:"),
        lambda root: f"{as_yolo(root)}/data.yaml",
        as_coco,
        lambda root: as_coco(root, beside=True),
        lambda root: as_coco(root, beside=True).removeprefix("coco:"),
    ],
)  # fmt: skip
def test_every_format_holds_the_same_boxes(tmp_path, write):
    expected = content(open_object_tiles(as_dota(tmp_path / "dota")))
    data = open_object_tiles(write(tmp_path / "other"))
    found = content(data)
    assert [one[:2] for one in found] == [one[:2] for one in expected]
    np.testing.assert_allclose([one[2:] for one in found], [one[2:] for one in expected], atol=1e-5)
    assert len(found) == 16
    assert len(data) == len(SPLITS)


def test_level_boxes_and_outlines(tmp_path):
    data = open_object_tiles(as_coco(tmp_path / "coco", level=True))
    one = objects_of(data, "a0.png")
    corners = to_corners(boxes_of(0))
    sides = np.sort(np.ptp(corners, axis=1), axis=1)
    np.testing.assert_allclose(np.sort(one.boxes[:, 2:4], axis=1), sides)
    assert np.abs(np.sin(2 * one.boxes[:, 4])).max() < 1e-9  # along rows and columns
    root = tmp_path / "yolo"
    as_yolo(root)
    lines = "0 0.5 0.5 0.2 0.4\n1 0.1 0.1 0.3 0.1 0.3 0.3 0.2 0.25 0.1 0.3\n"
    write_text(root / "labels" / "train" / "a0.txt", lines)
    [level, outline] = objects_of(open_object_tiles(f"yolo:{root}"), "a0.png").corners
    assert sorted(level.round(9).tolist()) == [[24, 12], [24, 28], [36, 12], [36, 28]]
    assert sorted(outline.round(9).tolist()) == [[6, 4], [6, 12], [18, 4], [18, 12]]


def test_the_smallest_rectangle_is_that_of_all_angles():
    rng = np.random.default_rng(0)
    angle = np.linspace(0, np.pi / 2, 3001)
    turns = np.stack([np.cos(angle), np.sin(angle)]), np.stack([-np.sin(angle), np.cos(angle)])
    for _ in range(20):
        points = rng.normal(size=(9, 2)) @ rng.normal(size=(2, 2))
        least = np.prod([np.ptp(points @ turn, axis=0) for turn in turns], axis=0).min()
        for away in (0, 5e6):  # as coordinates on the ground are
            found = shapely.Polygon(smallest_rectangle(points + away) - away)
            assert found.area <= least * (1 + 1e-6)
            assert shapely.contains_xy(found.buffer(1e-6), *points.T).all()
            np.testing.assert_allclose(found.area, least, rtol=2e-2)
    flat = smallest_rectangle(np.array([[0.0, 0], [2, 2], [1, 1]]))
    assert to_boxes(flat[None])[0, 3] < 1e-9


def yolo_with(text, *, name="labels/train/a0.txt"):
    def write(root):
        words = as_yolo(root)
        write_text(root / name, text)
        return words

    return write


def coco_with(change):
    def write(root):
        words = as_coco(root)
        path = root / "annotations" / "instances_train.json"
        found = json.loads(path.read_text())
        change(found)
        write_text(path, json.dumps(found))
        return words

    return write


def lost(root):
    words = as_coco(root)
    (root / "images" / "train" / "a0.png").unlink()
    return words


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (yolo_with("0 .1 .1 .2 .1 .2 .2 .1"), r"line 1 of .*a0.txt' is malformed \(8 fields\)"),
        (yolo_with("\n0 .1 .1 .2 nan .2 .2 .1 .2"), "line 2 of .*a0.txt' .*NaN or infinite"),
        (yolo_with("0 1 1 x 1 2 2 1 2"), "could not convert string to float"),
        (yolo_with("0 10 10 20 10 20 20 10 20"), "coordinates are pixels"),
        (yolo_with("5 .1 .1 .2 .1 .2 .2 .1 .2"), "class '5' is none of 2"),
        (yolo_with("0.5 .1 .1 .2 .1 .2 .2 .1 .2"), "class '0.5' is none of 2"),
        (yolo_with("", name="labels/train/b.txt"), "1 label files without an image: b.txt"),
        (yolo_with("names: [", name="data.yaml"), "cannot read .*data.yaml"),
        (yolo_with("- a", name="data.yaml"), "holds no keys"),
        (yolo_with("names: {a: b}", name="data.yaml"), "names of .* must be a list"),
        (yolo_with("nc: 2", name="data.yaml"), "does not say what classes are called"),
        (yolo_with("train: no", name="data.yaml"), "does not say what classes"),
        (yolo_with("names: [a, b]\ntrain: gone", name="data.yaml"), "no folder 'gone' of train"),
        (yolo_with("names: []", name="more.yml"), None),
        (lambda root: f"yolo:{root}", "no folder or data.yaml"),
        (lambda root: f"coco:{root}", "no file or folder"),
        (lambda root: f"{as_coco(root)}:version=1.0", "unknown option of objects 'version'"),
        (lost, "1 images of instances_train.json that are not there: a0.png; add the missing"),
        (coco_with(lambda c: c["annotations"][0].update(category_id=99)),
         "annotation 0 of .*: category 99 is none of 2 categor"),
        (coco_with(lambda c: c["annotations"][0].update(image_id=99)), "image 99 is not listed"),
        (coco_with(lambda c: c["annotations"][0].update(bbox=[1, 2, 3], segmentation=[])),
         "bbox must be left, top, width and height"),
        (coco_with(lambda c: c["annotations"][0].update(segmentation=[[1, 2, 3, 4]])),
         "at least three points"),
        (coco_with(lambda c: c["annotations"][0].pop("id")), "entry 0 of annotations in .* no id"),
        (coco_with(lambda c: c.pop("categories")), "has no lists images, annotations, categories"),
        (coco_with(lambda c: c["annotations"][0].update(bbox=[float("nan")] * 4)), "cannot read"),
    ],
)  # fmt: skip
def test_bad_labels_are_refused_in_a_line(tmp_path, write, message):
    words = write(tmp_path / "bad")
    if message is None:
        open_object_tiles(words)  # data.yaml is taken, whatever else is there
        return
    with pytest.raises((DataError, ConfigError), match=message):
        open_object_tiles(words)


def test_what_is_left_out_is_counted(tmp_path):
    def change(found):
        found["annotations"][0].update(bbox=[1, 1, 0, 4], segmentation=[])
        found["annotations"][2].update(iscrowd=1)

    data = open_object_tiles(coco_with(change)(tmp_path / "a"))
    assert "left out 1 object without area (first instances_train.json:0)" in data.notes
    assert "1 object marked difficult, not counted" in data.notes
    data = open_object_tiles(f"{lost(tmp_path / 'b')}:unpaired=skip")
    assert len(data) == len(SPLITS) - 1
    assert any("left out 1 images of instances_train.json" in note for note in data.notes)
    data = open_object_tiles(as_yolo(tmp_path / "c"))
    assert "1 image without a label file, so without objects" in data.notes


CHIP, PIXEL, AREA = 32, 2.0, 400


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """A scene with oriented boxes at every 23 pixels, drawn as polygons with a field `kind`."""
    folder = tmp_path_factory.mktemp("ground")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (3, AREA, AREA)).astype(np.uint8)
    at = np.arange(20, AREA - 30, 23.0)  # some lie where windows of two blocks overlap
    x, y = (part.ravel() for part in np.meshgrid(at, at))
    boxes = np.column_stack([x, y, np.full(len(x), 11.0), np.full(len(x), 5.0),
                             rng.uniform(-1.5, 1.5, len(x))])  # fmt: skip
    corners = to_corners(boxes)
    dented = np.insert(corners, 4, corners.mean(axis=1), axis=1)  # one corner more
    shapes = shapely.polygons(dented * (PIXEL, -PIXEL) + (WEST, NORTH))
    kinds = np.where(np.arange(len(x)) % 3 == 0, "ship", "plane")
    scene = write_scene(folder / "scene.tif", pixels, pixel=PIXEL)
    write_labels(folder / "objects.gpkg", list(shapes), kinds.tolist(), field="kind")
    return scene, folder / "objects.gpkg", corners, kinds


def opened(ground, **options):
    scene, labels = ground[:2]
    given = {"labels": str(labels), "class_field": "kind", "chip": CHIP} | options
    return find_task("detect").open(str(scene), **given)


def test_polygons_of_a_scene_are_boxes_in_windows_of_spatial_blocks(ground):
    data = opened(ground)
    corners, kinds = ground[2:]
    assert data.classes == ("plane", "ship")
    matched: dict[str, set[int]] = {"train": set(), "val": set(), "test": set()}
    spans = {split: [] for split in matched}
    for i in range(len(data)):
        one, split = data.targets.read(i), str(data.splits[i])
        at = (one.tile.left, one.tile.top)
        spans[split].append(at)
        values = data.source.read(i)
        assert values.shape == (3, CHIP, CHIP)
        moved = one.inside.corners + at
        overlaps = iou_matrix(moved, corners)
        rows = overlaps.argmax(axis=1)
        assert overlaps.max(axis=1).min(initial=1) > 0.999
        assert [data.classes[c] for c in one.inside.classes] == kinds[rows].tolist()
        inside = (one.inside.corners >= 0).all((1, 2)) & (one.inside.corners <= CHIP).all((1, 2))
        counted = one.inside.difficult == 0
        assert not (counted & ~inside).any()
        matched[split] |= set(rows[counted].tolist())
    assert min(map(len, matched.values())) > 5
    assert not matched["train"] & (matched["test"] | matched["val"])
    others = np.array(spans["test"] + spans["val"])
    apart = np.abs(np.array(spans["train"])[:, None] - others).max(axis=2)
    assert apart.min() >= 2 * CHIP  # a window lies between them
    whole: dict[tuple[str, str], int] = {}
    for i in range(len(data)):  # every object that a split sees whole counts once in it
        one = data.targets.read(i)
        whole[one.picture, str(data.splits[i])] = int((one.whole.difficult == 0).sum())
    for split, rows in matched.items():
        assert sum(n for (_, own), n in whole.items() if own == split) == len(rows)


def test_windows_to_evaluate_cover_all_objects(ground):
    data = opened(ground, to_learn=False, stride=16)  # neighbours see objects whole as well
    assert set(data.splits) == {"test"}
    whole = {}
    for i in range(len(data)):
        one = data.targets.read(i)
        whole[one.picture] = int((one.whole.difficult == 0).sum())
    assert sum(whole.values()) == len(ground[2])


def test_bad_polygons_are_refused_in_a_line(ground, tmp_path):
    points = write_labels(tmp_path / "p.gpkg", [shapely.Point(WEST + 9, NORTH - 9)], ["a"])
    flat = shapely.Polygon([(WEST + 5, NORTH - 5), (WEST + 9, NORTH - 9), (WEST + 5, NORTH - 5)])
    line = write_labels(tmp_path / "f.gpkg", [flat], ["a"], kind="Polygon")
    lone = shapely.box(WEST + 9, NORTH - 20, WEST + 20, NORTH - 9)
    few = write_labels(tmp_path / "few.gpkg", [lone], ["a"])
    raster = write_scene(tmp_path / "r.tif", np.ones((1, AREA, AREA), np.uint8), pixel=PIXEL)
    for options, message in (
        ({"labels": str(points), "class_field": "landuse"}, "have 1 point; objects are polygons"),
        ({"labels": str(line), "class_field": "landuse"}, "no polygon"),
        ({"labels": str(few), "class_field": "landuse"}, "no class has objects in training and"),
        ({"labels": str(raster), "class_field": None}, "are a raster; objects are polygons"),
        ({"chip": 500}, "of 400 x 400 pixels is smaller than a window of 500"),
        ({"class_field": None}, "--class-field"),
        ({"class_field": "kinds"}, "no field 'kinds', only .*did you mean 'kind'"),
        ({"outside": "ground"}, "outside gives pixels a class"),
    ):
        with pytest.raises((DataError, ConfigError), match=message):
            opened(ground, **options)
    assert pyogrio.read_info(line)["features"] == 1
