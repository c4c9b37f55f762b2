"""From the results of all rows and seeds to `comparison.json`."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from tailora.backbones import load_backbone
from tailora.config.probe_choice import ProbeChoice
from tailora.counts import ClassCounts, Groups, make_groups
from tailora.errors import RunError
from tailora.experiments.plan import BASELINE, Adaptation, Plan
from tailora.experiments.rows import SeedWork
from tailora.methods.method import find_method
from tailora.metrics import RunMetrics, SeedOutcome, compare_over_seeds
from tailora.metrics.group_f1 import MACRO_KEYS
from tailora.metrics.seed_differences import mean_and_deviation
from tailora.report import comparison_table
from tailora.runs.comparison_folder import SCHEMA, ComparisonFolder
from tailora.runs.provenance import git_state, machine, versions
from tailora.storage import read_arrays, read_json, typed

Spread = dict[str, float | None]

_SCALARS: Final = ("worst_class_recall", "g_mean", "accuracy_disparity", "relative_accuracy")
_SHOTS: Final = ("many", "medium", "few")


def row_measures(methods: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Mean and deviation over seeds of shots, worst class, ranking, priors, losses and coverage.

    Args:
        methods: The row's entry in the metrics.json of each seed.

    Returns:
        Each number as `{"mean", "deviation"}`, null where no seed has it. None where an earlier
        version measured a seed: a mean over the other seeds would not be that of the row.
    """
    if any(not method.get("shots") for method in methods):
        return None

    def spread(*path: str) -> Spread:
        found = [value for method in methods if (value := _at(method, path)) is not None]
        mean, deviation = mean_and_deviation(np.array(found, dtype=np.float64))
        return {"mean": mean, "deviation": deviation}

    return {
        **{name: spread(name) for name in _SCALARS},
        "shots": {name: spread("shots", name) for name in _SHOTS},
        **{
            name: {scope: spread("ranking", scope, name) for scope in MACRO_KEYS}
            for name in ("auroc", "auprc", "prevalence")
        },
        "priors": {
            name: {key: spread("priors", name, key) for key in ("accuracy", "macro_f1")}
            for name in _prior_names(methods)
        },
        "nll": {scope: spread("scaling", "none", "nll", scope) for scope in MACRO_KEYS},
        "coverage": {scope: spread("coverage", "by_group", scope) for scope in MACRO_KEYS},
        "set_size": {scope: spread("coverage", "size_by_group", scope) for scope in MACRO_KEYS},
    }


def _prior_names(methods: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for method in methods for name in method.get("priors") or {}))


def _at(entry: Any, path: Sequence[str]) -> float | None:
    for key in path:
        entry = (entry or {}).get(key)
    return entry


@dataclass(frozen=True)
class Comparison:
    """A finished comparison.

    Attributes:
        folder: Where its files lie.
        content: What `comparison.json` holds.
    """

    folder: ComparisonFolder
    content: dict[str, Any] = field(repr=False)

    def table(self) -> Table:
        """Rows with macro-F1 by group, mean and deviation over seeds, and paired differences."""
        return comparison_table(self.content)


@dataclass(frozen=True)
class _Facts:
    """What row.json must hold."""

    own_seconds: float
    seconds: float
    validation: dict[str, float | None]
    machine: dict[str, str | int | float | bool | None] | None = None


@dataclass(frozen=True)
class _Found:
    """What one row left for one seed."""

    metrics: Mapping[str, Any]
    facts: Mapping[str, Any]
    predictions: NDArray[np.int64]
    targets: NDArray[np.int64]
    counts: NDArray[np.float64]
    units: NDArray[np.str_] | None

    @property
    def method(self) -> Mapping[str, Any]:
        return self.metrics["methods"][0]


