"""From the results of all rows and seeds to `comparison.json`."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from tailora.backbones import load_backbone
from tailora.config.probe_choice import ProbeChoice
from tailora.counts import ClassCounts, Groups, make_groups
from tailora.errors import RunError
from tailora.experiments.plan import BASELINE, Adaptation, Plan
from tailora.experiments.rows import SeedWork
from tailora.frames import Rows
from tailora.methods.method import find_method
from tailora.metrics import (
    MethodMetrics,
    OverSeeds,
    PlaceOutcome,
    RowOverSeeds,
    RunMetrics,
    SeedOutcome,
    SeedSpread,
    ShiftedScores,
    Spread,
    compare_over_seeds,
)
from tailora.metrics.group_f1 import MACRO_KEYS
from tailora.metrics.method_metrics import Score
from tailora.metrics.places import Places
from tailora.metrics.seed_differences import MeanDifference, mean_and_deviation
from tailora.runs.comparison import (
    ComparedClass,
    ComparedData,
    ComparedEncoder,
    ComparisonResult,
    ComparisonRow,
    Measures,
    OtherScores,
    PriorSpreads,
    Seconds,
    TaskScores,
    TuningResult,
)
from tailora.runs.provenance import GitState, Machine, git_state, machine, versions
from tailora.storage import read_arrays, read_json, typed
from tailora.tasks.task import find_task

_SHOTS: Final = ("many", "medium", "few")


def row_measures(methods: Sequence[MethodMetrics]) -> Measures | None:
    """Mean and deviation over seeds of shots, worst class, ranking, priors, losses and coverage.

    Args:
        methods: The row's metrics under each seed.

    Returns:
        None where an earlier version measured a seed: a mean over the other seeds would not be that
        of the row.
    """
    shots = [method.shots for method in methods if method.shots is not None]
    if len(shots) < len(methods):
        return None
    rankings = [method.ranking for method in methods if method.ranking]
    scalings = [method.scaling for method in methods if method.scaling]
    sets = [method.coverage for method in methods if method.coverage]
    searched = [method.retrieval for method in methods if method.retrieval]
    return Measures(
        worst_class_recall=_spread(method.worst_class_recall for method in methods),
        g_mean=_spread(method.g_mean for method in methods),
        accuracy_disparity=_spread(method.accuracy_disparity for method in methods),
        relative_accuracy=_spread(method.relative_accuracy for method in methods),
        shots={name: _spread(one[name] for one in shots) for name in _SHOTS},
        auroc=_by_group({k: of.auroc for k, of in one.items()} for one in rankings),
        auprc=_by_group({k: of.auprc for k, of in one.items()} for one in rankings),
        prevalence=_by_group({k: of.prevalence for k, of in one.items()} for one in rankings),
        priors=_priors([method.priors or {} for method in methods]),
        nll=_by_group(one["none"].nll for one in scalings),
        coverage=_by_group(one.by_group for one in sets),
        set_size=_by_group(one.size_by_group for one in sets),
        retrieval=_per_seed(searched) if len(searched) == len(methods) else None,
    )


def _spread(values: Iterable[Score]) -> Spread:
    return Spread(*mean_and_deviation(np.array(list(values), dtype=np.float64)))  # None is NaN


def _by_group(found: Iterable[Mapping[str, Score]]) -> dict[str, Spread]:
    """Over the seeds that have the measure."""
    known = list(found)
    return {scope: _spread(one[scope] for one in known) for scope in MACRO_KEYS}


def _per_seed(found: Sequence[Mapping[str, Score]]) -> dict[str, SeedSpread]:
    spreads = {}
    for scope in MACRO_KEYS:
        values = tuple(one[scope] for one in found)
        spread = _spread(values)
        spreads[scope] = SeedSpread(spread.mean, spread.deviation, values)
    return spreads


def _priors(found: Sequence[Mapping[str, ShiftedScores]]) -> dict[str, PriorSpreads]:
    spreads = {}
    for name in dict.fromkeys(name for one in found for name in one):
        known = [one[name] for one in found if name in one]
        spreads[name] = PriorSpreads(
            _spread(one.accuracy for one in known), _spread(one.macro_f1 for one in known)
        )
    return spreads


@dataclass(frozen=True)
class _Facts:
    """What row.json must hold."""

    own_seconds: float
    seconds: float
    validation: dict[str, float | None]
    validation_places: dict[str, float | None] = field(default_factory=dict)
    machine: Machine | None = None  # unknown of rows that an earlier version measured


@dataclass(frozen=True)
class _Found:
    """What one row left for one seed."""

    metrics: RunMetrics
    facts: _Facts
    predictions: NDArray[np.int64]
    targets: NDArray[np.int64]
    counts: NDArray[np.float64]
    units: NDArray[np.str_] | None
    places: Places | None = None

    @property
    def method(self) -> MethodMetrics:
        return self.metrics.methods[0]


def summarise(
    works: Sequence[SeedWork],
    *,
    shared: bool,
    started: str,
    tuning: TuningResult | None = None,
) -> ComparisonResult:
    """Read every row back and compute what a comparison says.

    Args:
        works: One per seed, all done.
        shared: Whether all seeds have the same split.
        started: When the last part of the work began, for the record.
        tuning: How options were chosen on validation, where they were.
    """
    plan, folder = works[0].plan, works[0].folder
    compared_by = find_task(plan.recipe.task).compared_by()
    found = {
        (row.name, probe.name): [
            _read(folder.result(row.name, probe.name, work.seed), compared_by) for work in works
        ]
        for row in plan.adaptations
        for probe in plan.probes_of(row)
    }
    ordinary = _over_ordinary(plan, found, shared=shared)
    measures = _measures_of(found)
    ordinary_task = (
        _over_ordinary(plan, found, shared=shared, measure=next(iter(measures))) if measures else {}
    )
    options, git = plan.recipe.evaluate, git_state()
    first = next(iter(found.values()))
    return ComparisonResult(
        tailora=metadata.version("tailora"),
        fingerprints=tuple(dict.fromkeys(work.data.fingerprint for work in works)),
        started=started,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=dict(versions()),
        git=None if git is None else GitState(**git),
        machine=Machine(**machine("cpu")),
        machines=tuple(dict.fromkeys(_machines(found.values()))),
        dataset=_dataset(works, shared=shared),
        backbone=_backbone(plan),
        seeds=tuple(plan.seeds),
        resplit=not shared,
        against=BASELINE if any(a.method == BASELINE for a in plan.adaptations) else None,
        confidence=options.confidence,
        replicates=options.replicates,
        unit=first[0].metrics.bootstrap.unit,
        groups=first[0].metrics.groups,
        classes=_classes(first),
        probes=tuple(probe.name for probe in plan.probes),
        adapters=tuple(row.name for row in plan.adaptations),
        rows=Rows(
            replace(
                row,
                over_ordinary=ordinary.get((row.adapter, row.probe)),
                task=row.task
                and replace(row.task, over_ordinary=ordinary_task.get((row.adapter, row.probe))),
            )
            for probe in plan.probes
            for row in _rows_under(plan, probe, found, measures, shared=shared)
        ),
        ordinary=None if plan.ordinary is None else " / ".join(plan.ordinary),
        tuning=tuning,
        recipe=plan.recipe.to_toml(),
        path=folder.path,
    )


def _read(place: Path, compared_by: type[Places] | None) -> _Found:
    try:
        return _read_result(place, compared_by)
    except (RunError, FileNotFoundError) as error:
        reason = error if isinstance(error, RunError) else f"{Path(error.filename).name} is missing"
        raise RunError(
            f"the result in {str(place)!r} cannot be used: {reason}; delete that folder and add "
            "--resume, which does the row again"
        ) from error


def _read_result(place: Path, compared_by: type[Places] | None) -> _Found:
    metrics = RunMetrics.from_json(read_json(place / "metrics.json"), place / "metrics.json")
    facts = typed(_Facts, read_json(place / "row.json"), place / "row.json")
    file = place / "predictions.npz"
    arrays = read_arrays(file)
    missing = {"predictions", "targets", "counts"} - arrays.keys()
    if missing or not metrics.methods:
        raise RunError(f"it lacks {', '.join(sorted(missing)) or 'a method'}")
    found = _Found(
        metrics=metrics,
        facts=facts,
        predictions=arrays["predictions"],
        targets=arrays["targets"],
        counts=arrays["counts"],
        units=arrays.get("units"),
        places=None if compared_by is None else compared_by.read(arrays),
    )
    rows, classes = found.targets.shape, len(metrics.classes)
    if found.counts.shape != (classes,) or len(rows) != 1:
        raise RunError(f"{file.name} holds other classes than metrics.json")
    for name in ("predictions", "targets"):
        values = arrays[name]
        if values.shape != rows or not np.isin(values, np.arange(classes)).all():
            raise RunError(f"{file.name} holds {name} that fit no test split")
    if found.units is not None and found.units.shape != rows:
        raise RunError(f"{file.name} holds units that fit no test split")
    if found.places is not None and found.places.true.shape[1:] != (classes,):
        raise RunError(f"{file.name} holds counts of other classes than metrics.json")
    return found


def _rows_under(
    plan: Plan,
    probe: ProbeChoice,
    found: Mapping[tuple[str, str], list[_Found]],
    measures: Mapping[str, str | None],
    *,
    shared: bool,
) -> list[ComparisonRow]:
    """All adapters under one probe; differences are to the LoRA under the same probe."""
    rows = [row for row in plan.adaptations if probe in plan.probes_of(row)]
    mine = {row.name: found[row.name, probe.name] for row in rows}
    baselines = {row.name: plan.baseline_of(row) for row in rows}
    baselines = {row: base for row, base in baselines.items() if base is None or base.name in mine}
    against = {row: base.name for row, base in baselines.items() if base is not None}
    over = _over_seeds(plan, mine, against, shared=shared)
    statistics_of = {row.name: row for row in over.rows}
    entries = [
        _entry(row, probe, statistics_of[row.name], mine[row.name], baselines.get(row.name))
        for row in rows
    ]
    if not measures:
        return entries
    over = {
        measure: _over_seeds(plan, mine, against, shared=shared, measure=measure).rows
        for measure in measures
    }
    return [
        replace(entry, task=_task_scores(measures, of_measures, mine[entry.adapter]))
        for entry, *of_measures in zip(entries, *over.values(), strict=True)
    ]


def _measures_of(found: Mapping[Any, Sequence[_Found]]) -> Mapping[str, str | None]:
    """Scores over all places; none unless every row has them, which ensembles have not."""
    every = [one.places for results in found.values() for one in results]
    known = [places for places in every if places is not None]
    return known[0].measures if len(known) == len(every) else {}


def _task_scores(
    measures: Mapping[str, str | None], over: Sequence[RowOverSeeds], results: Sequence[_Found]
) -> TaskScores:
    (name, of_class), *others = measures.items()
    main, *rest = over
    return TaskScores(
        measure=name,
        class_measure=of_class or name,
        scores=main.scores,
        difference=main.difference,
        ranks=main.ranks,
        per_class=main.per_class,
        validation=_means(one.facts.validation_places for one in results),
        also={
            other: OtherScores(
                scores=_scopes(one.scores, by_group=kind is not None),
                difference=one.difference and _scopes(one.difference, by_group=kind is not None),
            )
            for (other, kind), one in zip(others, rest, strict=True)
        },
    )


_Of = TypeVar("_Of")


def _scopes(found: Mapping[str, _Of], *, by_group: bool) -> dict[str, _Of]:
    """All that a score has: one of all classes at once has no groups."""
    return dict(found) if by_group else {"all": found["all"]}


def _over_ordinary(
    plan: Plan,
    found: Mapping[tuple[str, str], list[_Found]],
    *,
    shared: bool,
    measure: str | None = None,
) -> dict[tuple[str, str], dict[str, MeanDifference] | None]:
    """Difference of each row to ordinary fine-tuning; nothing where that is no row."""
    if plan.ordinary is None:
        return {}
    named = {" / ".join(key): results for key, results in found.items()}
    over = _over_seeds(plan, named, " / ".join(plan.ordinary), shared=shared, measure=measure)
    return dict(zip(found, (row.difference for row in over.rows), strict=True))


def _over_seeds(
    plan: Plan,
    results: Mapping[str, list[_Found]],
    against: str | Mapping[str, str],
    *,
    shared: bool,
    measure: str | None = None,
) -> OverSeeds:
    """Macro-F1 of decisions, or a score over all places, over seeds."""
    options, seeds = plan.recipe.evaluate, range(len(plan.seeds))
    return compare_over_seeds(
        [_outcome(plan, results, place) for place in seeds]
        if measure is None
        else [_place_outcome(plan, results, place, measure) for place in seeds],
        against=against,
        shared_test=shared,
        replicates=options.replicates,
        confidence=options.confidence,
        seed=plan.recipe.seed,
    )


def _outcome(plan: Plan, mine: Mapping[str, list[_Found]], place: int) -> SeedOutcome:
    one = next(iter(mine.values()))[place]
    return SeedOutcome(
        targets=one.targets,
        groups=_groups(plan, one),
        predictions={name: results[place].predictions for name, results in mine.items()},
        units=one.units,
        classes=one.metrics.classes,
    )


def _place_outcome(
    plan: Plan, mine: Mapping[str, list[_Found]], place: int, measure: str
) -> PlaceOutcome:
    one = next(iter(mine.values()))[place]
    said = {name: results[place].places for name, results in mine.items()}
    places = {name: own for name, own in said.items() if own is not None}
    if next(iter(places.values())).measures[measure] is None:  # as of one class
        return PlaceOutcome(places, measure, Groups((0,), (), ()), (measure,))
    return PlaceOutcome(places, measure, _groups(plan, one), one.metrics.classes)


def _groups(plan: Plan, one: _Found) -> Groups:
    options = plan.recipe.evaluate
    counts = ClassCounts(one.metrics.classes, tuple(int(n) for n in one.counts))
    return make_groups(counts, options.groups, low=options.low, high=options.high)


def _entry(
    row: Adaptation,
    probe: ProbeChoice,
    over: RowOverSeeds,
    results: Sequence[_Found],
    baseline: Adaptation | None,
) -> ComparisonRow:
    methods = [one.method for one in results]
    return ComparisonRow(
        name=f"{row.name} / {probe.name}",
        adapter=row.name,
        method=row.method,
        probe=probe.name,
        changes=row.changes | row.tuned,
        tuned=row.tuned,
        leaks=find_method(row.method).leaks,
        against=None if baseline is None else baseline.name,
        scores=over.scores,
        difference=over.difference,
        ranks=over.ranks,
        per_class=over.per_class,
        geometry=_means(method.geometry for method in methods),
        ece=_means({"all": m.ece, "tail": m.ece_by_group["tail"]} for m in methods),
        accuracy=statistics.mean(method.accuracy for method in methods),
        balanced_accuracy=statistics.mean(method.balanced_accuracy for method in methods),
        measures=row_measures(methods),
        purity=_mean(one.metrics.clusters and one.metrics.clusters.purity for one in results),
        seconds=Seconds(
            own=statistics.median(one.facts.own_seconds for one in results),
            total=statistics.median(one.facts.seconds for one in results),
        ),
        validation=_means(one.facts.validation for one in results),
        peak_memory_mb=max(method.peak_memory_mb for method in methods),
        trained_parameters=methods[0].trained_parameters,
    )


def _means(entries: Iterable[Mapping[str, Score]]) -> dict[str, Score]:
    listed = list(entries)
    return {key: _mean(entry.get(key) for entry in listed) for key in listed[0]}


def _mean(values: Iterable[Score]) -> Score:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None


def _dataset(works: Sequence[SeedWork], *, shared: bool) -> ComparedData:
    sets = [work.data for work in (works[:1] if shared else works)]
    return ComparedData(
        name=sets[0].name,
        notes=tuple(dict.fromkeys(note for data in sets for note in data.notes)),
        **{
            f"n_{split}": tuple(len(data.indices(split)) for data in sets)
            for split in ("train", "val", "test")
        },
    )


def _machines(found: Iterable[Sequence[_Found]]) -> Iterator[Machine]:
    for one in (one for results in found for one in results):
        if one.facts.machine is not None:
            yield one.facts.machine


def _backbone(plan: Plan) -> ComparedEncoder:
    loaded = load_backbone(plan.recipe.backbone.name, options=plan.recipe.backbone.options)
    return ComparedEncoder(loaded.name, loaded.source, loaded.license)


def _classes(results: Sequence[_Found]) -> Rows[ComparedClass]:
    """Mean training samples of every class of any seed, most frequent first."""
    counts: dict[str, list[float]] = {}
    for one in results:
        for name, count in zip(one.metrics.classes, one.counts, strict=True):
            counts.setdefault(name, []).append(float(count))
    means = {name: statistics.mean(values) for name, values in counts.items()}
    order = sorted(means, key=lambda name: (-means[name], name))
    return Rows(ComparedClass(name, means[name]) for name in order)
