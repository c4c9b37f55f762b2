"""Choose options on validation, for every row of a comparison by itself and with as many trials.

The test split is not read. A trial trains what its values change and finds all else done: stages
are named after what they depend on. Only the chosen values become a row, which looks at the test
once, as every row does.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tailora.data import Dataset
from tailora.errors import BackboneError, ConfigError, DataError, TrainingError
from tailora.experiments.plan import Adaptation, Plan, check_plan
from tailora.experiments.rows import (
    SeedWork,
    row_job,
    stage_folders,
    validation_f1,
    validation_shares,
)
from tailora.experiments.tuning_space import Dimension, Tuning, space_key
from tailora.experiments.tuning_study import Study
from tailora.heads.probes import find_probe
from tailora.methods.method import adapt_all, find_method
from tailora.methods.prepare import check_row
from tailora.progress import Progress, silent
from tailora.runs.comparison import Trial, TunedRow, TuningResult
from tailora.storage import delete, write_text
from tailora.tasks.task import find_task

BEST: Final = "best.toml"

# sections that no method trains on, and why they are not chosen among
_NOT_TUNED: Final = {
    "probe": "every probe chooses its penalty on validation itself; list penalties with --set "
    "probe.l2=[...], and compare losses with --probes",
    "evaluate": "it says how results are measured, and the easiest measure would be chosen",
    "seed": "a lucky seed is not a better method",
    "method": "compare methods with --methods",
}


@dataclass(frozen=True)
class Chosen:
    """What the trials of one row came to.

    Args:
        row: With the chosen values; the row itself where nothing was better.
        record: For comparison.json.
    """

    row: Adaptation
    record: TunedRow


@dataclass(frozen=True)
class TuningItem:
    """All trials of a comparison as one work item: each is proposed from those before it."""

    plan: Plan
    work: SeedWork
    tuning: Tuning
    name: str = "tuning"
    stages: tuple[Path, ...] = ()
    after: frozenset[str] = frozenset()

    def do(self) -> None:
        """Do the trials; `tune` finds them in the folder then."""
        tune(self.plan, self.work, self.tuning, silent)

    def stages_here(self) -> tuple[Path, ...]:
        """No stages: whoever does the trials names them."""
        return ()


def check_tuning(plan: Plan, tuning: Tuning, sets: Sequence[Dataset]) -> None:
    """Reject a choice that could not be made, or that would be no honest one.

    Args:
        plan: Of the comparison, with the rows as they are before.
        tuning: What is chosen.
        sets: One dataset, or one per seed.

    Raises:
        ConfigError: A key that acts on no method, that is varied too or must not be chosen; several
            probes, or one that learns from test images; a split per seed; no validation samples; a
            value that a recipe or an encoder refuses.
        BackboneError: A value that the encoder does not bear.
    """
    for dimension in tuning.space:
        _check_key(plan, dimension.key)
    _check_probes(plan)
    if len(sets) > 1:
        raise ConfigError(
            "--tune chooses on one validation split, whose images are in other seeds' tests with "
            "--resplit: leave one of them out"
        )
    [data] = sets
    if not len(data.indices("val")):
        raise ConfigError(
            "--tune chooses by validation samples and there are none: add data, or a column "
            "`split` with `val`"
        )
    for row in plan.adaptations:
        for dimension in _acting(row, tuning):
            for value in dimension.ends:
                _check_row(plan, row.with_tuned({dimension.key: value}), data)


def tune(
    plan: Plan, work: SeedWork, tuning: Tuning, progress: Progress
) -> tuple[Plan, TuningResult]:
    """Choose values for every row that they act on.

    Args:
        plan: Checked by `check_tuning`.
        work: The first seed; all trials have its weights, order and validation split.
        tuning: What is chosen, from where, by what.
        progress: One step per trial.

    Returns:
        The plan with rows of chosen values, and what `comparison.json` says of the choice.

    Raises:
        TailoraError: A row could not be trained as the recipe has it, or a disk is full.
    """
    made: set[Path] = set()
    rows: list[Adaptation] = []
    records: list[TunedRow] = []
    for row in plan.adaptations:
        space = _acting(row, tuning)
        if not space:
            rows.append(row)
            continue
        found = _choose(replace(work, plan=plan), row, space, tuning, made, progress)
        rows.append(found.row)
        records.append(found.record)
    tuned = replace(plan, adaptations=tuple({row.name: row for row in rows}.values()))
    _forget(made, replace(work, plan=tuned))
    counts = work.data.counts("val").values
    return tuned, TuningResult(
        by=tuning.by,
        seed=work.seed,
        trials=tuning.trials,
        space={dimension.key: dimension.text() for dimension in tuning.space},
        n_val=len(work.data.indices("val")),
        classes_without_validation=sum(count == 0 for count in counts),
        rows=tuple(records),
    )


def _choose(
    work: SeedWork,
    row: Adaptation,
    space: Sequence[Dimension],
    tuning: Tuning,
    made: set[Path],
    progress: Progress,
) -> Chosen:
    flat = row.recipe.flat()
    own = {dimension.key: flat[dimension.key] for dimension in space}
    facts = [work.data.fingerprint, tuning.by, work.seed, work.plan.main_probe.name, flat]
    folder = work.folder.tuning(row.name, space_key(space, facts))
    study = Study(folder, row.name, space, work.seed)
    known = study.trials()[: tuning.trials]
    with progress(f"tune {row.name}", tuning.trials) as advance:
        advance(len(known))
        while len(known) < tuning.trials:
            values = {} if not known else study.propose(own)
            if values is None:
                break  # every combination has been tried
            trial = _try(work, row, len(known), values, tuning, made)
            study.add(trial, own)
            known.append(trial)
            advance(1)
    best = max((t for t in known if t.value is not None), key=lambda t: (t.value, -t.number))
    chosen = row.with_tuned(best.values) if best.values else row
    written = _write_recipe(folder / BEST, work, chosen)
    record = TunedRow(
        row=row.name,
        adapter=chosen.name,
        method=row.method,
        chosen=best.number,
        values=best.values,
        own=own,
        recipe=written and written.relative_to(work.folder.path).as_posix(),
        trials=tuple(known),
    )
    return Chosen(chosen, record)


def _try(
    work: SeedWork,
    row: Adaptation,
    number: int,
    values: Mapping[str, Any],
    tuning: Tuning,
    made: set[Path],
) -> Trial:
    """Train a row with some values and measure it on validation."""
    started = time.perf_counter()
    scores: dict[str, float | None] = {}
    reason = None
    try:
        tried = row.with_tuned(values)
        tried = replace(tried, recipe=replace(tried.recipe, seed=work.seed))
        _check_row(work.plan, tried, work.data)
        job = row_job(work, tried, silent)
        made |= {path for path in job.folder.elsewhere.values() if not path.exists()}
        method = find_method(tried.method)
        adapt_all(job, method)
        scores = validation_f1(job, validation_shares(job, method, work.plan.main_probe))
    except (ConfigError, BackboneError, DataError, TrainingError) as error:
        if not values:  # the recipe's own must do
            raise
        reason = str(error)
    seconds = round(time.perf_counter() - started, 3)
    value = tuning.value(scores)
    if value is None and reason is None:
        raise ConfigError(
            f"macro-F1 of {tuning.by!r} is not defined on validation: none of these classes has a "
            "sample there; choose by another with --tune-by"
        )
    return Trial(number, dict(values), value, scores, seconds, reason)


def _write_recipe(path: Path, work: SeedWork, row: Adaptation) -> Path | None:
    """Write what `tailora fit --recipe` takes; None for methods that it does not have."""
    probe = work.plan.main_probe
    if find_method(row.method).only_compared:
        return None
    recipe = row.recipe.override({"probe.loss": probe.kind, "probe.loss_options": probe.options})
    write_text(path, replace(recipe, seed=work.seed).to_toml())
    return path


def _forget(made: set[Path], work: SeedWork) -> None:
    """Delete the adapters and features of trials that were not chosen; their scores are kept."""
    kept = {path for row in work.adaptations() for path in stage_folders(work, row).values()}
    for path in made - kept:
        delete(path)


def _acting(row: Adaptation, tuning: Tuning) -> list[Dimension]:
    return [d for d in tuning.space if find_method(row.method).acts_on(d.key)]


def _check_key(plan: Plan, key: str) -> None:
    section = key.partition(".")[0]
    if section in _NOT_TUNED:
        raise ConfigError(f"{key} is not tuned: {_NOT_TUNED[section]}")
    methods = dict.fromkeys(row.method for row in plan.adaptations)
    if not any(find_method(method).acts_on(key) for method in methods):
        raise ConfigError(f"{key} acts on none of {', '.join(methods)}; tune something else")
    if any(key in row.changes for row in plan.adaptations):
        raise ConfigError(f"{key} is both varied and tuned; leave one of them out")


def _check_probes(plan: Plan) -> None:
    names = [p.name for p in plan.probes if not find_probe(p.kind).own or len(plan.probes) == 1]
    if len(names) > 1:
        raise ConfigError(
            f"--tune chooses under one probe, got {len(names)}: {', '.join(names)}; name one with "
            "--probes"
        )
    if find_probe(plan.main_probe.kind).views:
        raise ConfigError(
            f"probe {names[0]!r} learns from the test images, and --tune reads none of them; "
            "choose another with --probes"
        )


def _check_row(plan: Plan, row: Adaptation, data: Dataset) -> None:
    counts = find_task(row.recipe.task).counts(data)
    check_plan(replace(plan, adaptations=(row,)), counts)
    check_row(data, row.recipe)
