"""Evaluation on the held-out test split: metrics, predictions and a verdict per class."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tailora.config.recipe import EvaluateOptions, ProbeOptions
from tailora.counts import rows_by_class
from tailora.data.readers.table import inert
from tailora.decisions import Decisions
from tailora.heads.boxed import logits_in_boxes
from tailora.heads.linear_probe import Loss, fit_linear_probe, predict_logits
from tailora.heads.loss_probe import repeatable
from tailora.heads.map_probe import drawn_by, finest
from tailora.heads.probe import sees_maps
from tailora.heads.probes import find_probe
from tailora.heads.smoothing import smooth_logits
from tailora.methods.deblora.calibrate import Calibration
from tailora.methods.job import Job
from tailora.methods.label_curves import head_penalty, label_curves
from tailora.methods.method import PLAIN, Method, StageResult, head_options, head_rows, seeing
from tailora.methods.stages import rows_of_maps, stage_detector, stage_maps, staged_maps
from tailora.metrics import (
    ClassEvidence,
    ClusterSummary,
    LabelCurves,
    MethodMetrics,
    MethodOutput,
    RunMetrics,
    TrainedFeatures,
    TrustLimits,
    ValidationFit,
    evaluate_methods,
    fit_on_validation,
    judge,
    prediction_sets,
)
from tailora.storage import write_json, write_text
from tailora.tasks.task import Measured, PlacedRow, Task
from tailora.train.base_adaptation import AnyEncoder


def set_names(
    probabilities: NDArray[np.floating], fit: ValidationFit | None, names: Sequence[str]
) -> list[list[str] | None]:
    """List the prediction set of each row of probabilities; None if no sets were calibrated."""
    if fit is None:
        return [None] * len(probabilities)
    sets = prediction_sets(probabilities, fit.sets)
    return [[names[int(c)] for c in np.flatnonzero(row)] for row in sets]


def set_text(names: Sequence[str] | None) -> str:
    r"""Write a prediction set as class names joined by semicolons.

    Args:
        names: From `set_names`; a semicolon in one is written `\;`.

    Returns:
        An empty string if no set was calibrated.
    """
    if names is None:
        return ""
    return ";".join(name.replace("\\", "\\\\").replace(";", "\\;") for name in names)


def yes_no(verdict: str) -> str:
    """Return `"yes"` if predictions with this verdict can be trusted, else `"no"`."""
    return "yes" if verdict == "trusted" else "no"


Units = NDArray[Any] | None


def class_verdicts(
    method: MethodMetrics,
    probabilities: NDArray[np.floating],
    targets: NDArray[np.int64],
    units: Units,
    options: EvaluateOptions,
    *,
    ap_intervals: Sequence[tuple[float, float] | None] | None = None,
) -> list[dict[str, Any]]:
    """Judge each class, in index order.

    Args:
        method: Test metrics of the method.
        probabilities: Its class probabilities (rows, classes).
        targets: True classes (rows,).
        units: Group of each test row (rows,), or None.
        options: Limits of trust and the nominal coverage.
        ap_intervals: Of each class, where objects must be found.

    Returns:
        `verdict`, `failed` and `reason` of each class.
    """
    limits = TrustLimits(
        f1=options.trust_f1,
        support=options.trust_support,
        overconfidence=options.trust_overconfidence,
        coverage=options.coverage if method.coverage is None else method.coverage.level,
    )
    covered = _covered(method)
    predicted = probabilities.argmax(axis=1)
    found = []
    own = rows_by_class(targets, len(method.per_class))
    called = rows_by_class(predicted, len(method.per_class))
    for index, row in enumerate(method.per_class):
        chosen = called[index]
        some = len(chosen) > 0
        evidence = ClassEvidence(
            f1_interval=row.f1_interval,
            n_test=row.n_test,
            n_units=_count_units(own[index], units),
            stated=float(probabilities[chosen, index].mean()) if some else None,
            right=float((targets[chosen] == index).mean()) if some else None,
            predicted_units=_count_units(chosen, units),
            covered=covered[index],
            has_places=units is not None,
            ap_interval=None if ap_intervals is None else ap_intervals[index],
        )
        judgement = asdict(judge(evidence, limits))
        found.append(judgement | {"failed": list(judgement["failed"])})
    return found


def _covered(method: MethodMetrics) -> Sequence[float | None]:
    """Coverage of each class; None for classes whose sets could not be calibrated."""
    if method.coverage is None:
        return [None] * len(method.per_class)
    loose = set(method.coverage.uncalibrated)
    return [
        None if row.name in loose else share
        for row, share in zip(method.per_class, method.coverage.by_class, strict=True)
    ]


def _count_units(rows: NDArray[np.int64], units: Units) -> int:
    return len(rows) if units is None else len(set(units[rows].tolist()))


def row_logits(
    job: Job, method: Method, head: nn.Module, split: str, rows: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Logits (rows, classes) of the decisions of a split.

    Args:
        job: The run.
        method: Whose features the head sees.
        head: Trained.
        split: `"train"`, `"val"` or `"test"`.
        rows: Features of the decisions (rows, width).
    """
    if not sees_maps(head):
        return predict_logits(head, rows)
    samples, decisions = job.dataset.indices(split), job.decisions(split)
    placed = predict_logits(head, stage_maps(job, method.feature_stage(job), split))
    return rows_of_maps(placed, samples, decisions)