def summarise(
    works: Sequence[SeedWork],
    *,
    shared: bool,
    started: str,
    tuning: Mapping[str, Any] | None = None,
) -> Comparison:
    """Read every row back and compute what a comparison says.

    Args:
        works: One per seed, all done.
        shared: Whether all seeds have the same split.
        started: When the last part of the work began, for the record.
        tuning: How options were chosen on validation, where they were.
    """
    plan, folder = works[0].plan, works[0].folder
    found = {
        (row.name, probe.name): [_read(folder, row.name, probe.name, work.seed) for work in works]
        for row in plan.adaptations
        for probe in plan.probes
    }
    options = plan.recipe.evaluate
    rows = [
        entry for probe in plan.probes for entry in _rows_under(plan, probe, found, shared=shared)
    ]
    first = next(iter(found.values()))
    content = {
        "schema": SCHEMA,
        "kind": "comparison",
        "complete": True,
        "tailora": metadata.version("tailora"),
        "fingerprints": list(dict.fromkeys(work.data.fingerprint for work in works)),
        "started": started,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "git": git_state(),
        "machine": machine("cpu"),
        "machines": _machines(found.values()),
        "dataset": _dataset(works, shared=shared),
        "backbone": _backbone(plan),
        "seeds": list(plan.seeds),
        "resplit": not shared,
        "against": BASELINE if any(a.method == BASELINE for a in plan.adaptations) else None,
        "confidence": options.confidence,
        "replicates": options.replicates,
        "unit": first[0].metrics["bootstrap"]["unit"],
        "groups": first[0].metrics["groups"],
        "classes": _classes(first),
        "probes": [probe.name for probe in plan.probes],
        "adapters": [row.name for row in plan.adaptations],
        "rows": rows,
        "tuning": tuning,
        "recipe": plan.recipe.to_toml(),
    }
    return Comparison(folder, content)


def _read(folder: ComparisonFolder, row: str, probe: str, seed: int) -> _Found:
    place = folder.result(row, probe, seed)
    try:
        return _read_result(place)
    except (RunError, FileNotFoundError) as error:
        reason = error if isinstance(error, RunError) else f"{Path(error.filename).name} is missing"
        raise RunError(
            f"the result in {str(place)!r} cannot be used: {reason}; delete that folder and add "
            "--resume, which does the row again"
        ) from error


def _read_result(place: Path) -> _Found:
    metrics, facts = (read_json(place / name) for name in ("metrics.json", "row.json"))
    known = RunMetrics.from_json(metrics)
    typed(_Facts, facts, place / "row.json")
    file = place / "predictions.npz"
    arrays = read_arrays(file)
    missing = {"predictions", "targets", "counts"} - arrays.keys()
    if missing or not known.methods:
        raise RunError(f"it lacks {', '.join(sorted(missing)) or 'a method'}")
    found = _Found(
        metrics=metrics,
        facts=facts,
        predictions=arrays["predictions"],
        targets=arrays["targets"],
        counts=arrays["counts"],
        units=arrays.get("units"),
    )
    rows, classes = found.targets.shape, len(known.classes)
    if found.counts.shape != (classes,) or len(rows) != 1:
        raise RunError(f"{file.name} holds other classes than metrics.json")
    for name in ("predictions", "targets"):
        values = arrays[name]
        if values.shape != rows or not np.isin(values, np.arange(classes)).all():
            raise RunError(f"{file.name} holds {name} that fit no test split")
    if found.units is not None and found.units.shape != rows:
        raise RunError(f"{file.name} holds units that fit no test split")
    return found


def _rows_under(
    plan: Plan,
    probe: ProbeChoice,
    found: Mapping[tuple[str, str], list[_Found]],
    *,
    shared: bool,
) -> list[dict[str, Any]]:
    """All adapters under one probe; differences are to the LoRA under the same probe."""
    mine = {row.name: found[row.name, probe.name] for row in plan.adaptations}
    baselines = {row.name: plan.baseline_of(row) for row in plan.adaptations}
    options = plan.recipe.evaluate
    over = compare_over_seeds(
        [_outcome(plan, mine, place) for place in range(len(plan.seeds))],
        against={row: base.name for row, base in baselines.items() if base is not None},
        shared_test=shared,
        replicates=options.replicates,
        confidence=options.confidence,
        seed=plan.recipe.seed,
    ).to_json()
    statistics_of = {row["name"]: row for row in over["rows"]}
    return [
        _entry(row, probe, statistics_of[row.name], mine[row.name], baselines[row.name])
        for row in plan.adaptations
    ]


