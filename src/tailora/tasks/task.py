"""A task: what is decided about an image, and how such decisions become rows.

One row is one decision. Losses, samplers, heads, debLoRA and metrics are written once, for rows of
features, class indices and images that they lie in; a task says how images and their annotations
become such rows, and what is particular about its results. torch is imported only where a task
computes with it: help texts and reports ask for names alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, final

import numpy as np
from numpy.typing import NDArray

from tailora import registry
from tailora.decisions import Decisions, labelled
from tailora.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tailora.augment.moved_objects import ImageObjects
    from tailora.backbones import AnyEncoder
    from tailora.backbones.foundation import VisionModel
    from tailora.backbones.stages import Stage
    from tailora.counts import ClassCounts, Groups
    from tailora.data import Dataset
    from tailora.metrics import RunMetrics
    from tailora.metrics.places import Places
    from tailora.report.blocks import Section
    from tailora.runs.result import RunResult

USUAL_PATCH: Final = 14
"""Side in pixels of a token of the default encoder."""

InBoxes = Callable[
    [NDArray[np.int64], Sequence[NDArray[np.floating]]], Sequence[NDArray[np.float32]]
]


@final
@dataclass(frozen=True)
class PlacedRow:
    """What one row of the results says about every place of the test images.

    Args:
        method: How the encoder was adapted.
        head: Name of the head.
        logits: Takes positions among the images (images,), gives (images, *grid, classes).
        drawn: The same of each of several masks that the head draws (images, draws, *grid,
            classes); None for a head that draws none.
        detected: What the task's detector says about these images, in its own form; None for a
            method that trains none.
        in_boxes: Takes positions among the images and boxes of each (boxes, 5), as shares of its
            side, and gives their logits (boxes, classes); where there is a detector.
    """

    method: str
    head: str | None
    logits: Callable[[NDArray[np.int64]], NDArray[np.float32]]
    drawn: Callable[[NDArray[np.int64]], NDArray[np.float32]] | None = None
    detected: Callable[[NDArray[np.int64]], NDArray[np.float32]] | None = None
    in_boxes: "InBoxes | None" = None


@final
@dataclass(frozen=True, kw_only=True)
class Measured:
    """Test images with their annotations, and what every row of the results says about them.

    Args:
        data: Dataset of the images.
        samples: Their numbers in it (images,).
        units: Group of each image, which intervals resample; None for images alone.
        codes: Class index of the run for each class of the data, negative for one it does not know.
        rows: In the order of the results; the run predicts with the last.
        classes: Class names of the run.
        groups: Head, middle and tail.
        train_pixels: What `counts` of the training split has of each class, e.g. pixels.
        fit: How images were made square; see `tailora.data.resize`.
        image_size: Side of the images that the model sees, in pixels.
        replicates: Resamples of intervals.
        confidence: Of intervals.
        seed: Of the resampling.
        said: What the last row says about every place of an image as its source reads it (bands,
            rows, columns): logits (*grid, classes). None where only features are at hand.
        train_objects: Counts the objects of each class that training pixels belong to, where they
            are known.
    """

    data: "Dataset"
    samples: NDArray[np.int64]
    units: NDArray[Any] | None
    codes: NDArray[np.int64]
    rows: Sequence[PlacedRow]
    classes: Sequence[str]
    groups: "Groups"
    train_pixels: Sequence[int]
    fit: str
    image_size: int
    replicates: int
    confidence: float
    seed: int
    said: Callable[[NDArray[Any]], NDArray[np.float32]] | None = None
    train_objects: Callable[[], Sequence[int]] | None = None

    @property
    def image_units(self) -> NDArray[np.str_]:
        """Unit of each image by name: its group, or the image alone (images,)."""
        return np.asarray(self.samples if self.units is None else self.units, dtype=np.str_)


class Task:
    """What is decided about an image; subclasses say what differs from one label for each.

    Attributes:
        name: In recipes and on the command line, e.g. `"classify"`.
        instead: Advice where each image needs one class and this task gives none.
        title: As shown in reports.
        summary: What is decided, in one line.
        decision: What one row of the metrics is, e.g. `"image"` or `"pixel"`.
        per_image: Whether each image is exactly one decision, so that images can be mixed, turned
            at prediction, compared as two views, and be the chips of a map.
        pooling: Which tokens make the features if the recipe does not say; None for the usual.
        per_pixel: Whether what is said at places holds between them too, so that a map has a class
            for every pixel.
        detects: Whether a detector is trained with the adapter; see `detector`.
        scored: What macro-F1, calibration and verdicts are about where it is not what the run is
            for, e.g. `"the class of tokens"`; reports say so.
        transitions: Whether classes are transitions between two dates.
        recuts: Whether windows can be re-cut around a pixel of a class; see `recut`.
        upsamples: Whether `probe.detail = "upsample"` doubles `image_size`.
        defaults: Recipe keys for which the command line has another default in this task.
    """

    name: ClassVar[str]
    instead: ClassVar[str] = "measure it with `tailora evaluate`"
    title: ClassVar[str]
    summary: ClassVar[str]
    decision: ClassVar[str] = "image"
    per_image: ClassVar[bool] = True
    per_pixel: ClassVar[bool] = False
    pooling: ClassVar[str | None] = None
    detects: ClassVar[bool] = False
    scored: ClassVar[str] = ""
    transitions: ClassVar[bool] = False
    recuts: ClassVar[bool] = False
    upsamples: ClassVar[bool] = False
    defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    # data

    def open(
        self, source: str | Path, *, seed: int = 0, to_learn: bool = True, **options: Any
    ) -> "Dataset":
        """Open a data set of this task; see `open_dataset`.

        Raises:
            DataError: There is nothing at `source` that the task can learn from.
            ConfigError: An option is wrong.
        """
        from tailora.data import open_dataset  # a report needs no reader of images

        return open_dataset(source, seed=seed, to_learn=to_learn, **options)

    def check(self, data: "Dataset") -> None:
        """Refuse data that the task cannot be done on.

        Raises:
            DataError: It lacks what the task needs, e.g. masks.
        """

    def counts(self, data: "Dataset") -> "ClassCounts":
        """Count the training decisions of each class: what losses, heads and groups go by."""
        return data.counts("train")

    def image_size(self, data: "Dataset", patch: int) -> int | None:
        """Side in pixels that images are brought to if none is chosen; None for the usual one.

        Args:
            data: As opened.
            patch: Side of a patch of the encoder in pixels.
        """
        return None

    def grid(self, encoder: "AnyEncoder", image_size: int) -> tuple[int, ...]:
        """Shape of the decisions about one image, e.g. (rows, columns); () where it is one.

        Args:
            encoder: Of the run.
            image_size: Side of the images in pixels.

        Raises:
            BackboneError: The encoder has no features for such decisions.
        """
        return ()

    def stages(self, encoder: "AnyEncoder", image_size: int) -> "Sequence[Stage]":
        """Maps of the encoder that `model` adds behind the features of each place; none as usual.

        Args:
            encoder: Of the run.
            image_size: Side of the images in pixels.
        """
        return ()

    def layers(self, model: "VisionModel", image_size: int) -> list[int]:
        """Layers of an encoder that features come from if the recipe names none; its output if [].

        Args:
            model: As loaded.
            image_size: Side of the images in pixels.

        Raises:
            BackboneError: The model does not accept that size.
        """
        return []

    def head_options(self, head: str) -> dict[str, Any]:
        """Options of a head that suit the task, where a recipe has none for it.

        Args:
            head: Name of the head.
        """
        return {}

    def targets(
        self, data: "Dataset", grid: tuple[int, ...], *, fit: str = "crop"
    ) -> NDArray[np.integer]:
        """Class index of every decision, negative where there is no label.

        Args:
            data: The images that could be read.
            grid: From `grid`.
            fit: How images are made square; see `tailora.data.resize`.

        Returns:
            (images, *grid); may be memory-mapped.
        """
        return data.labels

    def decisions(
        self, data: "Dataset", samples: NDArray[np.int64], targets: NDArray[np.integer]
    ) -> Decisions:
        """List the labelled decisions about some images: the rows that heads see.

        Args:
            data: With the annotations.
            samples: Numbers of the images in it, ascending (images,).
            targets: Their `targets` (images, *grid).
        """
        return labelled(samples, targets)

    def names(
        self, data: "Dataset", decisions: "Decisions", grid: tuple[int, ...]
    ) -> Sequence[str]:
        """Name each decision, as predictions.csv does."""
        return [data.source.id(int(i)) for i in decisions.sample]

    # model

    def model(self, encoder: "AnyEncoder") -> "Callable[[Tensor], Tensor]":
        """Give what turns images (batch, bands, height, width) into features of decisions.

        Args:
            encoder: With its adapter; whatever learns must be a part of it.

        Returns:
            A callable that returns (batch, *grid, features), float32; behind the features of the
            encoder, which heads see, those of `stages`.
        """
        return encoder

    def turned(self, targets: "Tensor", turns: NDArray[np.integer]) -> "Tensor":
        """Move targets as augmentation turned their images.

        Args:
            targets: (batch, *grid).
            turns: Symmetry of the square for each image; see `tailora.train.objectives.dihedral`.
        """
        return targets

    def held(self, data: "Dataset", samples: NDArray[np.int64], fit: str) -> NDArray[np.bool_]:
        """Tell which classes the pixels of images hold (samples, classes); asked for `recut`.

        Args:
            data: With the annotations.
            samples: Numbers of the images in it.
            fit: How images are made square; see `tailora.data.resize`.
        """
        raise NotImplementedError(f"task {self.name!r} has no pixels with a class")

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
        """Move a window so that a pixel of a class lies at the centre of some token.

        Args:
            data: With the annotations.
            sample: Number of the image in it.
            grid: Shape of the decisions about it.
            chances: Of each class to be that class (classes,), 0 for those it does not hold.
            reach: Largest move in shares of the side.
            draws: For the class, the pixel and its place, in [0, 1) (3,).
            fit: How images are made square.

        Returns:
            How far it moves down and right, in shares of the side (2,), and its targets then
            (*grid).
        """
        raise NotImplementedError(f"task {self.name!r} has no pixels with a class")

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
    ) -> "nn.Module | None":
        """Build what is trained with the adapter, beside the head, and kept in the run.

        Args:
            width: Number of features of each decision.
            grid: Shape of the decisions about one image.
            image_size: Side of the images in pixels.
            stages: From `stages`.
            detector: Which, see `train.detector`.
            box_loss: Its loss of boxes, see `train.box_loss`.
            presence: Its loss of presence, see `train.presence`.

        Returns:
            A module from features (batch, *grid, features) to what `PlacedRow.detected` gives, with
            initial weights from torch's generator; None where nothing is trained beside the head.
        """
        return None

    def start_detector(
        self, detector: "nn.Module", data: "Dataset", samples: NDArray[np.int64]
    ) -> None:
        """Set what a detector begins with by what it will learn from, before it is trained.

        Args:
            detector: From `detector`.
            data: With the annotations.
            samples: Numbers of the training images in it (images,).
        """

    def detector_losses(
        self,
        detector: "nn.Module",
        features: "Tensor",
        data: "Dataset",
        samples: NDArray[np.int64],
        turns: NDArray[np.integer] | None,
    ) -> "Mapping[str, Tensor]":
        """Losses of the detector by name; they are added to that of the rows.

        Args:
            detector: From `detector`.
            features: Of the images, as augmentation turned them (batch, *grid, features).
            data: With the annotations.
            samples: Numbers of the images in it (batch,).
            turns: Symmetry of the square for each image; None where none was turned.
        """
        return {}

    def objects(
        self,
        data: "Dataset",
        samples: NDArray[np.int64],
        size: int,
        turns: NDArray[np.integer] | None = None,
    ) -> "Sequence[ImageObjects]":
        """Objects of images, which augmentation may move; asked of tasks that train a detector.

        Args:
            data: With the annotations.
            samples: Numbers of the images in it (batch,).
            size: Side of the images in pixels.
            turns: Symmetry of the square for each image; None where none was turned.
        """
        raise NotImplementedError(f"task {self.name!r} has no objects")

    def object_rows(
        self, features: "Tensor", objects: "Sequence[ImageObjects]", size: int
    ) -> "tuple[Tensor, Tensor]":
        """Features (rows, features) and class (rows,) of all objects that count.

        Args:
            features: Of images with these objects (batch, *grid, features).
            objects: Of each image.
            size: Side of the images in pixels.
        """
        raise NotImplementedError(f"task {self.name!r} has no objects")

    def object_losses(
        self, detector: "nn.Module", features: "Tensor", objects: "Sequence[ImageObjects]"
    ) -> "Mapping[str, Tensor]":
        """Losses of the detector on images with such objects; see `detector_losses`."""
        raise NotImplementedError(f"task {self.name!r} has no objects")

    def extra_losses(
        self, features: "Tensor", logits: "Tensor", targets: "Tensor"
    ) -> "Mapping[str, Tensor]":
        """Losses beside that of the rows, e.g. of overlap or boxes, by name; they are added to it.

        Args:
            features: (batch, *grid, features).
            logits: Of the labelled decisions (rows, classes), or (experts, rows, classes).
            targets: (batch, *grid).
        """
        return {}

    # results

    def other_head(self, head: str, classes: Sequence[str]) -> str | None:
        """Name the head that the run's is always shown beside, fitted to the same features.

        Args:
            head: Name of the run's.
            classes: Class names.

        Returns:
            None where there is none.
        """
        return None

    def metrics(
        self,
        decisions: "Decisions",
        predicted: NDArray[np.int64],
        *,
        classes: Sequence[str],
        groups: Mapping[str, Sequence[str]],
    ) -> dict[str, Any]:
        """Metrics of the task beside those of its rows, as plain JSON; empty where there are none.

        Args:
            decisions: Of the test split.
            predicted: Their predicted class indices (rows,).
            classes: Class names in index order.
            groups: Class names by group: head, middle, tail.
        """
        return {}

    def measure(self, measured: Measured) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Metrics of what is said about every place, labelled or not, and arrays for the report.

        Asked of tasks with several decisions for each image.

        Returns:
            Plain JSON beside that of `metrics`, and arrays for report.npz, by name.
        """
        return {}, {}

    def found_intervals(
        self, found: Mapping[str, Any]
    ) -> Sequence[tuple[float, float] | None] | None:
        """Interval of how well each class is found, where finding it is a part of the task.

        Args:
            found: What `measure` gave.

        Returns:
            Of the run's own row, in class order; None for a task whose places are given.
        """
        return None

    def compared_by(self) -> "type[Places] | None":
        """What rows of comparisons are scored by, and resampled; None for decisions alone."""
        return None

    def places(self, measured: Measured) -> "Places":
        """Say what `compared_by` holds of one row.

        Args:
            measured: With one row.
        """
        raise NotImplementedError(f"task {self.name!r} is compared by decisions")

    def score(
        self, targets: NDArray[np.int64], predictions: NDArray[np.int64], *, num_classes: int
    ) -> float:
        """Score decisions of validation, by which penalties and options of heads are chosen.

        Args:
            targets: Class indices (rows,), at least one row.
            predictions: Class indices (rows,).
            num_classes: Number of classes.

        Returns:
            Higher is better.
        """
        from tailora.metrics.confusion import present_macro_f1  # a report computes none

        return present_macro_f1(targets, predictions, num_classes=num_classes)

    def sections(self) -> "Sequence[Callable[[RunResult], Section | None]]":
        """Sections of the report beside those that every run has; each is given the run."""
        return ()

    def shown(self, metrics: "RunMetrics") -> Sequence[Any]:
        """Tables (rich) and sentences that `fit` and `evaluate` print after the usual table."""
        return ()


def find_task(name: str) -> Task:
    """Return the task called `name`.

    Raises:
        ConfigError: There is none; the message has the nearest name.
    """
    return registry.find("tasks", name)()


def require_per_image(name: str, verb: str) -> None:
    """Refuse a verb that gives each image, or each chip of a scene, one class.

    Args:
        name: Of a run's task.
        verb: For the message.

    Raises:
        ConfigError: The task decides about parts of an image.
    """
    task = find_task(name)
    if not task.per_image:
        raise ConfigError(
            f"{verb} needs a run that gives each image one class, and one of task {name!r} decides "
            f"about every {task.decision}: {task.instead}"
        )
