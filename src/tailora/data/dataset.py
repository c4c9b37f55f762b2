"""A set of labelled, split images: the input of every later stage."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.class_names import canonical_name, merged_names
from tailora.counts import ClassCounts
from tailora.data.sources import ImageSource, SelectedImages, file_mark
from tailora.data.splits import (
    SPLITS,
    complete_splits,
    divide_groups,
    require_two_samples,
)
from tailora.data.targets import SelectedTargets, Targets, fewest_classes, rarest_present
from tailora.errors import DataError, unknown_name
from tailora.numbers import counted


@final
@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with labels and splits, checked on construction.

    Args:
        name: Name in reports.
        source: Reads the images; image `i` is row `i` of every array here.
        labels: Class index of each image (samples,), int64. With `targets`, that of the rarest
            class in the image, -1 for an image without any.
        classes: Class names; position is the class index.
        splits: `"train"`, `"val"` or `"test"` per sample (samples,).
        groups: Scene, flight or block of each sample (samples,), or None; samples of one group are
            not independent.
        notes: How the data were processed, and known limitations.
        to_learn: Whether every class must have training and test samples; False for data only used
            to evaluate a finished run, for which one labelled sample suffices.
        bands: Name of each band of the images, in order, if known.
        wavelengths: Centre of each band in micrometres, if all are known.
        targets: Annotations of tasks with more than one label per image; None otherwise.
        dates: Images of each sample: 2 for pairs, whose bands follow each other in what `source`
            reads.

    Attributes:
        fingerprint: Hash of ids, labels, splits, groups, classes, file sizes and the beginning and
            end of each file. Datasets with equal fingerprints are treated as the same.

    Raises:
        DataError: See `check`.
    """

    name: str
    source: ImageSource
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    splits: NDArray[np.str_]
    groups: NDArray[np.str_] | None = None
    notes: tuple[str, ...] = ()
    to_learn: bool = True
    bands: tuple[str, ...] | None = None
    wavelengths: tuple[float, ...] | None = None
    targets: Targets | None = None
    dates: int = 1
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        check(self)
        object.__setattr__(self, "fingerprint", _fingerprint(self))

    def __len__(self) -> int:
        return len(self.labels)

    def ids(self) -> list[str]:
        """Name of every image, in order."""
        return [self.source.id(i) for i in range(len(self))]

    def indices(self, split: str) -> NDArray[np.int64]:
        """Rows of one split, ascending.

        Raises:
            ConfigError: There is no such split.
        """
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        return np.flatnonzero(self.splits == split)

    def counts(self, split: str = "train") -> ClassCounts:
        """Count the decisions of each class in one split: images, or what `targets` count."""
        rows = self.indices(split)
        if self.targets is None:
            return ClassCounts.from_labels(self.labels[rows], names=self.classes)
        return ClassCounts(self.classes, tuple(self.targets.tally()[rows].sum(axis=0).tolist()))

    def select(self, indices: NDArray[np.int64], *, note: str | None = None) -> "Dataset":
        """Select some rows, with all classes; the result is checked like any dataset.

        Args:
            indices: Rows to keep, in the desired order.
            note: Reason, added to the notes.

        Raises:
            DataError: The selection cannot be used, e.g. a class has no training sample left.
        """
        return replace(
            self,
            source=SelectedImages(self.source, indices),
            labels=self.labels[indices],
            splits=self.splits[indices],
            groups=None if self.groups is None else self.groups[indices],
            targets=None if self.targets is None else SelectedTargets(self.targets, indices),
            notes=self.notes if note is None else (*self.notes, note),
        )