def _probabilities(
    job: Job, result: StageResult, split: str, rows: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Class probabilities (rows, classes) of the decisions of a split."""
    logits = row_logits(job, result.method, result.head, split, rows)
    return decided(logits, rows, job.recipe.probe)


def decided(
    logits: NDArray[np.float32], rows: NDArray[np.float32], options: ProbeOptions
) -> NDArray[np.float32]:
    """Class probabilities (rows, classes) of logits, smoothed over all rows if the recipe says so.

    Args:
        logits: (rows, classes).
        rows: Their features (rows, width).
        options: Of the recipe.
    """
    found = torch.from_numpy(logits)
    if options.smoothing and len(rows):
        features = torch.from_numpy(np.array(rows))
        found = smooth_logits(
            found, features, share=options.smoothing, neighbours=options.neighbours
        )
    return found.softmax(dim=1).numpy()


def score(
    job: Job, results: Sequence[StageResult], found: Calibration | None
) -> tuple[RunMetrics, NDArray[np.floating], dict[str, NDArray[Any]]]:
    """Evaluate every stage on the test split and write metrics, predictions and classes.

    Args:
        job: The run.
        results: Stages in the order of the results; the run predicts with the last.
        found: Calibration of debLoRA, None without it.

    Returns:
        The metrics, the run's probabilities of the test rows (rows, classes), rescaled if that
        helped on validation, and arrays of the task for the report.
    """
    outputs = [_output(job, result) for result in results]
    options = job.recipe.evaluate
    targets = job.decisions("test").labels
    metrics = evaluate_methods(
        outputs,
        targets=targets,
        counts=job.counts,
        groups=job.groups,
        units=job.units("test"),
        seed=job.recipe.seed,
        replicates=options.replicates,
        confidence=options.confidence,
        clusters=clusters_of(job, found),
        balanced_reference=options.balanced_reference,
    )
    if options.label_value:
        metrics = replace(metrics, label_value=_label_value(job, results[-1]))
    last, fit = np.asarray(outputs[-1].probabilities), outputs[-1].fit
    placed = None
    if not job.task.per_image:
        shown = [*_with_other_head(job, results[-1]), *results]
        placed = measured(job, "test", [_placed(job, result) for result in shown])
    metrics, arrays = with_task_metrics(
        job.task, metrics, job.decisions("test"), last, measured=placed
    )
    if fit is not None:
        last = fit.calibrated(last)
    write_json(job.folder.path / "metrics.json", metrics.to_json())
    classes = class_entries(job, metrics, last)
    write_json(job.folder.path / "classes.json", {"classes": classes})
    if fit is not None:
        write_json(job.folder.path / "calibration.json", fit.to_json())
    verdicts = {entry["name"]: entry["verdict"] for entry in classes}
    sets = set_names(last, fit, job.counts.names)
    text = _predictions(job, last, verdicts, [set_text(names) for names in sets])
    write_text(job.folder.path / "predictions.csv", text)
    return metrics, last, arrays


def with_task_metrics(
    task: Task,
    metrics: RunMetrics,
    decisions: Decisions,
    probabilities: NDArray[np.floating],
    *,
    measured: Measured | None,
) -> tuple[RunMetrics, dict[str, NDArray[Any]]]:
    """Add the metrics that are specific to the task, and return its arrays for the report.

    Args:
        task: Task of the run.
        metrics: Metrics of its rows.
        decisions: Decisions of the test split.
        probabilities: Class probabilities of the last method (rows, classes).
        measured: Test images, for a task with several decisions for each.
    """
    found = task.metrics(
        decisions, probabilities.argmax(axis=1), classes=metrics.classes, groups=metrics.groups
    )
    more, arrays = ({}, {}) if measured is None else task.measure(measured)
    found = {**found, **more}
    if not found:
        return metrics, arrays
    about = {"name": task.name} | ({"scored": task.scored} if task.scored else {})
    return replace(metrics, task={**about, **found}), arrays


def measured(job: Job, split: str, rows: Sequence[PlacedRow]) -> Measured:
    """The images of a split, and what each row says about every place of them."""
    samples, options = job.dataset.indices(split), job.recipe.evaluate
    return Measured(
        data=job.dataset,
        samples=samples,
        units=None if job.dataset.groups is None else job.dataset.groups[samples],
        codes=np.arange(len(job.counts.names)),
        rows=rows,
        classes=job.counts.names,
        groups=job.groups,
        train_pixels=job.counts.values,
        train_objects=job.counts.objects,
        fit=job.input.resize,
        image_size=job.input.image_size,
        replicates=options.replicates,
        confidence=options.confidence,
        seed=job.recipe.seed,
    )


def _with_other_head(job: Job, last: StageResult) -> list[StageResult]:
    """The row of the head that the task always shows beside the run's."""
    name = job.task.other_head(job.recipe.probe.loss, job.counts.names)
    if name is None:
        return []
    head = last.method.other_head(job, name)
    return [replace(last, head=head, head_name=name, plain=False)]


def _placed(job: Job, result: StageResult) -> PlacedRow:
    if result.plain:
        job = seeing(job, PLAIN)
    method = result.method
    encoder = result.encoder if method.feature_stage(job) == method.name else None
    return placed_row(job, method, "test", result.head, result.head_name, encoder)


def placed_row(
    job: Job,
    method: Method,
    split: str,
    head: nn.Module,
    head_name: str,
    encoder: AnyEncoder | None = None,
) -> PlacedRow:
    """What a head says about every place of the images of a split.

    Args:
        job: The run, of a task with several decisions for each image.
        method: Whose features the head sees.
        split: `"train"`, `"val"` or `"test"`.
        head: Trained.
        head_name: Its name in tables.
        encoder: The method's, if it is at hand.
    """
    stage = method.feature_stage(job)
    staged = staged_maps(job, stage, split, encoder)
    maps = staged[..., : job.head_encoder.features]

    def logits(images: NDArray[np.int64]) -> NDArray[np.float32]:
        found = np.asarray(maps[images], dtype=np.float32)
        if sees_maps(head):
            return predict_logits(finest(head), found)
        rows = predict_logits(head, found.reshape(-1, found.shape[-1]))
        return rows.reshape(*found.shape[:-1], -1)

    detector = stage_detector(job, stage)
    if detector is None:
        draw = drawn_by(head)

        def drawn(images: NDArray[np.int64]) -> NDArray[np.float32]:
            assert draw is not None
            return predict_logits(draw, np.asarray(maps[images], dtype=np.float32))

        return PlacedRow(method.name, head_name, logits, None if draw is None else drawn)

    def in_boxes(
        images: NDArray[np.int64], boxes: Sequence[NDArray[np.floating]]
    ) -> list[NDArray[np.float32]]:
        return logits_in_boxes(head, torch.from_numpy(np.array(maps[images])).float(), boxes)

    detected = partial(_detected, detector, staged)
    return PlacedRow(method.name, head_name, logits, detected=detected, in_boxes=in_boxes)


def _detected(
    detector: nn.Module, maps: NDArray[np.float16], images: NDArray[np.int64]
) -> NDArray[np.float32]:
    with torch.inference_mode():
        return detector(torch.from_numpy(np.asarray(maps[images], dtype=np.float32))).numpy()


def class_entries(
    job: Job, metrics: RunMetrics, probabilities: NDArray[np.floating]
) -> list[dict[str, Any]]:
    """Counts, group and verdict of each class, in index order, from the last method.

    Args:
        job: The run.
        metrics: Its metrics.
        probabilities: Test probabilities of the last method (rows, classes).
    """
    group_of = {name: group for group, names in metrics.groups.items() for name in names}
    val = job.dataset.counts("val").values
    targets = job.decisions("test").labels
    last = metrics.methods[-1]
    judged = class_verdicts(
        last, probabilities, targets, job.units("test"), job.recipe.evaluate,
        ap_intervals=job.task.found_intervals(metrics.task) if metrics.task else None,
    )  # fmt: skip
    return [
        {
            "name": row.name, "index": index, "n_train": row.n_train, "n_val": val[index],
            "n_test": row.n_test, "group": group_of[row.name], **judged[index],
        }
        for index, row in enumerate(last.per_class)
    ]  # fmt: skip


def csv_text(rows: Sequence[Sequence[object]]) -> str:
    """Format rows as CSV; text that spreadsheets would take for a formula is made inert."""
    buffer = io.StringIO(newline="")
    safe = ([inert(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    csv.writer(buffer, lineterminator="\n").writerows(safe)
    return buffer.getvalue()


def _output(job: Job, result: StageResult) -> MethodOutput:
    method = result.method
    if result.plain:
        job = seeing(job, PLAIN)
    train, val, test = (
        method.features(job, split, result.encoder) for split in ("train", "val", "test")
    )
    learnt, labels = method.training_set(job)
    return MethodOutput(
        method.name,
        _probabilities(job, result, "test", test),
        features=test,
        feature_center=np.mean(train, axis=0),
        fit=fit_of(job, _probabilities(job, result, "val", val)),
        trained=TrainedFeatures(learnt, labels, _class_vectors(result.head)),
        head=result.head_name,
        head_options=None if result.plain else _chosen(job, method),
        gallery=(learnt, labels),
        **cost_of(job, method, head=_head_size(result)),
    )


def _chosen(job: Job, method: Method) -> dict[str, Any] | None:
    """Options of the recipe's head that validation chose among several; None if it chose none."""
    listed = [
        key for key, value in job.recipe.probe.loss_options.items() if isinstance(value, list)
    ]
    options = head_options(job, method) if listed else {}
    return {key: options[key] for key in listed if key in options} or None


def cost_of(job: Job, method: Method, *, head: int) -> dict[str, Any]:
    """Seconds, peak memory and trained parameters of a method, including methods it builds on.

    Args:
        job: The run.
        method: A finished method.
        head: Number of parameters of its head, which count if nothing else was trained.
    """
    spent = method.costs(job)
    return {
        "trained_parameters": method.trained_parameters(spent) or head,
        "seconds": sum(entry.seconds for entry in spent),
        "peak_memory_mb": max((entry.peak_memory_mb for entry in spent), default=0.0),
    }


def _class_vectors(head: nn.Module) -> NDArray[np.float32] | None:
    """Weight of a linear head (classes, width); None for any other."""
    return head.weight.detach().numpy() if isinstance(head, nn.Linear) else None


def _head_size(result: StageResult) -> int:
    return sum(p.numel() for p in result.head.parameters())


def clusters_of(job: Job, found: Calibration | None) -> ClusterSummary | None:
    """Summary of the clusters for the metrics; None without debLoRA."""
    if found is None:
        return None
    return ClusterSummary(
        count=job.recipe.deblora.clusters,
        balance=job.recipe.deblora.balance,
        purity=found.purity,
        sizes=tuple(int(n) for n in found.clusters.sizes),
    )


def fit_of(job: Job, probabilities: NDArray[np.floating]) -> ValidationFit | None:
    """Calibrate probabilities and prediction sets on validation; None without that split.

    Args:
        job: The run.
        probabilities: Class probabilities of the validation rows (rows, classes).
    """
    targets = job.decisions("val").labels
    if not len(targets):
        return None
    coverage = job.recipe.evaluate.coverage
    return fit_on_validation(probabilities, targets, job.groups, coverage=coverage)


def _label_value(job: Job, last: StageResult) -> LabelCurves:
    """Learning curves of tail classes for the last method; nothing is chosen on the test split."""
    probe = job.recipe.probe.loss
    if not job.task.per_image:
        reason = f"labels are collected by image, not by {job.task.decision}"
        return LabelCurves(method=last.method.name, classes=(), left_out=reason)
    if not find_probe(probe).is_linear or not isinstance(last.head, nn.Linear):
        reason = f"only linear heads trained with a loss can be refitted, the head here is {probe}"
        return LabelCurves(method=last.method.name, classes=(), left_out=reason)
    if job.recipe.probe.smoothing:
        reason = "predictions are smoothed over the images that are predicted together"
        return LabelCurves(method=last.method.name, classes=(), left_out=reason)
    train = last.method.training_set(job)
    test = last.method.features(job, "test", last.encoder)
    options = job.recipe.evaluate
    own = replace(job.recipe.probe, loss_options=head_options(job, last.method))
    loss = repeatable(job.loss(own), job.recipe.seed)
    with job.progress("what more labels would buy", 1) as advance:
        found = label_curves(
            _refitted(job, last.head, last.method, train, loss),
            train,
            (test, job.decisions("test").labels),
            loss=loss,
            classes=job.groups.tail,
            l2=job.recipe.probe.l2,
            units=job.units("test"),
            confidence=options.confidence,
            seed=job.recipe.seed,
        )
        advance(1)
    names = job.counts.names
    named = tuple(replace(curve, name=names[curve.index or 0]) for curve in found.classes)
    return replace(found, method=last.method.name, classes=named)


def _refitted(
    job: Job,
    head: nn.Linear,
    method: Method,
    train: tuple[NDArray[np.float32], NDArray[np.int64]],
    loss: Loss,
) -> nn.Linear:
    """Fit a head like `head` to images as they are: with all views each curve takes minutes."""
    fitted_on = head_rows(job, method, train)
    if len(fitted_on[1]) == len(train[1]):
        return head
    penalty = head_penalty(head, *fitted_on, loss=loss, grid=job.recipe.probe.l2)
    return fit_linear_probe(*train, loss=loss, num_classes=head.out_features, l2=penalty).linear


def _predictions(
    job: Job, scores: NDArray[np.floating], verdicts: dict[str, str], sets: Sequence[str]
) -> str:
    names = job.counts.names
    head = ["path", "label", "class", "trusted", "verdict", "set"]
    rows: list[list[object]] = [[*head, *(f"p({name})" for name in names)]]
    decisions = job.decisions("test")
    called = job.task.names(job.dataset, decisions, job.grid)
    for name, true, p, within in zip(called, decisions.labels, scores, sets, strict=True):
        best = names[int(p.argmax())]
        label = names[true]
        shares = [repr(float(value)) for value in p]
        verdict = verdicts[best]
        rows.append([name, label, best, yes_no(verdict), verdict, within, *shares])
    return csv_text(rows)
