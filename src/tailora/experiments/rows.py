"""One row of a comparison for one seed: its job, its adapter, its probes, its look at the test."""

import hashlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn

from tailora.backbones import LoadedBackbone, load_backbone
from tailora.config.probe_choice import ProbeChoice
from tailora.data import Dataset
from tailora.experiments.plan import SEEDLESS, Adaptation, Plan, stage_key
from tailora.heads.probe import Logits, as_logits, sees_maps
from tailora.heads.probes import find_probe
from tailora.methods.job import Job
from tailora.methods.method import (
    PLAIN,
    Method,
    adapt_all,
    find_method,
    fit_head,
    head_maps,
    head_rows,
    seeing,
    starting_probe,
)
from tailora.methods.prepare import compose_job, decode_images, resolve_recipe
from tailora.methods.scoring import (
    clusters_of,
    cost_of,
    decided,
    fit_of,
    measured,
    placed_row,
    row_logits,
)
from tailora.metrics import (
    ClusterSummary,
    MethodOutput,
    class_scores,
    confusion_matrix,
    evaluate_methods,
    group_f1,
)
from tailora.metrics.method_metrics import defined
from tailora.metrics.places import Places
from tailora.progress import Progress
from tailora.runs.comparison_folder import ComparisonFolder
from tailora.runs.folder import RunFolder
from tailora.runs.provenance import machine
from tailora.storage import write_atomically, write_json
from tailora.tasks.task import find_task


def _cost(job: Job, method: Method) -> dict[str, Any]:
    return cost_of(job, method, head=len(job.counts.names) * (job.head_encoder.features + 1))


Rows = NDArray[np.float32]

_VIEWS: Final = (4, 1)  # mirrored, and a quarter turn; see `dihedral`


def validation_f1(job: Job, scores: Rows) -> dict[str, float | None]:
    """Macro-F1 by group on validation: what a default may be chosen by; empty without a split.

    Args:
        job: The run.
        scores: Class shares or logits of the validation rows (rows, classes).
    """
    targets = job.decisions("val").labels
    if not len(targets):
        return {}
    table = confusion_matrix(targets, scores.argmax(axis=1), len(job.counts.names))
    found = group_f1(class_scores(table).f1, job.groups)
    return {name: defined(float(value)) for name, value in found.items()}


def validation_shares(job: Job, method: Method, probe: ProbeChoice) -> Rows:
    """Class shares of the validation rows (rows, classes); nothing of the test is read."""
    if method.is_ensemble:
        return method.shares(job, partial(_fit, job, probe), ("val",))[0]
    val = method.features(job, "val")
    own = method.own_head(job)
    maps = head_maps(job, method, probe)
    moved = method.moves(job.recipe)
    head = fit_head(job, probe, *head_rows(job, method), val, own=own, maps=maps, moved=moved)
    return _split_shares(job, method, head, "val", val)


def row_output(
    job: Job, row: Adaptation, probe: ProbeChoice
) -> tuple[MethodOutput, Rows, nn.Module | None]:
    """What a row says about the test split, its class shares of the validation split, its head."""
    method = find_method(row.method)
    if method.is_ensemble:
        shares, val_shares = method.shares(job, partial(_fit, job, probe), ("test", "val"))
        output = MethodOutput(row.name, shares, head=probe.name, **_cost(job, method))
        return replace(output, fit=fit_of(job, val_shares)), val_shares, None
    gallery = method.training_set(job)
    train, labels = head_rows(job, method, gallery)
    val, test = (method.features(job, split) for split in ("val", "test"))
    views = turned_views(job, method) if find_probe(probe.kind).views else None
    own = method.own_head(job)
    maps = head_maps(job, method, probe)
    moved = method.moves(job.recipe)
    head = fit_head(job, probe, train, labels, val, views=views, own=own, maps=maps, moved=moved)
    val_shares = _split_shares(job, method, head, "val", val)
    output = MethodOutput(
        row.name,
        _split_shares(job, method, head, "test", test),
        features=test,
        feature_center=train.mean(axis=0),
        fit=fit_of(job, val_shares),
        head=probe.name,
        gallery=gallery,
        **_cost(job, method),
    )
    return output, val_shares, head


def _places(job: Job, method: Method, head: nn.Module | None, split: str) -> Places | None:
    """What a row says about all places of a split; None for a task that does not ask for it."""
    if head is None or job.task.compared_by() is None or not len(job.dataset.indices(split)):
        return None
    row = placed_row(job, method, split, head, method.name)
    return job.task.places(measured(job, split, [row]))


def _main_scores(job: Job, places: Places) -> dict[str, float | None]:
    """What rows are compared by, mean over the classes of each group."""
    found = group_f1(places.scores(next(iter(places.measures))), job.groups)
    return {name: defined(float(value)) for name, value in found.items()}


def _split_shares(job: Job, method: Method, head: nn.Module, split: str, rows: Rows) -> Rows:
    """Class shares of the decisions of a split (rows, classes), from their features."""
    if sees_maps(head):
        logits = row_logits(job, method, head, split, rows)
    else:
        logits = as_logits(head)(rows)
    return decided(logits, rows, job.recipe.probe)


