"""A comparison of methods over seeds: `comparison.json` is read and written only here.

Fields that an earlier version did not write are None or empty.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, final

from pydantic import Field
from rich.markup import escape
from rich.table import Table

from tailora.counts import GROUP_NAMES
from tailora.errors import RunError, unknown_name
from tailora.frames import Rows, frame
from tailora.metrics.group_f1 import MACRO_KEYS
from tailora.metrics.method_metrics import plain
from tailora.metrics.over_seeds import ClassSpread, SeedSpread, Spread
from tailora.metrics.seed_differences import MeanDifference, Score
from tailora.numbers import integer
from tailora.registry import method_title
from tailora.runs.provenance import GitState, Machine
from tailora.storage import keyed, typed

SCHEMA: Final = 1
KIND: Final = "comparison"
LEAKS: Final = "leaks the label"
_COMPARED: Final = ("tail", "all")
_Count = Annotated[int, Field(ge=0, le=2**53)]
_Share = Annotated[float, Field(ge=-1, le=1)] | None
_Scores = dict[str, Score]
_Spreads = Annotated[dict[str, Spread], keyed(*MACRO_KEYS)]


@final
@dataclass(frozen=True)
class PriorSpreads:
    """Scores over seeds, with the test split re-weighted to one class prior."""

    accuracy: Spread
    macro_f1: Spread


@final
@dataclass(frozen=True)
class Measures:
    """Further test metrics over seeds; see `tailora.metrics.MethodMetrics`.

    Args:
        worst_class_recall: Lowest recall of any class.
        g_mean: Geometric mean of the recalls.
        accuracy_disparity: Highest minus lowest recall.
        relative_accuracy: Balanced accuracy divided by that of training on balanced data.
        shots: Mean recall keyed many/medium/few.
        auroc: Mean over classes, keyed all/head/middle/tail like all below except `priors`.
        auprc: Mean average precision.
        prevalence: The `auprc` of a random ranking.
        priors: Scores by class prior of the test split.
        nll: Mean of -log p of the true class, in nats per sample.
        coverage: Share of samples whose prediction set holds the true class.
        set_size: Mean number of classes in a set.
        retrieval: Mean average precision of test images searched among the training images; None
            where an earlier version measured a seed.
    """

    worst_class_recall: Spread
    g_mean: Spread
    accuracy_disparity: Spread
    relative_accuracy: Spread
    shots: Annotated[dict[str, Spread], keyed("many", "medium", "few")]
    auroc: _Spreads
    auprc: _Spreads
    prevalence: _Spreads
    priors: dict[str, PriorSpreads]
    nll: _Spreads
    coverage: _Spreads
    set_size: _Spreads
    retrieval: Annotated[dict[str, SeedSpread], keyed(*MACRO_KEYS)] | None = None


@final
@dataclass(frozen=True)
class Seconds:
    """Median wall time over seeds: of a method alone, and with all that it builds on."""

    own: Score = None
    total: Score = None


@final
@dataclass(frozen=True, kw_only=True)
class OtherScores:
    """A score beside that by which rows are compared, over all seeds.

    Args:
        scores: Keyed all/head/middle/tail, or all alone for a score of all classes at once.
        difference: Paired difference to the row's `against`, keyed as `scores`; None for that row.
    """

    scores: dict[str, SeedSpread]
    difference: dict[str, MeanDifference] | None = None


@final
@dataclass(frozen=True, kw_only=True)
class TaskScores:
    """What the rows of a task with several decisions for each image are compared by, over seeds.

    Args:
        measure: The score, e.g. `"mean IoU"` over pixels or `"AP50"` of boxes.
        class_measure: The same of one class, e.g. `"IoU"`.
        scores: Mean over classes keyed all/head/middle/tail.
        difference: Paired difference to the row's `against`, keyed as `scores`; None for that row.
        over_ordinary: The same to ordinary fine-tuning, if that is a row.
        ranks: Mean rank over seeds; 1 is best.
        per_class: The score of each class that occurs in any seed.
        validation: The score on validation, mean over seeds, keyed all/head/middle/tail.
        also: Further scores by name, e.g. `"SeK"`.
    """

    measure: str
    class_measure: str
    scores: Annotated[dict[str, SeedSpread], keyed(*MACRO_KEYS)]
    difference: Annotated[dict[str, MeanDifference], keyed(*MACRO_KEYS)] | None = None
    over_ordinary: Annotated[dict[str, MeanDifference], keyed(*MACRO_KEYS)] | None = None
    ranks: Annotated[_Scores, keyed(*MACRO_KEYS)]
    per_class: tuple[ClassSpread, ...] = ()
    validation: _Scores = field(default_factory=dict)
    also: dict[str, OtherScores] = field(default_factory=dict)


@final
@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """One adapter with one probe, over all seeds; fields are None where not measured.

    Args:
        name: Adapter and probe.
        adapter: The method, with what was varied.
        method: Name of the method in recipes.
        probe: The head, with its options.
        changes: Recipe keys that differ from the shared recipe.
        tuned: Those that were tuned on validation.
        leaks: Whether its features use the true label: an upper bound, never a result.
        against: Adapter it is compared with.
        scores: Macro-F1 keyed all/head/middle/tail.
        difference: Paired difference to `against`, keyed as `scores`; None for that row itself.
        over_ordinary: The same to ordinary fine-tuning, if that is a row.
        ranks: Mean rank by macro-F1 over seeds; 1 is best.
        per_class: F1 of each class that occurs in any seed.
        geometry: Mean cosine distances between test features.
        ece: Expected calibration error of all samples and of the tail.
        accuracy: Mean over seeds.
        balanced_accuracy: Mean recall over classes, mean over seeds.
        measures: Further metrics; None in rows of an earlier version.
        task: What rows are compared by where an image has several decisions; None elsewhere.
        purity: Purity of debLoRA's clusters, in (0, 1].
        seconds: Wall time.
        validation: Macro-F1 on validation, keyed all/head/middle/tail.
        peak_memory_mb: Highest of all seeds, in MB.
        trained_parameters: Parameters that received gradients, head included.
        title: Display name, unique among the rows of a probe; not in the file.
        several: Whether the comparison has several probes, so that `label` names the probe; not in
            the file.
    """

    name: str = ""
    adapter: str
    method: str | None = None
    probe: str
    changes: dict[str, Any] = field(default_factory=dict)
    tuned: dict[str, Any] = field(default_factory=dict)
    leaks: bool = False
    against: str | None = None
    scores: Annotated[dict[str, SeedSpread], keyed(*MACRO_KEYS)]
    difference: Annotated[dict[str, MeanDifference], keyed(*MACRO_KEYS)] | None = None
    over_ordinary: Annotated[dict[str, MeanDifference], keyed(*MACRO_KEYS)] | None = None
    ranks: Annotated[_Scores, keyed(*MACRO_KEYS)]
    per_class: tuple[ClassSpread, ...] = ()
    geometry: _Scores | None = None
    ece: Annotated[_Scores, keyed("all", "tail")] | None = None
    accuracy: _Share = None
    balanced_accuracy: _Share = None
    measures: Measures | None = None
    task: TaskScores | None = None
    purity: Score = None
    seconds: Seconds | None = None
    validation: _Scores = field(default_factory=dict)
    peak_memory_mb: Score = None
    trained_parameters: _Count | None = None
    title: str = ""
    several: bool = False

    @property
    def label(self) -> str:
        """Its title, with the probe if there are several."""
        return f"{self.title} with {self.probe}" if self.several else self.title

    @property
    def main(self) -> "ComparisonRow | TaskScores":
        """What rows are compared by: the scores of the task, if it has any, else macro-F1."""
        return self.task or self

    @property
    def told(self) -> str:
        """Changes to the shared recipe that the title does not mention."""
        return ", ".join(
            f"{key} = {value}"
            for key, value in self.changes.items()
            if _told(key, value) not in self.title
        )

    def gain_on(self, scope: str) -> MeanDifference | None:
        """Paired difference to ordinary fine-tuning for a group of classes; None if undefined."""
        over = self.main.over_ordinary
        found = None if over is None else over[scope]
        return found if found is not None and found.mean is not None else None

    def difference_on(self, scope: str) -> MeanDifference | None:
        """Paired difference to the reference row for a group of classes; None if undefined."""
        over = self.main.difference
        found = None if over is None else over[scope]
        return None if found is None or found.mean is None else found


@final
@dataclass(frozen=True)
class Trial:
    """One set of option values that was tried.

    Args:
        number: From 0, which tries the recipe's own values.
        values: By recipe key; empty for trial 0.
        value: Validation score that is maximised; None if the values could not be tried.
        validation: Macro-F1 on validation by group.
        seconds: Wall time, without stages reused from other trials.
        reason: Why the values could not be tried.
    """

    number: _Count
    values: dict[str, Any]
    value: _Share
    validation: _Scores = field(default_factory=dict)
    seconds: Score = None
    reason: str | None = None


@final
@dataclass(frozen=True, kw_only=True)
class TunedRow:
    """All trials of a row.

    Args:
        row: Adapter before tuning.
        adapter: Adapter with the tuned values.
        method: Name of the method in recipes.
        chosen: Number of the best trial.
        values: Values of the best trial by recipe key; empty if the recipe's own were best.
        own: The recipe's own values.
        recipe: File in the comparison folder that `tailora fit --recipe` takes.
        trials: In the order they were run.
    """

    row: str
    adapter: str = ""
    method: str = ""
    chosen: _Count
    values: dict[str, Any]
    own: dict[str, Any]
    recipe: str | None = None
    trials: Annotated[tuple[Trial, ...], Field(min_length=1)]

    def __post_init__(self) -> None:
        if not any(one.number == self.chosen and one.value is not None for one in self.trials):
            raise ValueError(f"no trial {self.chosen} has a score")
        if any(trial.values.keys() - self.own.keys() for trial in self.trials):
            raise ValueError("a trial has other options than the row")


@final
@dataclass(frozen=True, kw_only=True)
class TuningResult:
    """How options were tuned on validation.

    Args:
        by: Group of classes whose macro-F1 was maximised.
        seed: Seed of the trials.
        trials: Trials requested per row.
        space: Search space by recipe key.
        n_val: Number of validation samples.
        classes_without_validation: Number of classes without validation samples.
        rows: Rows that the options affect.
    """

    by: str | None = None
    seed: int | None = None
    trials: int | None = None
    space: dict[str, str] = field(default_factory=dict)
    n_val: _Count | None = None
    classes_without_validation: _Count | None = None
    rows: tuple[TunedRow, ...]


@final
@dataclass(frozen=True)
class ComparedData:
    """The dataset; sizes are one number, or one per seed if each seed drew its own split."""

    name: str | None = None
    notes: tuple[str, ...] | None = None
    n_train: tuple[_Count, ...] | None = None
    n_val: tuple[_Count, ...] | None = None
    n_test: tuple[_Count, ...] | None = None


@final
@dataclass(frozen=True)
class ComparedEncoder:
    """The pretrained encoder that all rows share."""

    name: str | None = None
    source: str | None = None
    license: str | None = None


@final
@dataclass(frozen=True)
class ComparedClass:
    """One class and its number of training samples, mean over seeds."""

    name: str
    n_train: Annotated[float, Field(ge=0, le=1e15)] | None = None


@final
@dataclass(frozen=True, kw_only=True)
class ComparisonResult:
    """A finished comparison: several methods, each with the same probes, over seeds.

    Args:
        complete: Whether all rows are there.
        tailora: Version of tailora that wrote it.
        fingerprints: Fingerprint of the dataset, or one per seed.
        started: When the command that completed it started.
        finished: When it ended.
        versions: Versions of Python and packages.
        git: State of the code.
        machine: Machine that wrote it.
        machines: Kinds of machines that computed rows; wall times compare only within one kind.
        dataset: Name and sizes.
        backbone: The encoder.
        seeds: In order.
        resplit: Whether each seed drew its own split.
        against: Adapter the others are compared with.
        ordinary: Row of ordinary fine-tuning: LoRA with the head it was trained with.
        confidence: Two-sided level of the intervals, in (0, 1).
        replicates: Bootstrap replicates of the test split.
        unit: What was resampled, `"sample"` or `"group"`.
        groups: Class names by group, in the first seed.
        classes: Most frequent first.
        probes: In the order given.
        adapters: In the order given.
        rows: Ordered by probe.
        tuning: How options were tuned; None if they were not.
        recipe: The shared recipe, as TOML.
        path: Its folder, if it was read from one.
    """

    complete: bool = True
    tailora: str | None = None
    fingerprints: tuple[str, ...] = ()
    started: str | None = None
    finished: str | None = None
    versions: dict[str, str | None] | None = None
    git: GitState | None = None
    machine: Machine | None = None
    machines: tuple[Machine, ...] = ()
    dataset: ComparedData = ComparedData()
    backbone: ComparedEncoder = ComparedEncoder()
    seeds: tuple[int, ...] = ()
    resplit: bool = False
    against: str | None = None
    ordinary: str | None = None
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    replicates: _Count | None = None
    unit: str | None = None
    groups: dict[str, list[str]] = field(default_factory=dict)
    classes: Rows[ComparedClass] = field(default_factory=Rows)
    probes: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    rows: Annotated[Rows[ComparisonRow], Field(min_length=1)]
    tuning: TuningResult | None = None
    recipe: str | None = None
    path: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        found = dict.fromkeys(row.probe for row in self.rows)
        object.__setattr__(self, "rows", _titled(self.rows, several=len(found) > 1))
        ordered = dict.fromkeys(probe for probe in self.probes if probe in found)
        object.__setattr__(self, "probes", tuple(ordered | found))

    @property
    def against_title(self) -> str | None:
        """Title of the method the others are compared with."""
        return None if self.against is None else method_title(self.against)

    @property
    def measure(self) -> str:
        """What rows are compared by, as tables and figures name it."""
        task = self.rows[0].task
        return "macro-F1" if task is None else task.measure

    @property
    def class_measure(self) -> str:
        """The same of one class."""
        task = self.rows[0].task
        return "F1" if task is None else task.class_measure

    @cached_property
    def group_of(self) -> dict[str, str]:
        """Group of each class name."""
        return {name: group for group in GROUP_NAMES for name in self.groups.get(group, [])}

    def under(self, probe: str) -> list[ComparisonRow]:
        """Rows with one probe."""
        return [row for row in self.rows if row.probe == probe]

    def to_frame(self, by: str = "row") -> Any:
        """Return a `pandas.DataFrame`.

        Args:
            by: `"row"`, as `rows.to_frame()`; `"class"`, F1 of each class in each row; or `"seed"`,
                macro-F1 of each row in each seed; or the scores of the task, e.g. IoU.

        Raises:
            ConfigError: `by` is unknown, or pandas is not installed.
        """
        if by not in _FRAMES:
            raise unknown_name("table of a comparison", by, _FRAMES)
        return frame(_FRAMES[by](self))

    def table(self) -> Table:
        """Macro-F1 or the score of the task of each row in points, and paired differences."""
        table = Table(caption=escape(_caption(self)))
        table.add_column("method")
        names = [*GROUP_NAMES, "all"]
        if self.against is not None:
            names += [f"{scope} − {self.against_title}" for scope in _COMPARED]
        if self.ordinary is not None:
            names.append("tail − ordinary")
        for name in names:
            table.add_column(escape(name), justify="right")
        for probe in self.probes:
            if len(self.probes) > 1:
                table.add_row(escape(f"probe: {probe}"), style="bold")
            for row in self.under(probe):
                cells = _cells(row, compared=self.against is not None)
                if self.ordinary is not None:
                    cells.append((row.gain_on("tail") or MeanDifference()).text())
                table.add_row(*map(escape, cells))
            table.add_section()
        return table

    def to_json(self) -> dict[str, Any]:
        """The content of comparison.json."""
        entry = plain(asdict(self))
        del entry["path"]
        for row in entry["rows"]:
            del row["title"], row["several"]
        for one in (entry["machine"], *entry["machines"]):
            if one is not None and one["processes"] is None:
                del one["processes"]  # only runs record it
        return {"schema": SCHEMA, "kind": KIND, **entry}

    @classmethod
    def from_json(cls, entry: Any, path: Path = Path("comparison.json")) -> "ComparisonResult":
        """Read what `to_json` returned, also in an earlier version.

        Args:
            entry: The content of comparison.json.
            path: The file, named in errors.

        Raises:
            RunError: The schema differs, or a field is missing or of the wrong type.
        """
        if not isinstance(entry, Mapping) or not isinstance(entry.get("schema"), int):
            raise RunError(
                f"{str(path)!r} is damaged: it has no schema; compare again with --force"
            )
        if entry["schema"] != SCHEMA:
            raise RunError(
                f"{str(path)!r} must have schema {SCHEMA}, got {entry['schema']}; use the "
                "version of tailora that wrote it"
            )
        known = {name: value for name, value in entry.items() if name != "path"}
        return typed(cls, known, path)


def _titled(rows: Sequence[ComparisonRow], *, several: bool) -> Rows[ComparisonRow]:
    seen = Counter((row.adapter, row.probe) for row in rows)
    return Rows(
        replace(
            row,
            # the same adapter may occur twice, with different options
            title=_title(row, rows) if seen[row.adapter, row.probe] == 1 else row.name,
            several=several,
        )
        for row in rows
    )


def _title(row: ComparisonRow, rows: Sequence[ComparisonRow]) -> str:
    """Title of a method, with the changes that not all of its rows share."""
    if row.method is None or not row.changes:
        return method_title(row.adapter)
    others = [other.changes for other in rows if other.method == row.method]
    told = [
        _told(key, value)
        for key, value in row.changes.items()
        if any(other.get(key) != value for other in others)
    ]
    return ", ".join([method_title(row.method), *told])


def _told(key: str, value: Any) -> str:
    return f"{key.rpartition('.')[2]} {value}"


def _cells(row: ComparisonRow, *, compared: bool) -> list[str]:
    name = f"{row.title} ({LEAKS})" if row.leaks else row.title
    changes = [row.difference_on(scope) or MeanDifference() for scope in _COMPARED * compared]
    scores = [row.main.scores[scope].text() for scope in (*GROUP_NAMES, "all")]
    return [name, *scores, *(change.text() for change in changes)]


def _caption(found: ComparisonResult) -> str:
    n_seeds = len(found.seeds)
    if n_seeds > 1:
        text = f"{found.measure} in points, mean ± standard deviation over {n_seeds} seeds"
    else:
        text = f"{found.measure} in points, one seed: the deviation over seeds is unknown"
    if found.ordinary is not None:
        text += f"; ordinary: fine-tuning as usual, {found.ordinary}"
    if found.against is None:
        return text
    text += f"; paired differences with {100 * found.confidence:g} % intervals"
    if n_seeds > 1 and found.resplit:
        return f"{text} from the spread over seeds"
    unit = "whole groups" if found.unit == "group" else "single samples"
    return f"{text}; resampled: {unit}, {integer(found.replicates)} times"


_FRAMES: Final[dict[str, Callable[[ComparisonResult], list[dict[str, Any]]]]] = {
    "row": lambda found: [asdict(row) for row in found.rows],
    "class": lambda found: [
        {"adapter": row.adapter, "probe": row.probe, **asdict(one)}
        for row in found.rows
        for one in row.main.per_class
    ],
    "seed": lambda found: [
        {"adapter": row.adapter, "probe": row.probe, "seed": seed}
        | dict(zip(MACRO_KEYS, scores, strict=True))
        for row in found.rows
        for seed, *scores in zip(
            found.seeds, *(row.main.scores[scope].per_seed for scope in MACRO_KEYS), strict=False
        )
    ],
}
