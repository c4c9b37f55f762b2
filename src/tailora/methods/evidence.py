"""Figures of the report: feature map, error locations, most confident errors on tail classes."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from tailora.counts import rows_by_class
from tailora.data import Dataset
from tailora.data.builtin.cutouts import Cutouts
from tailora.data.scenes.chips import SceneChips
from tailora.data.sources import traced
from tailora.methods.deblora.calibrate import Calibration, composition
from tailora.methods.deblora.method import DebLoRAMethod
from tailora.methods.job import Job
from tailora.metrics import RunMetrics
from tailora.report.style import as_picture
from tailora.storage import write_atomically

DEGREES: Final = "degrees"
PIXELS: Final = "pixels"
LOCAL: Final = "local"

_HALF_TURN: Final = 180.0


def error_places(
    data: Dataset, true: NDArray[np.integer], predicted: NDArray[np.integer]
) -> dict[str, NDArray[Any]]:
    """Locations of the test samples for the report; empty for images without a location.

    Args:
        data: Chips of scenes (longitude and latitude, or x and y in a local coordinate system), or
            of one picture (column and negative row).
        true: True class of each test sample (rows,).
        predicted: Predicted class of each (rows,).

    Returns:
        `place_at` (rows, 2), `place_true` and `place_pred` (rows,), and `place_units`.
    """
    base, rows = traced(data.source, data.indices("test"))
    if not isinstance(base, SceneChips | Cutouts):
        return {}
    at = np.array([_place(base, row) for row in rows.tolist()]).reshape(-1, 2)
    units = _units(base)
    if units == DEGREES and len(at) and np.ptp(at[:, 0]) > _HALF_TURN:
        at[:, 0] %= 2 * _HALF_TURN  # an area across the antimeridian stays connected
    return {
        "place_at": at,
        "place_true": np.asarray(true),
        "place_pred": np.asarray(predicted),
        "place_units": np.array([units]),
    }


def _units(source: SceneChips | Cutouts) -> str:
    if isinstance(source, Cutouts):
        return PIXELS
    return DEGREES if source.on_earth else LOCAL


def _place(source: SceneChips | Cutouts, row: int) -> tuple[float, float]:
    if isinstance(source, SceneChips):
        return source.position(row)
    return float(source.crops.columns[row]), -float(source.crops.rows[row])


_POINTS: Final = 1500
_THUMBNAILS: Final = 12


def write_evidence(
    job: Job,
    scores: NDArray[np.floating],
    metrics: RunMetrics,
    found: Calibration | None,
    of_task: Mapping[str, NDArray[Any]],
) -> None:
    """Write `report.npz`: arrays only, no pickles.

    Args:
        job: The run.
        scores: Its class probabilities of the test rows (rows, classes).
        metrics: Its metrics.
        found: Clusters and moved features, if features were de-biased.
        of_task: Arrays of the run's task.
    """
    arrays = _thumbnails(job, scores, metrics) | _places(job, scores) | dict(of_task)
    if found is not None:
        arrays |= _feature_map(job, found)
    write_atomically(
        job.folder.path / "report.npz",
        lambda path: np.savez_compressed(path, **arrays),  # pyright: ignore[reportArgumentType]
    )


def _feature_map(job: Job, found: Calibration) -> dict[str, NDArray[Any]]:
    """Training features of both adapters, on the two principal axes of those before de-biasing."""
    labels = job.decisions("train").labels
    method = DebLoRAMethod()
    before, after = method.source_features(job), method.features(job, "train")
    spread = before.std(axis=0)
    scale = np.where(spread > 0, spread, 1)
    plane = PCA(2, random_state=0).fit((before - before.mean(axis=0)) / scale)

    def project(points: NDArray[np.floating]) -> NDArray[np.float32]:
        known = np.isfinite(points).all(axis=1)
        flat = np.full((len(points), 2), np.nan, dtype=np.float32)
        flat[known] = plane.transform((points[known] - before.mean(axis=0)) / scale)
        return flat

    shown = _sample(job, labels)
    classes = len(job.counts.names)
    targets = project(np.asarray(found.centers, dtype=np.float32))
    targets[found.keep >= 1] = np.nan
    table = composition(labels, found.clusters.labels, (classes, len(found.clusters.sizes)))
    return {
        "map_before": project(before[shown]),
        "map_after": project(after[shown]),
        "map_labels": labels[shown],
        "map_clusters": np.asarray(found.clusters.labels)[shown],
        "means_before": project(_class_means(before, labels, classes)),
        "means_after": project(_class_means(after, labels, classes)),
        "targets": targets,
        "center_points": project(np.asarray(found.cluster_means, dtype=np.float32)),
        "keep": found.keep,
        "composition": table / np.maximum(table.sum(axis=1, keepdims=True), 1),
    }


def _sample(job: Job, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tail samples, then random others, up to the number of points in the plot."""
    tail = np.flatnonzero(np.isin(labels, job.groups.tail))
    others = np.flatnonzero(~np.isin(labels, job.groups.tail))
    room = max(0, _POINTS - len(tail))
    chosen = np.random.default_rng(0).permutation(others)[:room]
    return np.sort(np.concatenate([chosen, tail[:_POINTS]]))


def _class_means(
    rows: NDArray[np.floating], labels: NDArray[np.int64], classes: int
) -> NDArray[np.float32]:
    means = np.full((classes, rows.shape[1]), np.nan, dtype=np.float32)
    for c, members in enumerate(rows_by_class(labels, classes)):
        if len(members):
            means[c] = rows[members].mean(axis=0)
    return means


def _places(job: Job, scores: NDArray[np.floating]) -> dict[str, NDArray[Any]]:
    if not job.task.per_image:
        return {}
    true = job.decisions("test").labels
    return error_places(job.dataset, true, scores.argmax(axis=1))


def _thumbnails(
    job: Job, scores: NDArray[np.floating], metrics: RunMetrics
) -> dict[str, NDArray[Any]]:
    """Misclassified test samples of tail classes, most confident first."""
    decisions = job.decisions("test")
    predicted, true = scores.argmax(axis=1), decisions.labels
    tail = [metrics.classes.index(name) for name in metrics.groups["tail"]]
    wrong = np.flatnonzero(np.isin(true, tail) & (predicted != true))
    worst = wrong[np.argsort(-scores[wrong].max(axis=1), kind="stable")][:_THUMBNAILS]
    size, names = job.input.image_size, job.task.names(job.dataset, decisions, job.grid)
    images = [
        as_picture(job.images.batch(decisions.sample[[i]])[0].numpy(), job.dataset.bands)
        for i in worst
    ]
    return {
        "thumbs": np.stack(images) if images else np.empty((0, size, size, 3), np.uint8),
        "thumb_true": true[worst],
        "thumb_pred": predicted[worst],
        "thumb_prob": scores[worst].max(axis=1),
        "thumb_id": np.array([names[i] for i in worst], dtype=np.str_),
    }
