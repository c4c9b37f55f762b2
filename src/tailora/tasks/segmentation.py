"""Semantic segmentation: a class for every pixel, decided on the tokens of an encoder.

A head sees one row for each token. Between tokens its logits are interpolated, so that each pixel
has a class; metrics count pixels. Of a token the labelled pixel nearest to its centre is learnt,
since that is where interpolated logits are those of the token: shares of classes stay those of the
pixels, while the majority of a token would lose what is smaller than one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from tailora.counts import ClassCounts, Groups, make_groups
from tailora.data.masks import IGNORED, objects_in
from tailora.errors import DataError
from tailora.tasks.ground_maps import ground_maps
from tailora.tasks.task import Measured, PlacedRow, Task
from tailora.tasks.tokens import token_encoder, token_names
from tailora.tasks.worst_windows import small_mask, small_picture, worst_windows

if TYPE_CHECKING:
    from torch import Tensor

    from tailora.backbones import AnyEncoder
    from tailora.data import Dataset
    from tailora.decisions import Decisions
    from tailora.metrics import RunMetrics
    from tailora.metrics.places import Places
    from tailora.report.blocks import Section
    from tailora.runs.result import RunResult

_ENLARGED: Final = 1.5  # image pixels for each pixel of a window: tokens are coarse
_TOKENS: Final = (8, 16)  # along a side of an image, at least and at most, unless a size is given
_TAU: Final = 0.5  # the best mean IoU on validation, with any features
_RATED: Final = 3  # images whose raters are shown
_PANELS: Final = 5  # masks of each, of raters and of what is predicted
_Rated = list[list[NDArray[np.int16]]]
_OBJECTS: Final["WeakKeyDictionary[Dataset, tuple[int, ...]]"] = WeakKeyDictionary()


class Segmentation(Task):
    """Decide what covers each pixel of an image."""

    name = "segment"
    title = "segmentation"
    summary = "what covers each pixel of an image, from masks, polygons or a raster of classes"
    decision = "token"
    per_image = False
    per_pixel = True
    recuts = True
    upsamples = True
    scored = "the class of tokens; scores over pixels are IoU"
    defaults = MappingProxyType({"probe.loss": "dpt"})

    def open(
        self, source: str | Path, *, seed: int = 0, to_learn: bool = True, **options: Any
    ) -> "Dataset":
        """Open images with masks, scenes with labels, or a built-in dataset that has masks.

        Raises:
            DataError: See `tailora.data.open_masks` and `tailora.data.open_scene_windows`.
            ConfigError: An option is wrong.
        """
        from tailora.data import BUILT_IN, open_masks
        from tailora.data.objects import TiledObjects
        from tailora.data.open import is_scene, open_windows, refuse_misspelt
        from tailora.errors import ConfigError

        refuse_misspelt(source)
        name = str(source).partition(":")[0]
        given = {key: value for key, value in options.items() if value is not None}
        if is_scene(source, given):
            return open_windows(source, seed=seed, to_learn=to_learn, **given)
        given.pop("usual_chip", None)
        if name in BUILT_IN and not Path(name).exists():
            found = super().open(source, seed=seed, to_learn=to_learn, **given)
            if isinstance(found.targets, TiledObjects):
                raise ConfigError(f"{name} has boxes of objects, not masks: choose --task detect")
            return found
        of_scenes = sorted(given.keys() - {"classes", "ignore"})
        if of_scenes:
            raise ConfigError(
                f"{', '.join(of_scenes)} are options of scenes with --labels; a folder with "
                "images/ and masks/, or a table of both, takes --classes and --ignore alone"
            )
        return open_masks(source, seed=seed, to_learn=to_learn, **given)

    def check(self, data: "Dataset") -> None:
        """Refuse images without masks."""
        if data.targets is None:
            raise DataError(
                f"dataset {data.name!r} has one label per image and no masks, which task "
                f"{self.name!r} needs; leave out --task, or give images with masks"
            )

    def counts(self, data: "Dataset") -> ClassCounts:
        """Count training pixels, and the objects that they belong to, if a loss asks for these."""
        return replace(data.counts("train"), objects=partial(self._counted_once, data))

    def mask_objects(self, data: "Dataset") -> NDArray[np.int64]:
        """Count the objects of each class in training images (classes,); reads all their masks."""
        if data.targets is None:
            return np.zeros(len(data.classes), dtype=np.int64)
        return objects_in(data.targets, data.indices("train"))

    def _counted_once(self, data: "Dataset") -> tuple[int, ...]:
        if data not in _OBJECTS:  # a recipe is checked several times
            _OBJECTS[data] = tuple(self.mask_objects(data).tolist())
        return _OBJECTS[data]

    def image_size(self, data: "Dataset", patch: int) -> int:
        """One and a half pixels for each of a window, within 8 to 16 tokens along a side."""
        side = 0
        with suppress(DataError):  # decoding reports broken images
            side = min(data.source.read(int(data.indices("train")[0])).shape[1:])
        tokens = round(_ENLARGED * side / patch)
        return patch * min(max(tokens, _TOKENS[0]), _TOKENS[1])

    def grid(self, encoder: "AnyEncoder", image_size: int) -> tuple[int, ...]:
        """Tokens along both sides of an image."""
        return self.tokens(encoder, image_size)

    def tokens(self, encoder: "AnyEncoder", image_size: int) -> tuple[int, int]:
        """Tokens along both sides of an image.

        Raises:
            BackboneError: The encoder has none.
        """
        side = token_encoder(encoder, self.name).patches_a_side(image_size)
        return side, side

    def head_options(self, head: str) -> dict[str, Any]:
        """Half the logit adjustment: full, rare classes are found but called too often for IoU."""
        return {"tau": _TAU} if head == "logit-adjusted" else {}

    def targets(
        self, data: "Dataset", grid: tuple[int, ...], *, fit: str = "crop"
    ) -> NDArray[np.integer]:
        """Class of each token: that of the labelled pixel nearest to its centre, if there is one.

        A class that has pixels in a split, but at no such place, gets the token of most of them:
        heads must know it, and the test has to have it.
        """
        masks = data.targets
        found = np.full((len(data), *grid), IGNORED, dtype=np.int16)
        if masks is None:
            return found
        for i in range(len(data)):
            mask = masks.read(i)
            if mask is not None:
                found[i] = token_classes(seen(mask, fit), (grid[0], grid[1]))
        tally = masks.tally()
        for split in ("train", "val", "test"):
            rows = data.indices(split)
            held = np.bincount(found[rows][found[rows] >= 0], minlength=len(data.classes))
            for c in np.flatnonzero((held == 0) & tally[rows].any(axis=0)):
                self._give_a_token(found, data, rows[np.argmax(tally[rows, c])], int(c), fit)
        return found

    def _give_a_token(
        self, found: NDArray[np.integer], data: "Dataset", image: int, c: int, fit: str
    ) -> None:
        mask = None if data.targets is None else data.targets.read(int(image))
        own = None if mask is None else seen(mask, fit) == c
        if own is not None and own.any():  # what was cropped away cannot be learnt
            grid = found.shape[1:]
            of_pixel, _ = _tokens_of_pixels(own.shape, grid)
            most = np.bincount(of_pixel[own.ravel()], minlength=grid[0] * grid[1]).argmax()
            found[image].flat[most] = c

    def names(
        self, data: "Dataset", decisions: "Decisions", grid: tuple[int, ...]
    ) -> Sequence[str]:
        """Image, row and column of each token."""
        return token_names(data, decisions, grid[1])

    def model(self, encoder: "AnyEncoder") -> "Callable[[Tensor], Tensor]":
        """Features of each patch."""
        return token_encoder(encoder, self.name).patch_features

    def turned(self, targets: "Tensor", turns: NDArray[np.integer]) -> "Tensor":
        """Turn masks of tokens with their images."""
        from tailora.backbones.symmetries import dihedral

        return dihedral(targets[:, None], turns)[:, 0]

    def held(self, data: "Dataset", samples: NDArray[np.int64], fit: str) -> NDArray[np.bool_]:
        """Which classes the pixels of windows hold, as far as the encoder sees them."""
        found = np.zeros((len(samples), len(data.classes)), dtype=bool)
        for row, sample in enumerate(samples.tolist()):
            layers = self._layers(data, sample, fit)
            found[row, np.unique(layers[layers >= 0])] = True
        return found

    def recut(
        self,
        data: "Dataset",
        sample: int,
        grid: tuple[int, ...],
        *,
        chances: NDArray[np.float64],
        reach: float,
        draws: NDArray[np.float64],
        fit: str,
    ) -> tuple[NDArray[np.float64], NDArray[np.integer]]:
        """See `Task.recut`; what comes into the window has no class."""
        from tailora.augment.recut import draw_move, move_mask

        layers = self._layers(data, sample, fit)
        tokens, shape = (grid[-2], grid[-1]), layers.shape[1:]
        upper = np.cumsum(chances)
        chosen = np.searchsorted(upper, draws[0] * upper[-1], side="right")
        places = token_pixels(shape, tokens)
        move = draw_move((layers == chosen).any(axis=0), places, reach, draws[1:])
        moved = move_mask(layers, move, IGNORED)
        return move / shape, np.stack([token_classes(one, tokens) for one in moved]).reshape(grid)

    def _layers(self, data: "Dataset", sample: int, fit: str) -> NDArray[np.integer]:
        """Class of each pixel of a window, once for each time it is decided about."""
        mask = None if data.targets is None else data.targets.read(sample)
        if mask is None:
            return np.full((1, 1, 1), IGNORED)
        return seen(mask, fit)[None]

    def measure(self, measured: Measured) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Metrics over pixels of every row of the results, and the windows that the report shows.

        Masks keep their pixels: logits are brought to them, not they to tokens.
        """
        from tailora.metrics.intervals import FEWEST_UNITS
        from tailora.metrics.segmentation import PixelCounts, group_means, mask_metrics

        counts = [PixelCounts(len(measured.classes)) for _ in measured.rows]
        used: list[int] = []
        for i in range(len(measured.samples)):
            truth = true_classes(measured, i)
            if truth is None or not (truth >= 0).any():
                continue
            used.append(i)
            for row, one in zip(measured.rows, counts, strict=True):
                one.add(truth, classes_of(row.logits(np.array([i]))[0], truth.shape))
        units = list(used) if measured.units is None else measured.units[used].tolist()
        raters, rated = _of_raters(measured, used, units)
        objects = None if measured.train_objects is None else list(measured.train_objects())
        options: dict[str, Any] = {
            "replicates": measured.replicates, "confidence": measured.confidence,
            "seed": measured.seed, "object_groups": _groups_of(measured.classes, objects),
        }  # fmt: skip
        found = [
            mask_metrics(one, units, measured.groups, measured.classes, **options) for one in counts
        ]
        rows = [
            {"method": row.method, "head": row.head, **entry}
            for row, (entry, _) in zip(measured.rows, found, strict=True)
        ]
        last, differences = measured.rows[-1], []
        alone = len(set(units)) < FEWEST_UNITS
        for row, (_, scores) in list(zip(measured.rows, found, strict=True))[:-1]:
            means, ends = group_means(
                found[-1][1], measured.groups, confidence=measured.confidence, against=scores
            )
            differences.append(
                {
                    "method": last.method, "head": last.head, "against": row.method,
                    "against_head": row.head, "mean_iou": means,
                    "mean_iou_interval": dict.fromkeys(ends) if alone else ends,
                }
            )  # fmt: skip
        entry = {
            "images": len(used),
            "unit": "image" if measured.units is None else "group",
            "units": len(set(units)),
            "train_pixels": list(measured.train_pixels),
            **({} if objects is None else {"train_objects": objects}),
            "rows": rows,
            "differences": differences,
            **({} if raters is None else {"raters": raters}),
        }
        areas = np.stack(counts[-1].areas)
        hits, true, _ = np.moveaxis(areas, 1, 0)
        labelled, wrong = np.zeros((2, len(measured.samples)), dtype=np.int64)
        labelled[used], wrong[used] = true.sum(axis=1), (true - hits).sum(axis=1)
        decide = partial(self.truth_and_said, measured)
        maps = ground_maps(measured, wrong, labelled, decide)
        worst = worst_windows(measured, used, areas, measured.groups.tail, decide)
        return entry, worst | maps | rated

    def truth_and_said(
        self, measured: Measured, i: int
    ) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
        """True class of each pixel of image `i`, which has a mask, and that of the last row."""
        truth = true_classes(measured, i)
        assert truth is not None
        logits = measured.rows[-1].logits(np.array([i]))[0]
        return truth, self.decided(logits, truth.shape, measured.classes)

    def decided(
        self, logits: NDArray[np.floating], shape: tuple[int, ...], classes: Sequence[str]
    ) -> NDArray[np.int64]:
        """Class index of each pixel of an image.

        Args:
            logits: Of its places (*grid, classes).
            shape: Rows and columns of pixels.
            classes: Class names.
        """
        return classes_of(logits, shape)

    def compared_by(self) -> "type[Places]":
        """Counts of pixels."""
        from tailora.metrics.segmentation import PixelSums

        return PixelSums

    def places(self, measured: Measured) -> "Places":
        """Hits, true and predicted pixels of each class in each image."""
        from tailora.metrics.segmentation import PixelSums, pixel_table, sums_of

        found = np.zeros((len(measured.samples), 3, len(measured.classes)), dtype=np.int64)
        for i, truth, said in self.told(measured):
            found[i] = sums_of(pixel_table(truth, said, len(measured.classes)))
        return PixelSums(measured.image_units, found)

    def told(
        self, measured: Measured
    ) -> Iterator[tuple[int, NDArray[np.integer], NDArray[np.int64]]]:
        """Each image with a mask: its position, true and predicted class of each pixel.

        Args:
            measured: With one row.
        """
        [row] = measured.rows
        for i in range(len(measured.samples)):
            truth = true_classes(measured, i)
            if truth is not None:
                logits = row.logits(np.array([i]))[0]
                yield i, truth, self.decided(logits, truth.shape, measured.classes)

    def score(
        self, targets: NDArray[np.int64], predictions: NDArray[np.int64], *, num_classes: int
    ) -> float:
        """Mean IoU of tokens, over the classes that are true: false alarms cost as in pixels."""
        from tailora.metrics.confusion import confusion_matrix
        from tailora.metrics.segmentation import iou_of_sums, sums_of

        sums = sums_of(confusion_matrix(targets, predictions, num_classes))
        return float(iou_of_sums(sums)[sums[1] > 0].mean())

    def sections(self) -> "Sequence[Callable[[RunResult], Section | None]]":
        """Scores over pixels, the ground of the test images, and the worst windows."""
        from tailora.report.segmentation_sections import (
            class_ground_section,
            pixels_section,
            raters_section,
            windows_section,
        )

        return pixels_section, class_ground_section, windows_section, raters_section

    def shown(self, metrics: "RunMetrics") -> Sequence[Any]:
        """The table of IoU by group, and what was gained in the tail."""
        from tailora.report.segmentation_sections import gains, iou_table, rater_texts

        return iou_table(metrics), *gains(metrics), *rater_texts(metrics)


