"""`tailora.compare`: several methods on the same data, each under the same probes, over seeds.

Adapter and probe are separate axes: an adapter is trained once and every probe is fitted on the
same features. A stage is named after what it depends on, so rows that share one find it done, and
a comparison that was interrupted continues where it stopped.
"""

import os
import pickle
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch

from tailora.backbones import LoadedBackbone
from tailora.config.recipe import Recipe
from tailora.data import Dataset
from tailora.errors import ConfigError
from tailora.experiments.plan import Adaptation, Plan, check_plan, make_plan
from tailora.experiments.ray_executor import joined
from tailora.experiments.record import summarise
from tailora.experiments.rows import SeedWork, do_seed, do_seedless
from tailora.experiments.seed_processes import do_in_processes
from tailora.experiments.tuning import TuningItem, check_tuning, tune
from tailora.experiments.tuning_space import Tuning
from tailora.experiments.tuning_study import import_optuna
from tailora.experiments.work_items import cut
from tailora.methods.band_choice import with_band_names
from tailora.methods.checks import check_maps, check_text
from tailora.methods.method import find_method
from tailora.methods.prepare import check_row, with_precision
from tailora.progress import Progress, silent
from tailora.report import write_method_comparison
from tailora.runs.comparison import ComparisonResult
from tailora.runs.comparison_folder import ComparisonFolder
from tailora.runs.one_at_a_time import one_at_a_time
from tailora.tasks.task import find_task

_CORES_A_PROCESS: Final = 2


def compare(
    data: Dataset | Sequence[Dataset],
    *,
    methods: Sequence[str],
    out: str | Path,
    probes: Sequence[str] = (),
    variants: Sequence[Mapping[str, Any]] = (),
    seeds: int = 3,
    recipe: Recipe | None = None,
    tuning: Tuning | None = None,
    jobs: int | None = None,
    ray: str | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> ComparisonResult:
    """Train several methods over several seeds and set them side by side.

    Args:
        data: One dataset whose split all seeds share, or one dataset a seed.
        methods: Of those that `tailora methods` lists.
        out: Folder to make.
        probes: Of `heads.probes.probe_names()`, with options as `"logit-adjusted:tau=1.5"`; empty
            takes the recipe's. Every adapter is evaluated with every probe.
        variants: Changes to try, each a mapping from recipe keys to values; a method takes those
            that act on it.
        seeds: How many, counted up from the recipe's.
        recipe: What all rows share.
        tuning: Options to choose on validation, for every row by itself, before the rows are done.
        jobs: Processes, one seed each; None lets the cores decide. With Ray: work items
            at once.
        ray: Address of a Ray cluster to do the work on, see `ray_executor.joined`; `out` must lie
            on storage that all its machines see.
        resume: Continue an interrupted comparison, or add methods, probes and seeds to one.
        force: Replace a comparison at `out`.
        progress: Shows how far it is.

    Returns:
        The comparison, as written to `comparison.json`.

    Raises:
        TailoraError: Anything wrong with data, methods, options or disk, said in one line before
            anything is trained where that is possible.
    """
    recipe = with_precision(recipe or Recipe())  # one for all machines that share the work
    plan = make_plan(recipe, methods=methods, probes=probes, variants=variants, seeds=seeds)
    given = [data] if isinstance(data, Dataset) else list(data)
    sets = [with_band_names(one, recipe.data) for one in given]
    if len(sets) not in (1, seeds):
        raise ConfigError(f"{seeds} seeds need one dataset or {seeds}, got {len(sets)}")
    shared = len(sets) == 1
    if ray is not None:
        _require_sendable(sets, "leave ray out")
    if tuning is not None:
        import_optuna()
        check_tuning(plan, tuning, sets)
    _check(plan, sets)
    folder = ComparisonFolder(Path(out) if ray is None else Path(out).absolute())
    fingerprints = [one.fingerprint for one in sets]
    folder.check(recipe, fingerprints, resume=resume, force=force)
    with (
        one_at_a_time(folder.path),
        nullcontext() if ray is None else joined(ray, jobs) as cluster,
    ):
        started = datetime.now(UTC).isoformat(timespec="seconds")
        folder.open(recipe, fingerprints, resume=resume, force=force)
        told = None
        if tuning is not None:
            work = SeedWork(plan, plan.seeds[0], sets[0], folder)
            if cluster is not None:
                cluster.do([TuningItem(plan, work, tuning)], folder.path, progress)
            plan, told = tune(plan, work, tuning, progress)
        works = [
            SeedWork(plan, seed, sets[0 if shared else place], folder)
            for place, seed in enumerate(plan.seeds)
        ]
        if cluster is None:
            _do_all(works, jobs, progress, shared=shared)
        else:
            cluster.do(cut(works), folder.path, progress)
        found = summarise(works, shared=shared, started=started, tuning=told)
        write_method_comparison(found, folder.page)
        folder.finish(found)
    return found


def default_jobs() -> int:
    """Processes that the machine has room for: one per two cores, one on a GPU."""
    if torch.cuda.is_available():
        return 1
    return max(1, (os.cpu_count() or 1) // _CORES_A_PROCESS)


def _check(plan: Plan, sets: Sequence[Dataset]) -> None:
    """Refuse, before anything is written, whatever a row could stumble over."""
    for data in sets:
        check_plan(plan, find_task(plan.recipe.task).counts(data))
        for row in plan.adaptations:
            recipe, loaded = check_row(data, row.recipe)
            for probe in plan.probes:
                check_text(probe, recipe, loaded, data.classes)
                check_maps(recipe.override(probe.seen), probe.kind, find_task(recipe.task))
            _check_only_compared(row, loaded, data)


def _check_only_compared(row: Adaptation, loaded: LoadedBackbone, data: Dataset) -> None:
    """Ask a method that `fit` does not know; the others have been asked."""
    method = find_method(row.method)
    if method.only_compared:
        method.check_encoder(row.recipe, loaded, len(data.indices("train")), 0)


def _do_all(
    works: Sequence[SeedWork], jobs: int | None, progress: Progress, *, shared: bool
) -> None:
    count = min(len(works), jobs or default_jobs())
    if count < 2:
        for work in works:
            do_seed(work, progress)
        return
    _require_sendable([work.data for work in works], "give jobs=1")
    if shared:
        do_seedless(works[0], progress)
    do_in_processes(partial(do_seed, progress=silent), works, count, progress)


def _require_sendable(sets: Sequence[Dataset], instead: str) -> None:
    for data in sets:
        try:
            pickle.dumps(data)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise ConfigError(
                f"dataset {data.name!r} cannot be sent to other processes ({error}); {instead}"
            ) from error
