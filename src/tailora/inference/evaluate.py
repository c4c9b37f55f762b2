"""Evaluate a finished run on its own test split, or on other data with the same classes."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailora.class_names import canonical_name
from tailora.counts import ClassCounts, make_groups
from tailora.data import Dataset, PreparedImages, prepare_images, resize
from tailora.data.scenes.chips import share_ground
from tailora.decisions import Decisions
from tailora.errors import ConfigError, DataError, RunError, unknown_name
from tailora.features.rows import row_features
from tailora.heads.boxed import logits_in_boxes
from tailora.heads.map_probe import drawn_by, finest
from tailora.heads.probe import sees_maps
from tailora.methods.band_choice import with_band_names
from tailora.methods.detectors import run_detector
from tailora.methods.scoring import decided, with_task_metrics
from tailora.metrics import MethodOutput, RunMetrics, evaluate_methods
from tailora.numbers import counted
from tailora.progress import Progress, silent
from tailora.runs.input_format import pick
from tailora.runs.run import Run
from tailora.runs.run_files import read_seen
from tailora.runs.weights import OTHER_HEAD, load_head
from tailora.tasks.task import Measured, PlacedRow, Task, find_task

SPLIT_CHOICES = ("test", "all")
_BATCH: Final = 64  # images
_ROOM: Final = 2**30  # bytes of features that are kept, so that no image is encoded twice
_Placed = Callable[[NDArray[np.int64]], NDArray[np.float32]]


def evaluate_run(
    run: Run,
    data: Dataset,
    *,
    split: str | None = None,
    skip_broken: bool = False,
    progress: Progress = silent,
) -> RunMetrics:
    """Evaluate a run.

    Prediction sets and temperatures are those of the run: nothing is fitted to the new data.

    Args:
        run: From `load_run`.
        data: Labelled images, at least one; classes are matched by name, and images of classes the
            run was not trained on are left out and counted in `left_out`. In data other than the
            run's own, its training and validation images are left out too, recognised by content
            and counted in `learnt_from`.
        split: `"test"` or `"all"`; None means `"test"` for the run's own data and `"all"` for other
            data.
        skip_broken: Skip unreadable images.
        progress: Shows progress.

    Raises:
        RunError: The data have no image of a class the run was trained on.
        DataError: The images have other bands or another dtype than those the run was trained on,
            or the chosen split is empty.
        ConfigError: `"all"` of the run's own data.
    """
    data = with_band_names(data, run.recipe.data)
    own = data.fingerprint == run.record.dataset.fingerprint
    split = split or ("test" if own else "all")
    if split not in SPLIT_CHOICES:
        raise unknown_name("split", split, SPLIT_CHOICES)
    if own and split == "all":
        raise ConfigError("--split all would evaluate the run on its own training images")
    task = find_task(run.recipe.task)
    task.check(data)
    known, unknown = _known_rows(run, data) if task.per_image else (np.arange(len(data)), {})
    if unknown or skip_broken:  # what is left need not be enough to learn from
        data = replace(data, to_learn=False).select(known)
    rows = data.indices("test") if split == "test" else np.arange(len(data))
    if not len(rows):
        raise DataError(f"dataset {data.name!r} has no {split} sample; add --split all")
    with tempfile.TemporaryDirectory() as folder:
        images = prepare_images(
            data,
            Path(folder) / "images",
            image_size=run.input.image_size,
            fit=run.input.resize,
            skip_broken=skip_broken,
            progress=progress,
        )
        bands = _match_bands(run, data, images)
        rows = images.dataset.indices("test") if split == "test" else np.arange(len(images.dataset))
        rows, learnt = (rows, 0) if own else _unseen(run, images, rows)
        measured, unknown = _decisions(run, task, images.dataset, rows, unknown)
        encoded = _Encoded(run, task, images, bands)
        shares = _probabilities(run, encoded, measured, progress)
        units = _units(task, data, measured, images.kept)
        metrics = _score(run, measured.labels, shares, units, own=own)
        placed = None if task.per_image else _measured(run, task, encoded, rows)
        metrics, _ = with_task_metrics(task, metrics, measured, run.said(shares), measured=placed)
    return replace(metrics, left_out=unknown, learnt_from=learnt)


def _decisions(
    run: Run,
    task: Task,
    data: Dataset,
    samples: NDArray[np.int64],
    unknown: dict[str, int],
) -> tuple[Decisions, dict[str, int]]:
    """Labelled decisions of some images as the run's classes, and how many it knows no class of."""
    grid = task.grid(run.model.encoder, run.input.image_size)
    targets = task.targets(data, grid, fit=run.input.resize)[samples]
    found = task.decisions(data, samples, targets)
    own = _match_labels(run, data, found.labels)
    others, counts = np.unique(found.labels[own < 0], return_counts=True)
    left = {data.classes[c]: int(n) for c, n in zip(others, counts, strict=True)}
    if not (own >= 0).any():
        raise RunError(
            f"run {str(run.folder.path)!r} knows no class of {data.name!r}, only {run.class_names}"
        )
    return replace(found, labels=own).select(own >= 0), unknown | left