def _groups_of(classes: Sequence[str], objects: Sequence[int] | None) -> Groups | None:
    """Thirds of the classes by training objects; None where these are not known."""
    if objects is None or not any(objects):
        return None
    return make_groups(ClassCounts(tuple(classes), tuple(objects)))


def _of_raters(
    measured: Measured, used: Sequence[int], units: Sequence[Any]
) -> tuple[dict[str, Any] | None, dict[str, NDArray[Any]]]:
    """Agreement among the raters of the images, and of each row with them; None with one each.

    Returns:
        The metrics, and for the report the masks of those images that raters differ most about.
    """
    if measured.data.targets is None:
        return None, {}
    from tailora.data.targets import pictures_of
    from tailora.metrics.raters import RaterDistances

    found = RaterDistances(len(measured.classes), len(measured.rows))
    unit_of = dict(zip(used, units, strict=True))
    positions = np.array(used, dtype=np.int64)
    picture = pictures_of(measured.data.targets)[measured.samples[positions]]
    shown: list[tuple[float, int, _Rated]] = []
    for one in np.flatnonzero(np.bincount(picture, minlength=1) > 1):
        rated = positions[picture == one].tolist()
        masks = [truth for i in rated if (truth := true_classes(measured, i)) is not None]
        said = [
            classes_of(row.logits(np.array(rated[:1]))[0], masks[0].shape) for row in measured.rows
        ]
        drawn = [_drawn(row, rated[0], masks[0].shape) for row in measured.rows]
        if found.add(masks, said, unit_of[rated[0]], drawn):
            panels = masks, [said[-1], *(drawn[-1] or [])]
            small = [[small_mask(mask) for mask in few[:_PANELS]] for few in panels]
            shown.append((-found.raters[-1], rated[0], small))
            shown = sorted(shown, key=lambda entry: entry[:2])[:_RATED]
    summary = found.summary(
        replicates=measured.replicates, confidence=measured.confidence, seed=measured.seed
    )
    if summary is not None:
        for entry, row in zip(summary["rows"], measured.rows, strict=True):
            entry |= {"method": row.method, "head": row.head}
    return summary, _rated_arrays(measured, [(i, few) for _, i, few in shown])


