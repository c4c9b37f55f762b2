"""Oriented object detection: which objects an image has, each with its class and turned box.

A detector that is trained with the adapter says where objects are; it knows no classes, so that
rare ones are found by what frequent ones have taught. Which class an object is of is one decision,
one row of features: the mean of the tokens under its turned box. Losses, samplers and heads for
long tails therefore apply to objects as they do to images.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol, final, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tailora import registry
from tailora.augment.moved_objects import ImageObjects
from tailora.boxes import Boxes, merge_tiles, rotated_nms, to_corners
from tailora.data.objects import Objects, TileObjects
from tailora.decisions import Decisions
from tailora.errors import BackboneError, ConfigError, DataError
from tailora.tasks.task import USUAL_PATCH, Measured, PlacedRow, Task
from tailora.tasks.tokens import token_encoder

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tailora.backbones import AnyEncoder
    from tailora.backbones.foundation import VisionModel
    from tailora.backbones.stages import Stage
    from tailora.data import Dataset
    from tailora.metrics import RunMetrics
    from tailora.metrics.places import Places
    from tailora.report.blocks import Section
    from tailora.runs.result import RunResult

LEAST_SCORE: Final = 0.1
"""Detections of a lower score are dropped; low, since average precision wants all recall."""
OVERLAP: Final = 0.1
"""IoU above which the detection of lower score is dropped, within a class."""

_FCOS: Final = "fcos"  # the detector whose presence can learn in several ways
_NONE: Final = -1  # class index of a token without the centre of an object
_TOKENS: Final = (8, 32)  # along a side of a tile, at least and at most, unless a size is given
_FINE: Final = 4  # pixels of a patch, up to which encoders have stages
_LAST_STRIDE: Final = 32  # of usual encoders with stages
_COUNTED: Final = 500  # training tiles whose locations are counted before training
_MOST: Final = 500  # places of a tile, best first
_AT_ONCE: Final = 16  # tiles
_PICTURES: Final = 8  # in the report
_DRAWN: Final = 0.3  # least score of a box that is drawn there
_SHOWN: Final = 320  # pixels along a side of a picture


@runtime_checkable
class Finder(Protocol):
    """What a detector of this task has: a module from tokens to scores and boxes of locations."""

    size: int

    def losses(
        self,
        features: "Tensor",
        boxes: "Sequence[Tensor]",
        ignored: "Sequence[Tensor]",
        seen: "Sequence[Tensor] | None" = None,
    ) -> "dict[str, Tensor]":
        """Losses by name; see `tailora.detection.RotatedFCOS.losses`."""
        ...


@final
class Detection(Task):
    """Find objects as oriented boxes, and decide their class."""

    name = "detect"
    title = "object detection"
    summary = "which objects an image has, each with its class and oriented box"
    decision = "object"
    per_image = False
    detects = True
    instead = "`tailora predict` writes objects in images, `tailora evaluate` measures them"
    scored = "the class of true objects, given where they are; how well objects are found is AP"
    defaults = MappingProxyType(
        {"train.epochs": 8, "train.batch_size": 4, "train.sampler": "repeat-factor"}
    )

    def open(
        self, source: str | Path, *, seed: int = 0, to_learn: bool = True, **options: Any
    ) -> "Dataset":
        """Open images with labelled objects, scenes with polygons, or built-in data with objects.

        Raises:
            DataError: See `tailora.data.open_object_tiles` and `open_object_windows`.
            ConfigError: An option is wrong, or is one of masks.
        """
        from tailora.data import BUILT_IN, open_object_tiles
        from tailora.data.open import is_scene, open_windows, refuse_misspelt
        from tailora.data.readers.object_tiles import TILE
        from tailora.data.scenes.object_windows import open_object_windows

        refuse_misspelt(source)
        name = str(source).partition(":")[0]
        given = {key: value for key, value in options.items() if value is not None}
        if is_scene(source, given):
            given = {"usual_chip": TILE} | given
            return open_windows(
                source, seed=seed, to_learn=to_learn, cut=open_object_windows, **given
            )
        tile = given.pop("usual_chip", None)
        if name in BUILT_IN and not Path(name).exists():
            return super().open(source, seed=seed, to_learn=to_learn, **given)
        if given:
            raise ConfigError(
                f"--{' and --'.join(key.replace('_', '-') for key in sorted(given))} are options "
                f"of scenes or masks; for task {self.name!r} options of images follow their path, "
                "as in dota:PATH:tile=512"
            )
        usual = {} if tile is None else {"tile": tile}
        return open_object_tiles(source, seed=seed, to_learn=to_learn, **usual)

    def check(self, data: "Dataset") -> None:
        """Refuse images without objects."""
        if data.targets is None or not isinstance(data.targets.read(0), TileObjects):
            raise DataError(
                f"dataset {data.name!r} has no oriented boxes, which task {self.name!r} needs; "
                "give dota:PATH, yolo:PATH, coco:PATH or a scene with polygons, or leave out --task"
            )

    def image_size(self, data: "Dataset", patch: int) -> int:
        """One pixel for each of a tile, within 8 to 32 tokens along a side.

        Encoders with patches of at most 4 pixels have stages; theirs is the nearest multiple of 32,
        the stride of their last one, within the same limits of a usual token.
        """
        if patch <= _FINE:
            low, high = (math.ceil(n * USUAL_PATCH / _LAST_STRIDE) for n in _TOKENS)
            return _LAST_STRIDE * min(
                max(round(_tile(data, 0).tile.size / _LAST_STRIDE), low), high
            )
        tokens = round(_tile(data, 0).tile.size / patch)
        return patch * min(max(tokens, _TOKENS[0]), _TOKENS[1])

    def grid(self, encoder: "AnyEncoder", image_size: int) -> tuple[int, int]:
        """Tokens along both sides of an image."""
        side = token_encoder(encoder, self.name).patches_a_side(image_size)
        return side, side

    def stages(self, encoder: "AnyEncoder", image_size: int) -> "Sequence[Stage]":
        """Stages of the encoder, of which the detector takes the maps as they are."""
        return token_encoder(encoder, self.name).stages(image_size)

    def layers(self, model: "VisionModel", image_size: int) -> list[int]:
        """Where there are stages, the one with a stride nearest to 16 pixels; see `usual_stage`.

        Raises:
            BackboneError: Images are no multiple of the stride of the last stage, so that its cells
                would not cover them evenly.
        """
        from tailora.backbones.layout import calling_convention
        from tailora.backbones.stages import last_stride, stages_of, usual_stage

        stages = stages_of(model, calling_convention(model), image_size)
        if not stages:
            return []
        if any(image_size % stage.side for stage in stages):
            stride = last_stride(stages, image_size)
            below = max(image_size // stride, 1) * stride
            raise BackboneError(
                f"the stages of {type(model).__name__} do not cover images of {image_size} px "
                f"evenly; choose --image-size {below} or {below + stride}"
            )
        layer = usual_stage(stages, image_size).layer
        return [] if layer == -1 else [layer]

    def targets(
        self, data: "Dataset", grid: tuple[int, ...], *, fit: str = "crop"
    ) -> NDArray[np.integer]:
        """Class of each token: that of the object whose centre lies in it, of several the rarest.

        Heads that see maps learn from it. Difficult objects, and those cut by the border of a tile,
        count for none.
        """
        found = np.full((len(data), *grid), _NONE, dtype=np.int16)
        rank = _rank(data)
        for i in range(len(data)):
            one = _tile(data, i)
            counted = one.inside.difficult == 0
            centers = one.inside.boxes[counted, :2]
            _decide(found[i], centers, one.inside.classes[counted], rank, one.tile.size)
        return found

    def decisions(
        self, data: "Dataset", samples: NDArray[np.int64], targets: NDArray[np.integer]
    ) -> Decisions:
        """Every object that counts, with the box that its features are pooled under."""
        parts = []
        for i, own in zip(samples.tolist(), self.objects(data, samples, 1), strict=True):
            place = np.flatnonzero(own.counts)
            parts.append((np.full(len(place), i), place, own.classes[place], own.boxes[place]))
        none = np.zeros(0, dtype=np.int64)
        parts.append((none, none, none, np.zeros((0, 5))))
        sample, place, classes, boxes = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Decisions(sample, place, classes.astype(np.int64), boxes)

    def objects(
        self,
        data: "Dataset",
        samples: NDArray[np.int64],
        size: int,
        turns: NDArray[np.integer] | None = None,
    ) -> list[ImageObjects]:
        """Objects of images of `size` pixels, which augmentation may have turned."""
        found = []
        for k, i in enumerate(samples.tolist()):
            one = _tile(data, i)
            boxes = one.inside.boxes
            boxes[:, :4] *= size / one.tile.size
            gsd = None if one.gsd is None else one.gsd * one.tile.size / size
            own = ImageObjects(boxes, one.inside.classes, one.inside.difficult == 0, gsd=gsd)
            found.append(own if turns is None else own.turned(int(turns[k]), size))
        return found

    def object_rows(
        self, features: "Tensor", objects: Sequence[ImageObjects], size: int
    ) -> "tuple[Tensor, Tensor]":
        """Tokens pooled under the box of each object that counts, and its class."""
        import torch

        from tailora.detection import roi_pool_rotated

        image = np.repeat(np.arange(len(objects)), [int(one.counts.sum()) for one in objects])
        boxes = np.concatenate([one.boxes[one.counts] for one in objects])
        boxes[:, :4] /= size
        classes = np.concatenate([one.classes[one.counts] for one in objects])
        which, labels = (
            torch.from_numpy(part.astype(np.int64)).to(features.device) for part in (image, classes)
        )
        return roi_pool_rotated(features, which, torch.from_numpy(boxes)), labels

    def names(self, data: "Dataset", decisions: Decisions, grid: tuple[int, ...]) -> Sequence[str]:
        """Tile, and column and row of the centre of each object in pixels of it."""
        if decisions.boxes is None:
            raise DataError(f"decisions of task {self.name!r} have boxes, and these have none")
        tiles = {int(i): (data.source.id(int(i)), _tile(data, int(i))) for i in decisions.samples}
        names = []
        for i, box in zip(decisions.sample.tolist(), decisions.boxes, strict=True):
            name, one = tiles[i]
            x, y = box[:2] * one.tile.size
            names.append(f"{name}#{x:.0f},{y:.0f}")
        return names

    def model(self, encoder: "AnyEncoder") -> "Callable[[Tensor], Tensor]":
        """Features of each patch, and behind them the maps of all stages, if there are any."""
        return token_encoder(encoder, self.name).staged_features

    def turned(self, targets: "Tensor", turns: NDArray[np.integer]) -> "Tensor":
        """Turn the classes of tokens with their images."""
        from tailora.backbones.symmetries import dihedral

        return dihedral(targets[:, None], turns)[:, 0]

    def detector(
        self,
        width: int,
        grid: tuple[int, ...],
        image_size: int,
        *,
        stages: "Sequence[Stage]" = (),
        detector: str = "fcos",
        box_loss: str = "prob-iou",
        presence: str = "focal",
    ) -> "nn.Module":
        """A pyramid with the head of rotated FCOS or RTMDet."""
        own: dict[str, Any] = {"presence": presence} if detector == _FCOS else {}
        build = registry.find("detection", f"rotated-{detector}")
        own |= {"stages": tuple(stages), "box_loss": box_loss}
        return build(width, (grid[0], grid[1]), image_size, **own)

    def start_detector(
        self, detector: "nn.Module", data: "Dataset", samples: NDArray[np.int64]
    ) -> None:
        """Let presence begin at the share of locations in objects, of evenly spaced images."""
        from tailora.detection import RotatedFCOS

        if isinstance(detector, RotatedFCOS) and detector.sampling_free:
            few = samples[:: math.ceil(len(samples) / _COUNTED)]
            detector.start_from(*_counted(self.objects(data, few, detector.size)))

    def detector_losses(
        self,
        detector: "nn.Module",
        features: "Tensor",
        data: "Dataset",
        samples: NDArray[np.int64],
        turns: NDArray[np.integer] | None,
    ) -> "Mapping[str, Tensor]":
        """Losses of presence, boxes and direction, and FCOS's of centrality."""
        size = _finder(detector).size
        return self.object_losses(detector, features, self.objects(data, samples, size, turns))

    def object_losses(
        self, detector: "nn.Module", features: "Tensor", objects: Sequence[ImageObjects]
    ) -> "Mapping[str, Tensor]":
        """The same for images with these objects."""
        counted, ignored = _counted(objects)
        some = any(one.seen is not None for one in objects)
        size = _finder(detector).size
        whole = np.array([size / 2, size / 2, size, size, 0.0])
        seen = _tensors([whole if one.seen is None else one.seen for one in objects])
        return _finder(detector).losses(features, counted, ignored, seen if some else None)

    def measure(self, measured: Measured) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Average precision of every row of the results, and pictures for the report."""
        from tailora.metrics.detection import MEASURES, detection_metrics
        from tailora.metrics.detection_errors import detection_errors
        from tailora.metrics.intervals import FEWEST_UNITS
        from tailora.metrics.segmentation import group_means
        from tailora.tasks.detection_pictures import error_pictures

        rows = [row for row in measured.rows if row.detected is not None]
        if not rows:
            return {}, {}
        truth = _truth(measured)
        units = _units(measured)
        if not len(truth.classes) or (truth.difficult == 0).sum() == 0:
            return {}, {}
        found = [_found(measured, row) for row in rows]
        options: dict[str, Any] = {
            "replicates": measured.replicates, "confidence": measured.confidence,
            "seed": measured.seed,
        }  # fmt: skip
        scored = [
            detection_metrics(one, truth, units, measured.groups, measured.classes, **options)
            for one in found
        ]
        differences = []
        for row, (_, scores) in list(zip(rows, scored, strict=True))[:-1]:
            entry: dict[str, Any] = {
                "method": rows[-1].method, "head": rows[-1].head,
                "against": row.method, "against_head": row.head,
            }  # fmt: skip
            for measure in MEASURES:
                means, ends = group_means(
                    scored[-1][1][measure], measured.groups, confidence=measured.confidence,
                    against=scores[measure],
                )  # fmt: skip
                alone = len(set(units.values())) < FEWEST_UNITS
                entry |= {
                    measure: means,
                    f"{measure}_interval": dict.fromkeys(ends) if alone else ends,
                }
            differences.append(entry)
        entry = {
            "images": len(units),
            "unit": "image" if measured.units is None else "group",
            "units": len(set(units.values())),
            "train_objects": list(measured.train_pixels),
            "rows": [
                {"method": row.method, "head": row.head, **one}
                for row, (one, _) in zip(rows, scored, strict=True)
            ],
            "differences": differences,
        }
        entry["errors"], curves = detection_errors(
            found[-1], truth, measured.groups, measured.classes
        )
        tiles = [_tile(measured.data, int(i)) for i in measured.samples]
        pictures = _pictures(measured, truth, found[-1])
        return entry, pictures | curves | error_pictures(measured, tiles, truth, found[-1])

    def compared_by(self) -> "type[Places]":
        """Ranked detections, by average precision."""
        from tailora.metrics.detection import RankedDetections

        return RankedDetections

    def places(self, measured: Measured) -> "Places":
        """Detections in the test images, matched with their objects."""
        from tailora.metrics.detection import RankedDetections

        [row] = measured.rows
        truth, units = _truth(measured), _units(measured)
        return RankedDetections.of(_found(measured, row), truth, units, measured.classes)

    def sections(self) -> "Sequence[Callable[[RunResult], Section | None]]":
        """Average precision, what was missed, confused and invented, and pictures with boxes."""
        from tailora.report.detection_errors import errors_section, examples_section
        from tailora.report.detection_sections import objects_section, pictures_section

        return objects_section, errors_section, examples_section, pictures_section

    def found_intervals(
        self, found: Mapping[str, Any]
    ) -> Sequence[tuple[float, float] | None] | None:
        """Of the AP50 of each class; from 0 to 1 where too few images say how certain it is."""
        ends = [one["ap50_interval"] for one in found["rows"][-1]["per_class"]]
        return [(0.0, 1.0) if one is None or None in one else tuple(one) for one in ends]

    def shown(self, metrics: "RunMetrics") -> Sequence[Any]:
        """The table of average precision by group, and what was gained in the tail."""
        from tailora.report.detection_sections import gains, precision_table

        return precision_table(metrics), *gains(metrics)


def _finder(detector: "nn.Module") -> "Finder":
    if not isinstance(detector, Finder):
        raise TypeError(f"a detector of another task: {type(detector).__name__}")
    return detector


def _tensors(every: Sequence[NDArray[np.float64]]) -> "list[Tensor]":
    import torch

    return [torch.from_numpy(one.astype(np.float32)) for one in every]


def _counted(objects: Sequence[ImageObjects]) -> "tuple[list[Tensor], list[Tensor]]":
    """Boxes of each image that count, and those that do not."""
    counted, ignored = (
        _tensors([one.boxes[one.counts == counts] for one in objects]) for counts in (True, False)
    )
    return counted, ignored


def _rank(data: "Dataset") -> NDArray[np.intp]:
    """Place of each class in the order of training objects, the rarest last (classes,)."""
    return np.argsort(np.argsort(-np.array(data.counts("train").values), kind="stable"))


def _decide(
    found: NDArray[np.integer],
    centers: NDArray[np.float64],
    classes: NDArray[np.int64],
    rank: NDArray[np.intp],
    side: float,
) -> None:
    """Write the class of each object into the token at its centre (rows, columns)."""
    row, column = tokens_at(centers, side, found.shape)
    order = np.argsort(rank[classes], kind="stable")
    found[row[order], column[order]] = classes[order]


def _tile(data: "Dataset", i: int) -> TileObjects:
    one = None if data.targets is None else data.targets.read(i)
    if not isinstance(one, TileObjects):
        raise DataError(f"dataset {data.name!r} has no oriented boxes")
    return one


def tokens_at(
    points: NDArray[np.floating], side: float, grid: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of the token at each point of a square image; the nearest for one outside.

    Args:
        points: x and y in pixels (points, 2).
        side: Of the image in pixels.
        grid: Tokens down and across.

    Example:
        >>> [part.tolist() for part in tokens_at(np.array([[27.0, 3.0], [99.0, 14.0]]), 28, (2, 2))]
        [[0, 1], [1, 1]]
    """
    rows, columns = grid[0], grid[1]
    x, y = points[:, 0] * columns / side, points[:, 1] * rows / side
    found = [np.floor(at).astype(np.int64).clip(0, n - 1) for at, n in ((y, rows), (x, columns))]
    return found[0], found[1]


