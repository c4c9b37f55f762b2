"""Measure a finished run on data: its own test split, or other data with the same classes."""

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tailora.class_names import canonical_name
from tailora.counts import ClassCounts, make_groups
from tailora.data import Dataset, PreparedImages, prepare_images
from tailora.data.scenes.chips import share_ground
from tailora.errors import ConfigError, DataError, RunError, unknown_name
from tailora.methods.band_choice import with_band_names
from tailora.metrics import MethodOutput, RunMetrics, evaluate_methods
from tailora.progress import Progress, silent
from tailora.runs.run import Run
from tailora.runs.seen_images import read_seen

SPLIT_CHOICES = ("test", "all")


def evaluate_run(
    run: Run,
    data: Dataset,
    *,
    split: str | None = None,
    skip_broken: bool = False,
    progress: Progress = silent,
) -> RunMetrics:
    """Evaluate a run.

    Prediction sets and scalings are those of the run: nothing is fitted to the new data.

    Args:
        run: From `load_run`.
        data: Labelled images, one at least; classes are matched by name, and images of classes that
            the run does not know are left out and counted in `left_out`. Of other data than the
            run's own, images that it learnt from or chose by are left out too, known by their
            content and counted in `learnt_from`.
        split: `"test"` or `"all"`; None is `"test"` for the data the run was fitted on and `"all"`
            for other data, none of which it has seen.
        skip_broken: Leave unreadable images out.
        progress: Shows how far it is.

    Raises:
        RunError: The data have no image of a class the run knows.
        DataError: The images have other bands or another dtype than those the run was fitted on, or
            the split chosen is empty.
        ConfigError: `"all"` of the data the run learnt from.
    """
    data = with_band_names(data, run.recipe.data)
    own = data.fingerprint == run.record["dataset"]["fingerprint"]
    split = split or ("test" if own else "all")
    if split not in SPLIT_CHOICES:
        raise unknown_name("split", split, SPLIT_CHOICES)
    if own and split == "all":
        raise ConfigError("--split all of the data a run learnt from would score what it has seen")
    known, unknown = _known_rows(run, data)
    if unknown or skip_broken:  # what is left need not be enough to learn from
        data = replace(data, to_learn=False).select(known)
    labels = _match_labels(run, data)
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
        with progress("predicting", len(rows)) as advance:
            shares = []
            for start in range(0, len(rows), 64):
                batch = rows[start : start + 64]
                found = _read(run, images, batch)
                shares.append(run.predict_probabilities(found, bands=bands, raw=True))
                advance(len(batch))
        kept = images.kept[rows]
    metrics = _score(run, data, labels[kept], np.concatenate(shares), kept, own=own)
    return replace(metrics, left_out=unknown, learnt_from=learnt)


def _unseen(
    run: Run, images: PreparedImages, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int | None]:
    """Rows that the run has not learnt from, and how many it has; None where it cannot tell.

    Chips of a scene that lie partly on ground which the run has seen there, count as seen.
    """
    seen = read_seen(run.folder.path)
    if seen is None:
        return rows, None
    is_seen = np.isin(images.digests(rows), seen)
    is_seen |= share_ground(images.dataset.source, rows, rows[is_seen])
    if is_seen.all():
        raise DataError(
            f"all {len(rows)} images are training or validation images of run "
            f"{str(run.folder.path)!r}; give others"
        )
    return rows[~is_seen], int(is_seen.sum())


def _score(
    run: Run,
    data: Dataset,
    targets: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    rows: NDArray[np.int64],
    *,
    own: bool,
) -> RunMetrics:
    counts = ClassCounts(tuple(run.class_names), tuple(e["n_train"] for e in run.classes))
    options = run.recipe.evaluate
    costs = run.metrics.methods[-1]
    output = MethodOutput(
        run.record["method"],
        probabilities,
        trained_parameters=costs.trained_parameters,
        seconds=costs.seconds,
        peak_memory_mb=costs.peak_memory_mb,
        fit=run.calibration,
    )
    return evaluate_methods(
        [output],
        targets=targets,
        counts=counts,
        groups=make_groups(counts, options.groups, low=options.low, high=options.high),
        units=None if data.groups is None else data.groups[rows],
        seed=run.recipe.seed,
        replicates=options.replicates,
        confidence=options.confidence,
        balanced_reference=options.balanced_reference if own else None,
    )


def _match_bands(run: Run, data: Dataset, images: PreparedImages) -> tuple[int, ...]:
    """Numbers of the run's bands in these images: by name where both name theirs."""
    stored = run.record["dataset"]["bands"]
    named = data.bands is not None and run.input.names is not None
    known = {1, 3} if stored == 3 else {stored}
    if images.source_dtype != run.input.dtype or not (named or images.bands in known):
        raise DataError(
            f"the images have {images.bands} bands of {images.source_dtype}, but the run was "
            f"fitted on {stored} of {run.input.dtype}; convert them"
        )
    return run.input.find_bands(data.bands, images.bands)


def _read(run: Run, images: PreparedImages, rows: NDArray[np.int64]) -> Tensor:
    """Return images in stored values; grey ones stand for all bands of a run on colour."""
    found = images.batch(rows)
    return found.expand(-1, run.record["dataset"]["bands"], -1, -1) if len(found[0]) == 1 else found


def _known_rows(run: Run, data: Dataset) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Rows whose class the run knows, and how many others there are of each other class."""
    names = np.array(data.classes)[data.labels]
    known = np.isin(names, [canonical_name(name) for name in run.class_names])
    others, counts = np.unique(names[~known], return_counts=True)
    unknown = dict(zip(others.tolist(), counts.tolist(), strict=True))
    if not known.any():
        raise RunError(
            f"run {str(run.folder.path)!r} belongs to another dataset: it does not know any of "
            f"classes {sorted(unknown)}, only {run.class_names}{_unnamed(unknown)}"
        )
    return np.flatnonzero(known), unknown


def _unnamed(names: Iterable[str]) -> str:
    if not all(name.lstrip("-").isdigit() for name in names):
        return ""
    return "; a raster of classes needs their names, in its attribute table or as category names"


def _match_labels(run: Run, data: Dataset) -> NDArray[np.int64]:
    """Class indices of the run, for data all of whose samples it knows."""
    known = {canonical_name(name): c for c, name in enumerate(run.class_names)}
    index = [known.get(name, -1) for name in data.classes]
    return np.array(index, dtype=np.int64)[data.labels]