def _rated_arrays(
    measured: Measured, shown: Sequence[tuple[int, _Rated]]
) -> dict[str, NDArray[Any]]:
    """Pictures of some images, masks of their raters, and what is predicted and drawn of them."""
    from tailora.report.segmentation_sections import NO_PANEL

    found: dict[str, list[Any]] = {name: [] for name in ("picture", "masks", "said", "id")}
    for i, (masks, said) in shown:
        sample = int(measured.samples[i])
        found["picture"].append(small_picture(measured, sample))
        for name, few in (("masks", masks), ("said", said)):
            gap = [np.full_like(few[0], NO_PANEL)] * (_PANELS - len(few))
            found[name].append(np.stack([*few, *gap]))
        found["id"].append(measured.data.source.id(sample).partition("@")[0])
    return {f"rated_{name}": np.array(values) for name, values in found.items()} if shown else {}


def _drawn(row: PlacedRow, i: int, shape: tuple[int, ...]) -> list[NDArray[np.int64]] | None:
    """Masks that a row draws of image `i`."""
    if row.drawn is None:
        return None
    return [classes_of(one, shape) for one in row.drawn(np.array([i]))[0]]


def true_classes(measured: Measured, i: int) -> NDArray[np.integer] | None:
    """Mask of image `i` as classes of the run, as far as the encoder sees it."""
    masks = measured.data.targets
    mask = None if masks is None else masks.read(int(measured.samples[i]))
    if mask is None:
        return None
    return np.append(measured.codes, IGNORED)[seen(mask, measured.fit)]  # -1 takes the last