@final
class _Encoded:
    """Features of images, each encoded once while there is room to keep what it gave.

    Args:
        run: With the encoder.
        task: Of the run.
        images: Prepared.
        bands: The run's, among those of the images.
    """

    def __init__(
        self, run: Run, task: Task, images: PreparedImages, bands: tuple[int, ...]
    ) -> None:
        self.run, self.images, self.bands = run, images, bands
        self.model = run.model.features if task.per_image else task.model(run.model.encoder)
        self.seen = run.model.encoder.features  # by heads; what follows a detector alone sees
        self.room = 0 if task.per_image else _ROOM  # where images are asked for once
        self.kept: dict[int, Tensor] = {}
        self.last: dict[int, Tensor] = {}

    def __call__(self, samples: NDArray[np.int64]) -> Tensor:
        """Return features (samples, *grid, features) on the device of the model."""
        known = self.kept | self.last
        new = [i for i in samples.tolist() if i not in known]
        if new:
            pixels = _pixels(self.run, self.images, np.array(new), self.bands)
            with torch.inference_mode():
                features = self.model(pixels.to(next(self.run.model.parameters()).device))
            known |= dict(zip(new, features, strict=True))
        self.last = {i: known[i] for i in samples.tolist()}  # boxes, then classes under them
        for i in new:
            if (left := self.room - known[i].nbytes) >= 0:
                self.kept[i], self.room = known[i], left
        return torch.stack([known[i] for i in samples.tolist()])


def _probabilities(
    run: Run, encoded: _Encoded, decisions: Decisions, progress: Progress
) -> NDArray[np.float32]:
    """What the head says of each decision (rows, classes), not scaled."""
    samples, probe = decisions.samples, run.recipe.probe
    told, seen = [], []
    with torch.inference_mode(), progress("predicting", len(samples)) as advance:
        for start in range(0, len(samples), _BATCH):
            batch = samples[start : start + _BATCH]
            own, image = decisions.of(batch)
            features = encoded(batch)[..., : encoded.seen]
            if sees_maps(run.model.head):
                logits = row_features(run.model.head(features), image, decisions, own)
            else:
                rows = row_features(features, image, decisions, own)
                logits = run.model.head(rows)
                if probe.smoothing:
                    seen.append(rows.float().cpu().numpy())
            told.append(logits.float().cpu().numpy())
            advance(len(batch))
    every = np.concatenate(told)
    return decided(every, np.concatenate(seen) if seen else every[:0], probe)


def _measured(run: Run, task: Task, encoded: _Encoded, samples: NDArray[np.int64]) -> Measured:
    """The images, and what the run says about every place of them."""
    device = next(run.model.parameters()).device
    data, options = encoded.images.dataset, run.recipe.evaluate

    def said_by(part: Callable[[Tensor], Tensor], seen: int | None = encoded.seen) -> _Placed:
        def said(positions: NDArray[np.int64]) -> NDArray[np.float32]:
            with torch.inference_mode():
                return part(encoded(samples[positions])[..., :seen]).float().cpu().numpy()

        return said

    def in_boxes(
        positions: NDArray[np.int64], boxes: Sequence[NDArray[np.floating]]
    ) -> list[NDArray[np.float32]]:
        features = encoded(samples[positions])[..., : encoded.seen]
        return logits_in_boxes(run.model.head, features, boxes)

    detector, draw = run_detector(run, task), drawn_by(run.model.head)

    def said(image: NDArray[Any]) -> NDArray[np.float32]:
        prepared = resize(image, run.input.image_size, fit=run.input.resize)
        with torch.inference_mode():
            stored = pick(torch.from_numpy(prepared)[None], encoded.bands, run.input.dates or 1)
            features = encoded.model(stored.to(device))[..., : encoded.seen]
            return finest(run.model.head)(features).float().cpu().numpy()[0]

    counts = ClassCounts(tuple(run.class_names), tuple(one.n_train for one in run.classes))
    objects = (run.metrics.task or {}).get("train_objects")
    return Measured(
        data=data,
        samples=samples,
        units=None if data.groups is None else data.groups[samples],
        codes=_match_labels(run, data, np.arange(len(data.classes))),
        rows=[
            *_other_row(run, task, said_by),
            PlacedRow(
                run.record.method,
                run.metrics.methods[-1].head,
                said_by(finest(run.model.head)),
                None if draw is None else said_by(draw),
                None if detector is None else said_by(detector, None),
                None if detector is None else in_boxes,
            ),
        ],
        classes=run.class_names,
        groups=make_groups(counts, options.groups, low=options.low, high=options.high),
        train_pixels=counts.values,
        train_objects=None if objects is None else lambda: objects,
        fit=run.input.resize,
        image_size=run.input.image_size,
        replicates=options.replicates,
        confidence=options.confidence,
        seed=run.recipe.seed,
        said=said,
    )