def assemble(
    name: str,
    source: ImageSource,
    labels: Sequence[str],
    *,
    splits: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    notes: tuple[str, ...] = (),
    to_learn: bool = True,
) -> Dataset:
    """Build a dataset from class names, creating missing splits.

    Args:
        name: Name in reports.
        source: Reads the images.
        labels: Class name of each image, in any spelling that `canonical_name` unifies; the classes
            are these names, sorted.
        splits: `"train"`, `"val"` or `"test"` for each image; missing splits are taken from train.
        groups: Group of each image; new splits keep groups whole.
        seed: Seeds the new splits.
        notes: Known limitations of the data.
        to_learn: False for data only used for evaluation: no split is created, and samples without
            a split are test samples.

    Raises:
        DataError: The data cannot be used; see `check`.
    """
    written = {label: canonical_name(label) for label in set(labels)}
    classes = tuple(sorted(set(written.values())))
    index = {name: c for c, name in enumerate(classes)}
    rows = np.array([index[written[label]] for label in labels], dtype=np.int64)
    notes = (*notes, *merged_names(written))
    group_rows = None if groups is None else np.array(groups, dtype=np.str_)
    given = None if splits is None else np.array(splits, dtype=np.str_)
    if not to_learn:
        split_rows = np.full(len(rows), "test") if given is None else given
        return Dataset(name, source, rows, classes, split_rows, group_rows, notes, to_learn=False)
    _require_two_classes(classes)
    require_two_samples(rows, classes=classes)
    split_rows, made = complete_splits(rows, given, classes=classes, groups=group_rows, seed=seed)
    notes = (*notes, *made, *_divided_groups(split_rows, group_rows))
    return Dataset(name, source, rows, classes, split_rows, group_rows, notes)


def assemble_targets(
    name: str,
    source: ImageSource,
    targets: Targets,
    *,
    classes: Sequence[str],
    splits: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    notes: tuple[str, ...] = (),
    to_learn: bool = True,
    dates: int = 1,
) -> Dataset:
    """Build a data set whose images have more than one label each.

    Args:
        name: What to call it.
        source: Reads the images.
        targets: Their annotations.
        classes: Class names; position is the class index in the annotations.
        splits: `"train"`, `"val"` or `"test"` of each image; None divides images, or whole groups,
            70 : 10 : 20 so that every class is on every side if that is possible. Images without
            annotation are training images.
        groups: Group of each image; no group is divided here.
        seed: Decides the division.
        notes: What to know about the data.
        to_learn: False for data that are only measured on: all are test images.
        dates: See `Dataset`.

    Raises:
        DataError: The data cannot be used as they are; see `check`.
    """
    tally = targets.tally()
    if tally.shape != (len(source), len(classes)):
        raise DataError(
            f"data set {name!r} has {counted(len(source), 'image')} and "
            f"{counted(len(classes), 'class')}, but its "
            f"annotations count {' x '.join(map(str, tally.shape))}"
        )
    group_rows = None if groups is None else np.array(groups, dtype=np.str_)
    if splits is not None:
        split_rows = np.array(splits, dtype=np.str_)
    elif to_learn:
        split_rows = divided(tally, group_rows, seed)
    else:
        split_rows = np.full(len(source), "test")
    return Dataset(
        name,
        source,
        rarest_present(tally),
        tuple(classes),
        split_rows,
        group_rows,
        notes,
        to_learn=to_learn,
        targets=targets,
        dates=dates,
    )


_FRACTIONS: Final = (0.7, 0.1, 0.2)


def divided(
    tally: NDArray[np.int64], groups: NDArray[np.str_] | None, seed: int
) -> NDArray[np.str_]:
    """Divide images, or whole groups, 70 : 10 : 20 by what they hold of each class.

    Args:
        tally: Decisions of each class in each image (images, classes).
        groups: Group of each image, or None.
        seed: Decides the division.

    Returns:
        `"train"`, `"val"` or `"test"` of each image (images,).
    """
    own = np.arange(len(tally)) if groups is None else np.unique(groups, return_inverse=True)[1]
    amounts = np.zeros((own.max(initial=-1) + 1, tally.shape[1]))
    np.add.at(amounts, own, tally)
    sides = divide_groups(amounts, fractions=_FRACTIONS, rng=np.random.default_rng(seed))
    sides[~amounts.any(axis=1)] = 0
    return np.array(SPLITS)[sides[own]]


