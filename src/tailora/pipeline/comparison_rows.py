"""One row of a comparison for one seed: its job, its adapter, its probes, its look at the test."""

import hashlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from tailora.backbones import LoadedBackbone, load_backbone
from tailora.data import Dataset
from tailora.evaluate import (
    ClusterSummary,
    evaluate_methods,
)
from tailora.heads.probes import NEEDS_VIEWS
from tailora.pipeline.clora import adapt_categories
from tailora.pipeline.comparison_plan import (
    PER_CATEGORY,
    Adaptation,
    Plan,
    stage_key,
    stages_of,
)
from tailora.pipeline.job import Job
from tailora.pipeline.leaking_prompt import PROMPT_ORACLE
from tailora.pipeline.prepare import compose_job, decode_images, resolve_recipe
from tailora.pipeline.probe_choice import ProbeChoice
from tailora.pipeline.row_costs import own_seconds
from tailora.pipeline.row_output import row_output, turned_views, validation_f1
from tailora.pipeline.scoring import clusters_of, test_units
from tailora.pipeline.stage_features import features
from tailora.pipeline.stages import (
    adapt_stage,
    calibration,
    with_probe,
)
from tailora.progress import Progress
from tailora.runs.comparison_folder import ComparisonFolder
from tailora.runs.folder import RunFolder
from tailora.runs.provenance import machine
from tailora.storage import write_atomically, write_json


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
        adapt_row(job, row.method)
        clusters = clusters_of(job, calibration(job)) if row.method == "deblora" else None
        for probe in missing:
            _score(job, work, row, probe, clusters)


def missing_probes(work: SeedWork, row: Adaptation) -> list[ProbeChoice]:
    """Probes under which a row is not there yet."""
    return [p for p in work.plan.probes if not work.folder.has(row.name, p.name, work.seed)]


def do_seedless(work: SeedWork, progress: Progress) -> None:
    """Do what no seed changes, before several processes would each do it."""
    rows = work.adaptations()
    for row in rows:
        job = row_job(work, row, progress)
        with_probe(job, "zero-shot")
        if row.method == "zero-shot":  # no other row shows its test features
            features(job, "zero-shot", "test")
            if any(probe.kind in NEEDS_VIEWS for probe in work.plan.probes):
                turned_views(job, "zero-shot")


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
    recipe = resolve_recipe(row.recipe, loaded)
    names = dict.fromkeys(("zero-shot", *stages_of(row.method)))
    key = partial(stage_key, recipe, fingerprint=work.data.fingerprint, loaded=loaded)
    return {name: work.folder.stage(name, key(name)) for name in names}


def row_job(work: SeedWork, row: Adaptation, progress: Progress) -> Job:
    """The job of a row, as of a run, but its stages lie where all rows find them."""
    loaded = _load(row)
    recipe = resolve_recipe(row.recipe, loaded)
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


def adapt_row(job: Job, method: str) -> None:
    """Train what a row needs and does not find."""
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
    output, val = row_output(job, row, probe)
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
    facts = {
        "own_seconds": own,
        "seconds": output.seconds,
        "validation": validation_f1(job, val),
        "machine": machine(str(job.accelerator.device)),
    }
    write_json(place / "row.json", facts)
    write_json(place / "metrics.json", metrics.to_json())  # last: it says that the row is there
