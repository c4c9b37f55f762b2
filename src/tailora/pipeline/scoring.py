"""The one look at the test split: metrics, predictions and a verdict per class."""

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailora.debias.calibrate import Calibration
from tailora.evaluate import (
    ClusterSummary,
    MethodOutput,
    RunMetrics,
    evaluate_methods,
    verdict,
)
from tailora.heads.linear_probe import predict_logits
from tailora.pipeline.job import Job
from tailora.pipeline.stages import StageResult, costs, features
from tailora.storage import write_json, write_text


def probabilities(result: StageResult, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax of a stage's head on features (rows, features), (rows, classes)."""
    logits = torch.from_numpy(predict_logits(result.head, rows))
    return logits.softmax(dim=1).numpy()


def score(job: Job, results: Sequence[StageResult], found: Calibration | None) -> RunMetrics:
    """Evaluate every stage on the test split and write metrics, predictions and classes.

    Args:
        job: The run.
        results: Stages in the order to be shown; the last is what the run predicts with.
        found: Calibration of debLoRA, None without it.
    """
    outputs = [_output(job, result) for result in results]
    options = job.recipe.evaluate
    metrics = evaluate_methods(
        outputs,
        targets=job.labels[job.dataset.indices("test")],
        counts=job.counts,
        groups=job.groups,
        units=test_units(job),
        seed=job.recipe.seed,
        replicates=options.replicates,
        confidence=options.confidence,
        clusters=clusters_of(job, found),
    )
    write_json(job.folder.path / "metrics.json", metrics.to_json())
    classes = class_entries(job, metrics)
    write_json(job.folder.path / "classes.json", {"classes": classes})
    verdicts = {entry["name"]: entry["verdict"] for entry in classes}
    write_text(
        job.folder.path / "predictions.csv",
        _predictions(job, np.asarray(outputs[-1].probabilities), verdicts),
    )
    return metrics


def class_entries(job: Job, metrics: RunMetrics) -> list[dict[str, Any]]:
    """Counts, group and verdict of each class, in index order, from the last method."""
    group_of = {name: group for group, names in metrics.groups.items() for name in names}
    val = job.dataset.counts("val").values
    units = test_units(job)
    test_rows = job.dataset.indices("test")
    entries = []
    for index, row in enumerate(metrics.methods[-1].per_class):
        mine = job.labels[test_rows] == index
        n_units = len(set(units[mine])) if units is not None else row.n_test
        word = verdict(
            row.f1_interval,
            row.n_test,
            n_units,
            min_f1=job.recipe.evaluate.trust_f1,
            min_test=job.recipe.evaluate.trust_support,
        )
        entries.append({
            "name": row.name, "index": index, "n_train": row.n_train, "n_val": val[index],
            "n_test": row.n_test, "group": group_of[row.name], "verdict": word,
            "reason": _reason(word, row.f1_interval, row.n_test, n_units, job),
        })  # fmt: skip
    return entries


def csv_text(rows: Sequence[Sequence[object]]) -> str:
    """Write rows as CSV with quotes where a cell needs them."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _output(job: Job, result: StageResult) -> MethodOutput:
    test = np.asarray(features(job, result.method, "test", result.encoder))
    train = features(job, result.method, "train", result.encoder)
    spent = costs(job, result.method)
    return MethodOutput(
        result.method,
        probabilities(result, test),
        features=test,
        feature_center=np.mean(train, axis=0),
        trained_parameters=max(c["trained_parameters"] for c in spent) or _head_size(result),
        seconds=sum(c["seconds"] for c in spent),
        peak_memory_mb=max(c["peak_memory_mb"] for c in spent),
    )


def _head_size(result: StageResult) -> int:
    return sum(p.numel() for p in result.head.parameters())


def test_units(job: Job) -> NDArray[Any] | None:
    """What the bootstrap resamples: the group of each test sample (rows,), or None."""
    groups = job.dataset.groups
    return None if groups is None else groups[job.dataset.indices("test")]


def clusters_of(job: Job, found: Calibration | None) -> ClusterSummary | None:
    """What metrics say of the clusters; None without debLoRA."""
    if found is None:
        return None
    return ClusterSummary(
        count=job.recipe.deblora.clusters,
        balance=job.recipe.deblora.balance,
        purity=found.purity,
        sizes=tuple(int(n) for n in found.clusters.sizes),
    )


def _reason(
    word: str, interval: tuple[float, float] | None, n_test: int, n_units: int, job: Job
) -> str:
    options = job.recipe.evaluate
    if word == "untested":
        if n_test < options.trust_support:
            return f"{n_test} test samples, fewer than {options.trust_support}"
        return f"all {n_test} test samples come from {n_units} place"
    low = 0.0 if interval is None else interval[0]
    relation = "at least" if word == "trusted" else "below"
    return f"F1 may be as low as {low:.2f}, {relation} {options.trust_f1:.2f}"


def _predictions(job: Job, scores: NDArray[np.floating], verdicts: dict[str, str]) -> str:
    names = job.counts.names
    rows: list[list[object]] = [
        ["path", "label", "class", "verdict", *(f"p({name})" for name in names)]
    ]
    for row, p in zip(job.dataset.indices("test"), scores, strict=True):
        best = names[int(p.argmax())]
        label = names[job.labels[row]]
        shares = [repr(float(value)) for value in p]
        rows.append([job.dataset.source.id(int(row)), label, best, verdicts[best], *shares])
    return csv_text(rows)