def check(dataset: Dataset) -> None:
    """Raise unless every class can be trained and tested.

    Args:
        dataset: Dataset to check; nothing is decoded.

    Raises:
        DataError: Arrays of different lengths, an invalid label or split, fewer than two classes
            (of objects, which have to be found, one suffices), a
            class with a single sample, or one without a training or a test sample; for evaluation
            only, no sample at all.
    """
    _require_rows(dataset)
    if dataset.targets is None:  # reject invalid labels
        ClassCounts.from_labels(dataset.labels, names=dataset.classes)
    if not dataset.to_learn:
        if not len(dataset):
            raise DataError(
                f"dataset {dataset.name!r} has no labelled sample; provide at least one"
            )
        return
    if fewest_classes(dataset.targets) > len(dataset.classes) or len(dataset.classes) > 1:
        _require_two_classes(dataset.classes)
    if dataset.targets is None:
        require_two_samples(dataset.labels, classes=dataset.classes)
    trained, tested = dataset.counts("train").values, dataset.counts("test").values
    held_out = np.add(dataset.counts("val").values, tested)
    unseen = [n for n, c, h in zip(dataset.classes, trained, held_out, strict=True) if h and not c]
    if unseen:
        raise DataError(
            f"classes {unseen} are in val or test but have no training sample; move some of their "
            f"samples to train or {_how_to_drop(dataset)}"
        )
    dataset.counts("train").require_all_present("all methods")
    untested = [name for name, count in zip(dataset.classes, tested, strict=True) if count == 0]
    if untested:
        raise DataError(
            f"classes {untested} have no test sample, so they cannot be evaluated; move some of "
            f"their samples to test or {_how_to_drop(dataset)}"
        )


def _how_to_drop(dataset: Dataset) -> str:
    """What leaves classes out; masks in files have a table that names them."""
    if hasattr(dataset.targets, "table"):
        return "name their values 'ignore' in the class table"
    return "drop them"


def _require_rows(dataset: Dataset) -> None:
    lengths = {
        "images": len(dataset.source),
        "labels": len(dataset.labels),
        "splits": len(dataset.splits),
        "groups": len(dataset.labels if dataset.groups is None else dataset.groups),
        "targets": len(dataset.labels if dataset.targets is None else dataset.targets),
    }
    if len(set(lengths.values())) != 1:
        raise DataError(f"images, labels, splits, groups and targets differ in number: {lengths}")
    wrong = sorted(set(dataset.splits.tolist()) - set(SPLITS))
    if wrong:
        raise DataError(f"splits must be one of {SPLITS}, got {wrong}")


def _require_two_classes(classes: Sequence[str]) -> None:
    if len(set(classes)) < 2 or len(set(classes)) != len(classes):
        raise DataError(f"at least two different classes are needed, got {list(classes)}")


def _divided_groups(splits: NDArray[np.str_], groups: NDArray[np.str_] | None) -> tuple[str, ...]:
    if groups is None:
        return ()
    sides = {(group, split) for group, split in zip(groups.tolist(), splits.tolist(), strict=True)}
    splits_of = Counter(group for group, _ in sides)
    divided = sum(count > 1 for count in splits_of.values())
    note = f"in more than one of the given splits: {counted(divided, 'group')}"
    return (note,) if divided else ()


def _fingerprint(dataset: Dataset) -> str:
    groups = [] if dataset.groups is None else dataset.groups.tolist()
    marks = [file_mark(dataset.source, i) for i in range(len(dataset))]
    facts: list[Any] = [
        dataset.ids(),
        dataset.labels.tolist(),
        dataset.splits.tolist(),
        groups,
        dataset.classes,
        marks,
    ]
    if dataset.targets is not None:
        facts.append([dataset.targets.mark(i) for i in range(len(dataset))])
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()