def turned_views(job: Job, method: Method) -> tuple[Rows, Rows]:
    """Features of the test images mirrored and turned; no label, no view that is scored."""
    first, second = (method.features(job, "test", turn=turn) for turn in _VIEWS)
    return first, second


def _fit(
    job: Job,
    probe: ProbeChoice,
    train: Rows,
    labels: NDArray[np.int64],
    val: Rows,
) -> Logits:
    return as_logits(fit_head(job, probe, train, labels, val))


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
        do_row(work, row, progress)


def do_row(work: SeedWork, row: Adaptation, progress: Progress) -> None:
    """Do a row under each probe under which it is not there yet."""
    missing = missing_probes(work, row)
    if missing:
        job = row_job(work, row, _named(progress, f"seed {work.seed}, {row.name}"))
        method = find_method(row.method)
        adapt_all(job, method)
        method.find(job)
        clusters = clusters_of(job, method.calibration(job))
        for probe in missing:
            _score(job, work, row, probe, clusters)


def missing_probes(work: SeedWork, row: Adaptation) -> list[ProbeChoice]:
    """Probes under which a row is not there yet."""
    wanted = work.plan.probes_of(row)
    return [p for p in wanted if not work.folder.has(row.name, p.name, work.seed)]


def do_seedless(work: SeedWork, progress: Progress) -> None:
    """Do what no seed changes, before several processes would each do it."""
    pretrained = find_method(SEEDLESS)
    for row in work.adaptations():
        job = row_job(work, row, progress)
        starting_probe(job)
        # no other row shows its features, and with a detector each seed has its own
        if row.method == SEEDLESS and not job.task.detects:
            for split in ("train", "val", "test"):
                pretrained.features(job, split)
            if any(find_probe(probe.kind).views for probe in work.plan.probes):
                turned_views(job, pretrained)


def _named(progress: Progress, prefix: str) -> Progress:
    return lambda title, total: progress(f"{prefix}: {title}", total)


def stage_folders(
    work: SeedWork, row: Adaptation, loaded: LoadedBackbone | None = None
) -> dict[str, Path]:
    """Where the stages of a row lie, in the order they are done; equal places are equal stages.

    Args:
        work: The seed.
        row: With the seed.
        loaded: Its encoder, if it is at hand.
    """
    loaded = loaded or _load(row)
    recipe = resolve_recipe(row.recipe, loaded, work.data)
    names = dict.fromkeys((SEEDLESS, *find_method(row.method).stages()))
    key = partial(stage_key, recipe, fingerprint=work.data.fingerprint, loaded=loaded)
    alone = row.method == SEEDLESS and find_task(recipe.task).detects  # the detector learns alone
    return {
        name: work.folder.stage(name, key(name, detector=alone and name == SEEDLESS))
        for name in names
    }


def row_job(work: SeedWork, row: Adaptation, progress: Progress) -> Job:
    """The job of a row, as of a run, but its stages lie where all rows find them."""
    loaded = _load(row)
    recipe = resolve_recipe(row.recipe, loaded, work.data)
    facts = f"{work.data.fingerprint} {recipe.data}"
    home = work.folder.images / hashlib.sha256(facts.encode()).hexdigest()[:12]
    images = decode_images(work.data, recipe, home, progress)
    return compose_job(
        work.data,
        recipe,
        loaded,
        images,
        RunFolder(work.folder.path, stage_folders(work, row, loaded)),
        progress=progress,
        accelerator=Accelerator(),
    )


def _load(row: Adaptation) -> LoadedBackbone:
    return load_backbone(row.recipe.backbone.name, options=row.recipe.backbone.options)


def _score(
    job: Job,
    work: SeedWork,
    row: Adaptation,
    probe: ProbeChoice,
    clusters: ClusterSummary | None,
) -> None:
    """Fit one probe and look at the test once; leaves metrics, predictions and cost."""
    plain = PLAIN if find_probe(probe.kind).own else {}
    job = seeing(job, {**plain, **probe.seen})
    method = find_method(row.method)
    output, val, head = row_output(job, row, probe)
    options, units = job.recipe.evaluate, job.units("test")
    targets = job.decisions("test").labels
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
    places, val_places = (_places(job, method, head, split) for split in ("test", "val"))
    if places is not None:
        arrays |= places.arrays()
    place = work.folder.result(row.name, probe.name, work.seed)
    write_atomically(
        place / "predictions.npz",
        lambda path: np.savez_compressed(path, **arrays),  # pyright: ignore[reportArgumentType]
    )
    own = sum(entry.seconds for entry in method.own_costs(job))
    facts: dict[str, Any] = {
        "own_seconds": own,
        "seconds": output.seconds,
        "validation": validation_f1(job, val),
        "machine": machine(str(job.accelerator.device)),
    }
    if val_places is not None:
        facts["validation_places"] = _main_scores(job, val_places)
    write_json(place / "row.json", facts)
    write_json(place / "metrics.json", metrics.to_json())  # last: it says that the row is there