def _other_row(
    run: Run,
    task: Task,
    said_by: Callable[
        [Callable[[Tensor], Tensor]], Callable[[NDArray[np.int64]], NDArray[np.float32]]
    ],
) -> list[PlacedRow]:
    """The row of the head that the task shows beside the run's; none where it was not kept."""
    name = task.other_head(run.recipe.probe.loss, run.class_names)
    path = run.folder.path / f"{OTHER_HEAD}.safetensors"
    if name is None or not path.is_file():
        return []
    head = load_head(path, classes=len(run.classes), features=run.model.encoder.features)
    device = next(run.model.parameters()).device
    return [PlacedRow(run.record.method, name, said_by(head.to(device)))]


def _units(
    task: Task, data: Dataset, decisions: Decisions, kept: NDArray[np.int64]
) -> NDArray[Any] | None:
    """What the bootstrap resamples (rows,): groups, or images of several decisions."""
    if data.groups is not None:
        return data.groups[kept[decisions.sample]]
    return None if task.per_image else decisions.sample


def _unseen(
    run: Run, images: PreparedImages, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int | None]:
    """Return rows not used by the run, and how many were; None if it cannot be determined.

    Chips that overlap ground used by the run count as used.
    """
    seen = read_seen(run.folder.path)
    if seen is None:
        return rows, None
    is_seen = np.isin(images.digests(rows), seen)
    is_seen |= share_ground(images.dataset.source, rows, rows[is_seen])
    if is_seen.all():
        raise DataError(
            f"every image ({len(rows)}) is a training or validation image of run "
            f"{str(run.folder.path)!r}; use others"
        )
    return rows[~is_seen], int(is_seen.sum())


def _score(
    run: Run,
    targets: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    units: NDArray[Any] | None,
    *,
    own: bool,
) -> RunMetrics:
    counts = ClassCounts(tuple(run.class_names), tuple(one.n_train for one in run.classes))
    options = run.recipe.evaluate
    costs = run.metrics.methods[-1]
    output = MethodOutput(
        run.record.method,
        probabilities,
        trained_parameters=costs.trained_parameters,
        seconds=costs.seconds,
        peak_memory_mb=costs.peak_memory_mb,
        fit=run.calibration,
        head=costs.head,
    )
    return evaluate_methods(
        [output],
        targets=targets,
        counts=counts,
        groups=make_groups(counts, options.groups, low=options.low, high=options.high),
        units=units,
        seed=run.recipe.seed,
        replicates=options.replicates,
        confidence=options.confidence,
        balanced_reference=options.balanced_reference if own else None,
    )


def _match_bands(run: Run, data: Dataset, images: PreparedImages) -> tuple[int, ...]:
    """Return the indices of the run's bands in these images, by name if both have names."""
    stored = run.record.dataset.bands
    named = data.bands is not None and run.input.names is not None
    known = {1, 3} if stored == 3 else {stored}
    if images.source_dtype != run.input.dtype or not (named or images.bands in known):
        raise DataError(
            f"the images have {counted(images.bands, 'band')} of {images.source_dtype}, but the "
            f"run was trained on {stored} of {run.input.dtype}; convert them"
        )
    return run.input.find_bands(data.bands, images.bands)


def _pixels(
    run: Run, images: PreparedImages, rows: NDArray[np.int64], bands: tuple[int, ...]
) -> Tensor:
    """Return the bands of images in stored values; grey ones are repeated for a colour run."""
    found = images.batch(rows)
    if len(found[0]) == 1:
        found = found.expand(-1, run.record.dataset.bands, -1, -1)
    return pick(found, bands, run.input.dates or 1)


def _known_rows(run: Run, data: Dataset) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Return rows of known classes, and the number of samples of each other class."""
    names = np.array(data.classes)[data.labels]
    known = np.isin(names, [canonical_name(name) for name in run.class_names])
    others, counts = np.unique(names[~known], return_counts=True)
    unknown = dict(zip(others.tolist(), counts.tolist(), strict=True))
    if not known.any():
        raise RunError(
            f"run {str(run.folder.path)!r} belongs to another dataset: it has none of the "
            f"classes {sorted(unknown)}, only {run.class_names}{_unnamed(unknown)}"
        )
    return np.flatnonzero(known), unknown


def _unnamed(names: Iterable[str]) -> str:
    if not all(name.lstrip("-").isdigit() for name in names):
        return ""
    return "; a raster of classes needs class names, in its attribute table or as category names"


def _match_labels(run: Run, data: Dataset, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return class indices of the run for those of the data (rows,), -1 for unknown classes."""
    known = {canonical_name(name): c for c, name in enumerate(run.class_names)}
    index = [known.get(name, -1) for name in data.classes]
    return np.array(index, dtype=np.int64)[labels]
