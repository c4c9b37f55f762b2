"""One row of a comparison for one seed: its job, its adapter, its probes, its look at the test."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from tailora.backbones import load_backbone
from tailora.backbones.clip_text import text_head
from tailora.data import Dataset
from tailora.evaluate import (
    ClusterSummary,
    MethodOutput,
    class_scores,
    confusion_matrix,
    evaluate_methods,
    group_f1,
)
from tailora.heads.probes import NEEDS_VIEWS, Logits, ProbeData, fit_probe
from tailora.pipeline.clora import adapt_categories, category_costs, ensemble, oracle_features
from tailora.pipeline.comparison_plan import (
    PER_CATEGORY,
    Adaptation,
    Plan,
    ProbeChoice,
    stage_key,
    stages_of,
)
from tailora.pipeline.job import Job
from tailora.pipeline.leaking_prompt import PROMPT_ORACLE, class_prompt_features
from tailora.pipeline.prepare import compose_job, decode_images, resolve_recipe
from tailora.pipeline.scoring import clusters_of, fit_of, test_units
from tailora.pipeline.stage_features import features
from tailora.pipeline.stages import (
    adapt_stage,
    calibration,
    costs,
    group_macro_f1,
    training_set,
    with_probe,
)
from tailora.progress import Progress
from tailora.runs.comparison_folder import ComparisonFolder
from tailora.runs.folder import RunFolder
from tailora.storage import write_atomically, write_json

Rows = NDArray[np.float32]

_VIEWS: Final = (4, 1)  # mirrored, and a quarter turn; see `dihedral`


@dataclass(frozen=True)
class SeedWork:
    """All rows of one seed; small enough to be sent to another process."""

    plan: Plan
    seed: int
    data: Dataset
    folder: ComparisonFolder

    def adaptations(self) -> list[Adaptation]:
        """The adapter axis with this seed."""
        return [
            replace(row, recipe=replace(row.recipe, seed=self.seed))
            for row in self.plan.adaptations
        ]


def do_seed(work: SeedWork, progress: Progress) -> None:
    """Do every row of a seed that is not there yet."""
    for row in work.adaptations():
        missing = [p for p in work.plan.probes if not work.folder.has(row.name, p.name, work.seed)]
        if missing:
            job = _job(work, row, _named(progress, f"seed {work.seed}, {row.name}"))
            _adapt(job, row.method)
            clusters = clusters_of(job, calibration(job)) if row.method == "deblora" else None
            for probe in missing:
                _score(job, work, row, probe, clusters)


def do_seedless(work: SeedWork, progress: Progress) -> None:
    """Do the stages that no seed changes, before several processes would each do them."""
    for row in work.adaptations():
        job = _job(work, row, progress)
        with_probe(job, "zero-shot")
        features(job, "zero-shot", "test")


def _named(progress: Progress, prefix: str) -> Progress:
    return lambda title, total: progress(f"{prefix}: {title}", total)


def _job(work: SeedWork, row: Adaptation, progress: Progress) -> Job:
    loaded = load_backbone(row.recipe.backbone.name, options=row.recipe.backbone.options)
    recipe = resolve_recipe(row.recipe, loaded)
    key = partial(stage_key, recipe, fingerprint=work.data.fingerprint, loaded=loaded)
    names = {"zero-shot", *stages_of(row.method)}
    elsewhere = {name: work.folder.stage(name, key(name)) for name in names}
    facts = f"{work.data.fingerprint} {recipe.data}"
    home = work.folder.images / hashlib.sha256(facts.encode()).hexdigest()[:12]
    images = decode_images(work.data, recipe, home, progress)
    return compose_job(
        work.data,
        recipe,
        loaded,
        images,
        RunFolder(work.folder.path, elsewhere),
        progress=progress,
        accelerator=Accelerator(),
    )


def _adapt(job: Job, method: str) -> None:
    if method in PER_CATEGORY:
        adapt_categories(job, method)
        return
    if method == PROMPT_ORACLE:
        return  # nothing learns
    for stage in stages_of(method):
        adapt_stage(job, stage)


def _score(
    job: Job,
    work: SeedWork,
    row: Adaptation,
    probe: ProbeChoice,
    clusters: ClusterSummary | None,
) -> None:
    """Fit one probe and look at the test once; leaves metrics, predictions and cost."""
    output, val = _output(job, row, probe)
    options, units = job.recipe.evaluate, test_units(job)
    targets = job.labels[job.dataset.indices("test")]
    metrics = evaluate_methods(
        [output],
        targets=targets,
        counts=job.counts,
        groups=job.groups,
        units=units,
        seed=job.recipe.seed,
        replicates=options.replicates,
        confidence=options.confidence,
        clusters=clusters,
        balanced_reference=options.balanced_reference,
    )
    arrays: dict[str, NDArray[Any]] = {
        "predictions": np.asarray(output.probabilities).argmax(axis=1),
        "probabilities": np.asarray(output.probabilities, dtype=np.float32),
        "targets": targets,
        "counts": job.counts.array(),
    }
    if units is not None:
        arrays["units"] = np.asarray(units, dtype=np.str_)
    place = work.folder.result(row.name, probe.name, work.seed)
    write_atomically(
        place / "predictions.npz",
        lambda path: np.savez_compressed(path, **arrays),  # pyright: ignore[reportArgumentType]
    )
    own = own_seconds(job, row.method)
    facts = {"own_seconds": own, "seconds": output.seconds, "validation": _validation(job, val)}
    write_json(place / "row.json", facts)
    write_json(place / "metrics.json", metrics.to_json())  # last: it says that the row is there


def _validation(job: Job, scores: Rows) -> dict[str, float | None]:
    """Macro-F1 by group on validation: what a default may be chosen by; empty without a split."""
    targets = job.labels[job.dataset.indices("val")]
    if not len(targets):
        return {}
    table = confusion_matrix(targets, scores.argmax(axis=1), len(job.counts.names))
    found = group_f1(class_scores(table).f1, job.groups)
    return {name: None if np.isnan(value) else float(value) for name, value in found.items()}


def _output(job: Job, row: Adaptation, probe: ProbeChoice) -> tuple[MethodOutput, Rows]:
    """What a row says about the test split, and its class shares of the validation split."""
    if row.method in PER_CATEGORY and row.method != "clora-oracle":
        labels = job.labels[job.dataset.indices("train")]

        def fit(train: Rows, val: Rows) -> Logits:
            return _fit(job, probe, train, labels, val)

        shares, val_shares = ensemble(job, row.method, fit)
        output = MethodOutput(row.name, shares, **_cost(job, row.method))
        return replace(output, fit=fit_of(job, val_shares)), val_shares
    train, labels, val, test = _features(job, row.method)
    views = _views(job, row.method) if probe.kind in NEEDS_VIEWS else None
    logits = _fit(job, probe, train, labels, val, views)
    shares, val_shares = (
        torch.from_numpy(logits(rows)).softmax(dim=1).numpy() for rows in (test, val)
    )
    output = MethodOutput(
        row.name,
        shares,
        features=test,
        feature_center=train.mean(axis=0),
        fit=fit_of(job, val_shares),
        **_cost(job, row.method),
    )
    return output, val_shares


def _features(job: Job, method: str) -> tuple[Rows, NDArray[np.int64], Rows, Rows]:
    """Training features with their labels, and those of validation and test."""
    if method == "clora-oracle":
        train, val, test = (oracle_features(job, split) for split in ("train", "val", "test"))
        return train, job.labels[job.dataset.indices("train")], val, test
    if method == PROMPT_ORACLE:
        train, val, test = (class_prompt_features(job, s) for s in ("train", "val", "test"))
        return train, job.labels[job.dataset.indices("train")], val, test
    train, labels = training_set(job, method)
    val, test = (np.asarray(features(job, method, split)) for split in ("val", "test"))
    return train, labels, val, test


def _views(job: Job, method: str) -> tuple[Rows, Rows]:
    """Features of the test images mirrored and turned; no label, no view that is scored."""
    first, second = (features(job, method, "test", turn=turn) for turn in _VIEWS)
    return np.asarray(first), np.asarray(second)


def _cost(job: Job, method: str) -> dict[str, Any]:
    """Seconds, peak memory and trained parameters of a row, with the stages it stands on."""
    if method in PER_CATEGORY:
        spent = category_costs(job, method)
        parameters = _sum_of_adapters(spent, method)
    elif method == PROMPT_ORACLE:
        spent, parameters = job.folder.costs(method).entries(), 0
    else:
        spent = costs(job, method)
        parameters = max((entry["trained_parameters"] for entry in spent), default=0)
    return {
        "trained_parameters": parameters or _head_size(job),
        "seconds": sum(entry["seconds"] for entry in spent),
        "peak_memory_mb": max((entry["peak_memory_mb"] for entry in spent), default=0.0),
    }


def own_seconds(job: Job, method: str) -> float:
    """Seconds spent on a method itself, without the stages it stands on."""
    if method not in PER_CATEGORY:
        return sum(entry["seconds"] for entry in job.folder.costs(method).entries())
    return sum(entry["seconds"] for entry in _of_adapters(category_costs(job, method), method))


def _sum_of_adapters(spent: Sequence[dict[str, Any]], method: str) -> int:
    return sum(entry["trained_parameters"] for entry in _of_adapters(spent, method))


def _of_adapters(spent: Sequence[dict[str, Any]], method: str) -> list[dict[str, Any]]:
    """Entries of the categories' last adapters, in whose parts of the folder they lie."""
    last = method.removesuffix("-oracle") + "/"
    return [entry for entry in spent if entry["method"].startswith(last)]


def _head_size(job: Job) -> int:
    return len(job.counts.names) * (job.encoder.features + 1)


def _fit(
    job: Job,
    probe: ProbeChoice,
    train: Rows,
    labels: NDArray[np.int64],
    val: Rows,
    views: tuple[Rows, Rows] | None = None,
) -> Logits:
    data = ProbeData(
        features=train,
        labels=labels,
        val_features=val,
        val_labels=job.labels[job.dataset.indices("val")],
        counts=job.counts,
        groups=job.groups,
        score=partial(group_macro_f1, job),
        seed=job.recipe.seed,
        l2=tuple(job.recipe.probe.l2),
        views=views,
        text=partial(text_head, job.loaded, job.counts.names, features=train),
    )
    return fit_probe(probe.kind, data, probe.options)