def likely_places(
    detected: NDArray[np.floating], *, least_score: float = LEAST_SCORE
) -> NDArray[np.float64]:
    """Score and box of the surest places of an image (some places, 6), best first.

    Args:
        detected: Score and box of each place (places, 6).
        least_score: Places below it are dropped.
    """
    score = detected[:, 0]
    best = np.argsort(-score, kind="stable")[:_MOST]
    return detected[best[score[best] >= least_score]].astype(np.float64)


def as_shares(boxes: NDArray[np.float64], side: float) -> NDArray[np.float64]:
    """Boxes (boxes, 5) in pixels as shares of the side of their square image."""
    return boxes / np.array([side, side, side, side, 1.0])


def detections_of(
    places: NDArray[np.float64], logits: NDArray[np.floating], *, least_score: float = LEAST_SCORE
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Combine where objects are with what class they have, in one image.

    The score of a class is that of the box times the probability of the class under it.

    Args:
        places: Score and box of each place (places, 6), from `likely_places`.
        logits: Of the box of each place (places, classes).
        least_score: Detections below it are dropped.

    Returns:
        Corners (detections, 4, 2) in the units of the boxes, scores and class indices, best first,
        without those that another of their class overlaps.
    """
    own = logits.astype(np.float64)
    shares = np.exp(own - own.max(axis=1, keepdims=True, initial=-np.inf))
    shares /= shares.sum(axis=1, keepdims=True)
    scores = places[:, :1] * shares
    place, c = np.nonzero(scores >= least_score)
    corners, values = to_corners(places[place, 1:]), scores[place, c]
    kept = rotated_nms(corners, values, threshold=OVERLAP, classes=c)
    return corners[kept], values[kept], c[kept].astype(np.int64)


def _found(measured: Measured, row: PlacedRow) -> Boxes:
    """All detections of one row of the results, in the pixels of whole images."""
    by_picture: dict[str, list[tuple[Any, ...]]] = {}
    for start in range(0, len(measured.samples), _AT_ONCE):
        at = np.arange(start, min(start + _AT_ONCE, len(measured.samples)))
        if row.detected is None or row.in_boxes is None:
            continue
        likely = [likely_places(one) for one in row.detected(at)]
        said = row.in_boxes(at, [as_shares(one[:, 1:], measured.image_size) for one in likely])
        for i, places, logits in zip(at, likely, said, strict=True):
            one = _tile(measured.data, int(measured.samples[i]))
            corners, scores, classes = detections_of(places, logits)
            corners = corners * (one.tile.size / measured.image_size)
            by_picture.setdefault(one.picture, []).append((one.tile, corners, scores, classes))
    images: list[str] = []
    parts: list[tuple[NDArray[Any], ...]] = [(np.zeros((0, 4, 2)), np.zeros(0), np.zeros(0, int))]
    for picture, tiles in by_picture.items():
        merged = merge_tiles(*zip(*tiles, strict=True), threshold=OVERLAP)
        images += [picture] * len(merged[1])
        parts.append(merged)
    corners, scores, classes = (np.concatenate(column) for column in zip(*parts, strict=True))
    names = [str(measured.classes[c]) for c in classes.tolist()]
    return Boxes(images, names, corners, scores)


def _truth(measured: Measured) -> Boxes:
    """Objects of the run's classes in the whole images that tiles of the test are cut from."""
    images: list[str] = []
    classes: list[str] = []
    corners, flags = [np.zeros((0, 4, 2))], [np.zeros(0, dtype=np.int64)]
    for picture, whole in _whole(measured).items():
        codes = measured.codes[whole.classes]
        known = codes >= 0
        images += [picture] * int(known.sum())
        classes += [str(measured.classes[c]) for c in codes[known].tolist()]
        corners.append(whole.corners[known])
        flags.append(whole.difficult[known])
    return Boxes(images, classes, np.concatenate(corners), difficult=np.concatenate(flags))


def _whole(measured: Measured) -> dict[str, Objects]:
    tiles = [_tile(measured.data, int(i)) for i in measured.samples]
    return {one.picture: one.whole for one in tiles}


def _units(measured: Measured) -> dict[str, Any]:
    """What the bootstrap resamples, for each image by name."""
    tiles = [_tile(measured.data, int(i)) for i in measured.samples]
    own = [one.picture for one in tiles] if measured.units is None else measured.units.tolist()
    return {one.picture: unit for one, unit in zip(tiles, own, strict=True)}


def _pictures(measured: Measured, truth: Boxes, found: Boxes) -> dict[str, NDArray[Any]]:
    """Tiles with most objects of rare classes, with their true boxes and those found."""
    from tailora.data import resize
    from tailora.report.style import as_picture

    weight = np.zeros(len(measured.classes))
    weight[list(measured.groups.tail)] = 1.0
    rare = []
    for k, i in enumerate(measured.samples.tolist()):
        one = _tile(measured.data, i).inside
        codes = measured.codes[one.classes[one.difficult == 0]]
        rare.append((-float(weight[codes[codes >= 0]].sum()), k))
    parts: dict[str, list[Any]] = {
        name: [] for name in ("picture", "id", "corners", "class", "score", "of")
    }
    said = np.array(found.images, dtype=np.str_)
    true = np.array(truth.images, dtype=np.str_)
    for number, (_, k) in enumerate(sorted(rare)[:_PICTURES]):
        i = int(measured.samples[k])
        one = _tile(measured.data, i)
        image = measured.data.source.read(i)
        parts["picture"].append(
            as_picture(resize(image, _SHOWN, fit="stretch"), measured.data.bands)
        )
        parts["id"].append(measured.data.source.id(i))
        scores = np.zeros(0) if found.scores is None else found.scores
        mine = np.flatnonzero(said == one.picture)
        mine = mine[scores[mine] >= _DRAWN]
        for boxes, rows, values in (
            (truth, np.flatnonzero(true == one.picture), None),
            (found, mine, scores),
        ):
            for row in rows.tolist():
                corners = (boxes.corners[row] - (one.tile.left, one.tile.top)) / one.tile.size
                if (corners.mean(axis=0) < 0).any() or (corners.mean(axis=0) > 1).any():
                    continue
                parts["corners"].append(corners)
                parts["class"].append(measured.classes.index(boxes.classes[row]))
                parts["score"].append(np.nan if values is None else values[row])
                parts["of"].append(number)
    return {f"object_{name}": np.array(values) for name, values in parts.items()}