def _outcome(plan: Plan, mine: Mapping[str, list[_Found]], place: int) -> SeedOutcome:
    one = next(iter(mine.values()))[place]
    return SeedOutcome(
        targets=one.targets,
        groups=_groups(plan, one),
        predictions={name: results[place].predictions for name, results in mine.items()},
        units=one.units,
        classes=tuple(one.metrics["classes"]),
    )


def _groups(plan: Plan, one: _Found) -> Groups:
    options = plan.recipe.evaluate
    counts = ClassCounts(tuple(one.metrics["classes"]), tuple(int(n) for n in one.counts))
    return make_groups(counts, options.groups, low=options.low, high=options.high)


def _entry(
    row: Adaptation,
    probe: ProbeChoice,
    over: Mapping[str, Any],
    results: Sequence[_Found],
    baseline: Adaptation | None,
) -> dict[str, Any]:
    methods = [one.method for one in results]
    return {
        "name": f"{row.name} / {probe.name}",
        "adapter": row.name,
        "method": row.method,
        "probe": probe.name,
        "changes": row.changes | row.tuned,
        "tuned": row.tuned,
        "leaks": find_method(row.method).leaks,
        "against": None if baseline is None else baseline.name,
        **{key: over[key] for key in ("scores", "difference", "ranks", "per_class")},
        "geometry": _means(method["geometry"] for method in methods),
        "ece": _means({"all": m["ece"], "tail": m["ece_by_group"].get("tail")} for m in methods),
        "accuracy": statistics.mean(method["accuracy"] for method in methods),
        "balanced_accuracy": statistics.mean(method["balanced_accuracy"] for method in methods),
        "measures": row_measures(methods),
        "purity": _mean((one.metrics["clusters"] or {}).get("purity") for one in results),
        "seconds": {
            "own": statistics.median(one.facts["own_seconds"] for one in results),
            "total": statistics.median(one.facts["seconds"] for one in results),
        },
        "validation": _means(one.facts["validation"] for one in results),
        "peak_memory_mb": max(method["peak_memory_mb"] for method in methods),
        "trained_parameters": methods[0]["trained_parameters"],
    }


def _means(entries: Iterable[Mapping[str, Any]]) -> dict[str, float | None]:
    listed = list(entries)
    return {key: _mean(entry.get(key) for entry in listed) for key in listed[0]}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None


def _dataset(works: Sequence[SeedWork], *, shared: bool) -> dict[str, Any]:
    sets = [work.data for work in (works[:1] if shared else works)]
    return {
        "name": sets[0].name,
        "notes": list(dict.fromkeys(note for data in sets for note in data.notes)),
        **{f"n_{s}": [len(data.indices(s)) for data in sets] for s in ("train", "val", "test")},
    }


def _machines(found: Iterable[Sequence[_Found]]) -> list[dict[str, Any]]:
    """Kinds of machines that measured the rows: seconds of unlike ones cannot be compared."""
    kinds: list[dict[str, Any]] = []
    for one in (one for results in found for one in results):
        kind = one.facts.get("machine")  # unknown of rows that an earlier version measured
        if kind is not None and kind not in kinds:
            kinds.append(kind)
    return kinds


def _backbone(plan: Plan) -> dict[str, Any]:
    loaded = load_backbone(plan.recipe.backbone.name, options=plan.recipe.backbone.options)
    return {"name": loaded.name, "source": loaded.source, "license": loaded.license}


def _classes(results: Sequence[_Found]) -> list[dict[str, Any]]:
    """Mean training samples of every class of any seed, most frequent first."""
    counts: dict[str, list[float]] = {}
    for one in results:
        for name, count in zip(one.metrics["classes"], one.counts, strict=True):
            counts.setdefault(name, []).append(float(count))
    means = {name: statistics.mean(values) for name, values in counts.items()}
    return [{"name": n, "n_train": means[n]} for n in sorted(means, key=lambda n: (-means[n], n))]