def seen(mask: NDArray[Any], fit: str) -> NDArray[Any]:
    """The part of a mask (rows, columns) that the encoder sees of its image; see `resize`."""
    if fit == "stretch":
        return mask
    side = min(mask.shape)
    top, left = ((length - side) // 2 for length in mask.shape)
    return mask[top : top + side, left : left + side]


@cache
def _tokens_of_pixels(
    shape: tuple[int, ...], grid: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token of each pixel (pixels,), and pixels from the farthest to the nearest to its centre.

    Where several are as near, tokens take the first and the last of them in turn, as on a
    chessboard: always the first would be a shift of half a pixel.
    """
    at = [(np.arange(n) + 0.5) * g / n for n, g in zip(shape, grid, strict=True)]
    tokens = [np.floor(x).astype(np.int64) for x in at]
    apart = [(x - token - 0.5) ** 2 for x, token in zip(at, tokens, strict=True)]
    distance = np.add.outer(apart[0], apart[1]).round(9).ravel()
    side = np.add.outer(tokens[0], tokens[1]) % 2 * 2 - 1
    order = np.add.outer(np.arange(shape[0]) * shape[1], np.arange(shape[1])) * side
    token = (tokens[0][:, None] * grid[1] + tokens[1][None]).ravel()
    return token, np.lexsort((order.ravel(), distance))[::-1]


@cache
def token_pixels(shape: tuple[int, int], grid: tuple[int, int]) -> NDArray[np.int64]:
    """Row and column of the pixel that decides about each token, if all are labelled (tokens, 2).

    Args:
        shape: Rows and columns of pixels.
        grid: Tokens down and across.
    """
    token, order = _tokens_of_pixels(shape, grid)
    found = np.zeros(grid[0] * grid[1], dtype=np.int64)
    found[token[order]] = order
    return np.stack(np.unravel_index(found, shape), axis=1)


def token_classes(mask: NDArray[np.integer], grid: tuple[int, int]) -> NDArray[np.int16]:
    """Class of each token: that of the labelled pixel nearest to its centre.

    Args:
        mask: Class index of each pixel, negative without one (rows, columns).
        grid: Tokens down and across; pixels need not be a multiple of them.

    Returns:
        Of the shape of `grid`; `IGNORED` for a token without a labelled pixel.

    Example:
        >>> token_classes(np.array([[0, 0, 0, 9, 9, 9]] * 3), (1, 2)).tolist()
        [[0, 9]]
    """
    token, order = _tokens_of_pixels(mask.shape, grid)
    flat = mask.ravel()[order]
    order = order[flat >= 0]
    found = np.full(grid, IGNORED, dtype=np.int16)
    found.flat[token[order]] = flat[flat >= 0]  # of several the last stays: the nearest
    return found


def pixel_logits(logits: NDArray[np.floating], shape: tuple[int, ...]) -> "Tensor":
    """Interpolate logits of tokens to pixels, bilinearly between the centres of tokens.

    Args:
        logits: (rows, columns, classes).
        shape: Rows and columns of pixels.

    Returns:
        (classes, *shape); beyond the outermost centres the nearest values continue.
    """
    import torch
    from torch.nn import functional

    values = torch.from_numpy(np.ascontiguousarray(logits, dtype=np.float32))
    return functional.interpolate(
        values.movedim(-1, 0)[None], tuple(shape), mode="bilinear", align_corners=False
    )[0]


def classes_of(logits: NDArray[np.floating], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Class index of each pixel, of the shape `shape`; see `pixel_logits`."""
    return pixel_logits(logits, shape).argmax(dim=0).numpy()
