"""All methods of a run on one test split: what metrics.json holds and the table that is printed."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, final

from pydantic import BeforeValidator
from rich.markup import escape
from rich.table import Table

from tailora.counts import GROUP_NAMES, ClassCounts
from tailora.errors import RunError, unknown_name
from tailora.frames import frame
from tailora.metrics.collapse_alarm import alarm_text, collapse_alarm
from tailora.metrics.group_f1 import MACRO_KEYS
from tailora.metrics.label_value import LabelCurves
from tailora.metrics.method_metrics import (
    Interval,
    Intervals,
    MethodMetrics,
    Score,
    Scores,
    plain,
)
from tailora.registry import row_name
from tailora.storage import keyed, typed

SCHEMA: Final = 2
NO_INTERVAL: Final = "no intervals: the test split is a single group"
READ_SCHEMAS: Final = (
    1,
    2,
)  # All methods of a run on one test split: the content of metrics.json and the printed table.


@final
@dataclass(frozen=True)
class BootstrapInfo:
    """Settings of the intervals.

    Args:
        replicates: Number of bootstrap resamples.
        confidence: Confidence level, in (0, 1).
        unit: What was resampled: single samples within their class, or whole groups.
    """

    replicates: int
    confidence: float
    unit: Literal["sample", "group"]


@final
@dataclass(frozen=True)
class PairedDifference:
    """Macro-F1 of `method` minus `against` on the same resamples, keyed all/head/middle/tail.

    `head` and `against_head` name their heads; None in files of earlier versions.
    """

    method: str
    against: str
    macro_f1_difference: Scores
    interval: Intervals
    head: str | None = None
    against_head: str | None = None

    @property
    def rows(self) -> tuple[tuple[str, str | None], tuple[str, str | None]]:
        """The two rows compared, as `MethodMetrics.row` gives them."""
        return (self.method, self.head), (self.against, self.against_head)


@final
@dataclass(frozen=True)
class ClusterSummary:
    """debLoRA's clusters.

    Args:
        count: Number of clusters, K.
        balance: rho, at least 1; infinite without a size constraint (null in JSON).
        purity: Share of training samples in the majority class of their cluster.
        sizes: Samples of each cluster.
    """

    count: int
    balance: Annotated[float, BeforeValidator(lambda value: math.inf if value is None else value)]
    purity: float
    sizes: tuple[int, ...]


@final
@dataclass(frozen=True)
class RunMetrics:
    """All metrics of a run.

    Args:
        groups: Class names by group.
        classes: Class names in index order.
        bootstrap: Settings of the intervals.
        methods: In display order.
        paired: Differences between methods.
        clusters: None without debLoRA.
        label_value: The value of more labels of rare classes; None if turned off.
        left_out: Images that were not evaluated because the run was not trained on their class, by
            class.
        learnt_from: Number of images that were not evaluated because they were used for training or
            validation, or are chips that share ground with those; None if unknown.
        task: Name of the task and its additional metrics; None if there are none.
    """

    groups: Annotated[dict[str, list[str]], keyed(*GROUP_NAMES)]
    classes: tuple[str, ...]
    bootstrap: BootstrapInfo
    methods: tuple[MethodMetrics, ...]
    paired: tuple[PairedDifference, ...]
    clusters: ClusterSummary | None = None
    label_value: LabelCurves | None = None
    left_out: dict[str, int] | None = None
    learnt_from: int | None = None
    task: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the content of metrics.json: null if undefined, never NaN or infinity."""
        entry = plain(asdict(replace(self, methods=(), label_value=None)))
        entry["methods"] = [method.to_json() for method in self.methods]
        if self.label_value is not None:
            entry["label_value"] = self.label_value.to_json()
        if self.clusters is not None and math.isinf(self.clusters.balance):
            entry["clusters"]["balance"] = None
        if self.task is None:
            del entry["task"]
        return {"schema": SCHEMA, **entry}

    @classmethod
    def from_json(cls, entry: Any, path: Path = Path("metrics.json")) -> "RunMetrics":
        """Read the output of `to_json`, also of an earlier version.

        Args:
            entry: The content of metrics.json.
            path: The file, for the error.

        Raises:
            RunError: Another schema, or something is missing or of the wrong type.
        """
        if not isinstance(entry, Mapping) or not isinstance(entry.get("schema"), int):
            raise RunError(f"{str(path)!r} is damaged: it has no schema; evaluate the run again")
        if entry["schema"] not in READ_SCHEMAS:
            known = " or ".join(map(str, READ_SCHEMAS))
            raise RunError(
                f"{str(path)!r} must have schema {known}, got {entry['schema']!r}; evaluate the "
                "run again with this version"
            )
        try:
            found = typed(cls, entry, path)
        except RunError as error:
            raise RunError(f"{error}; evaluate the run again") from error
        _check_lengths(found, path)
        return found

    @property
    def has_intervals(self) -> bool:
        """Whether any score has an interval; none has if the test split is a single group."""
        return any(ends for one in self.methods for ends in one.macro_f1_interval.values())

    @property
    def counted_in(self) -> tuple[str, str]:
        """What the training and the test counts of a class are, e.g. pixels and tokens."""
        task = self.task or {}
        if "train_pixels" in task:
            return "pixels", "tokens"
        return ("objects", "objects") if "train_objects" in task else ("samples", "samples")

    def alarm(self) -> str:
        """Return a sentence on the classes that the last method never or hardly predicts."""
        last = self.methods[-1]
        counts = ClassCounts(self.classes, tuple(row.n_train for row in last.per_class))
        return alarm_text(collapse_alarm(last.confusion, counts))

    def to_frame(self, by: str = "class") -> Any:
        """Return a `pandas.DataFrame`; undefined values are missing.

        Args:
            by: `"class"`, a row per method and class; `"group"`, a row per method and
                all/head/middle/tail; `"method"`; or `"pair"`, the difference between two methods
                per group.

        Raises:
            ConfigError: Another value, or pandas is not installed.
        """
        if by not in _FRAMES:
            raise unknown_name("table of metrics", by, _FRAMES)
        return frame(_FRAMES[by](self))

    def table(self) -> Table:
        """Return a table of macro-F1 on head, middle, tail and all, in points with intervals."""
        scored = (self.task or {}).get("scored")
        table = Table(caption=_caption(self, scored))
        table.add_column("method")
        columns = (*GROUP_NAMES, "all")
        for name in columns:
            table.add_column(name, justify="right")
        for method in self.methods:
            cells = [_points(method.macro_f1[k], method.macro_f1_interval[k]) for k in columns]
            table.add_row(row_name(method.method, method.head), *cells)
        return table


def _check_lengths(metrics: RunMetrics, path: Path) -> None:
    count = len(metrics.classes)
    for method in metrics.methods:
        lists = [method.per_class, method.confusion, *method.confusion]
        if method.coverage is not None:
            lists += [method.coverage.by_class, method.coverage.size_by_class]
        if any(len(one) != count for one in lists):
            raise RunError(
                f"{str(path)!r} is damaged: {method.method!r} does not have all of its {count} "
                "classes; evaluate the run again"
            )


Records = Iterator[dict[str, Any]]


def _named(method: MethodMetrics) -> dict[str, Any]:
    return {"method": method.method, "head": method.head}


def _ends(name: str, ends: Interval) -> dict[str, Score]:
    low, high = (None, None) if ends is None else ends
    return {f"{name}_low": low, f"{name}_high": high}


def _by_class(metrics: RunMetrics) -> Records:
    group_of = {name: group for group, names in metrics.groups.items() for name in names}
    for method in metrics.methods:
        for row in method.per_class:
            facts = _named(method) | {"group": group_of[row.name], **vars(row)}
            yield facts | _ends("f1", facts.pop("f1_interval"))


def _by_group(metrics: RunMetrics) -> Records:
    for method in metrics.methods:
        for scope in MACRO_KEYS:
            facts = _named(method) | {"group": scope, "macro_f1": method.macro_f1[scope]}
            facts |= _ends("macro_f1", method.macro_f1_interval[scope])
            facts["ece"] = method.ece_by_group[scope]
            if method.ranking is not None:
                facts |= vars(method.ranking[scope])
            if method.coverage is not None:
                facts["coverage"] = method.coverage.by_group[scope]
                facts["set_size"] = method.coverage.size_by_group[scope]
            yield facts


def _by_method(metrics: RunMetrics) -> Records:
    for method in metrics.methods:
        yield _named(method) | {
            name: value
            for name, value in vars(method).items()
            if value is None or isinstance(value, str | int | float)
        }


def _by_pair(metrics: RunMetrics) -> Records:
    for pair in metrics.paired:
        for scope in MACRO_KEYS:
            facts = {"method": pair.method, "head": pair.head, "against": pair.against}
            facts |= {"against_head": pair.against_head, "group": scope}
            change = {"difference": pair.macro_f1_difference[scope]}
            yield facts | change | _ends("difference", pair.interval[scope])


_FRAMES: Final[dict[str, Callable[[RunMetrics], Records]]] = {
    "class": _by_class, "group": _by_group, "method": _by_method, "pair": _by_pair,
}  # fmt: skip


def _caption(metrics: RunMetrics, scored: str | None) -> str:
    bootstrap, head = metrics.bootstrap, metrics.methods[-1].head
    unit = "single samples within each class" if bootstrap.unit == "sample" else "whole groups"
    certain = metrics.has_intervals
    ends = f" \\[{100 * bootstrap.confidence:g} % interval]" if certain else ""
    resampled = f"bootstrap of {unit}, {bootstrap.replicates} resamples"
    return (
        f"macro-F1 in points{ends}, "
        f"{'' if head is None else f'probe {escape(head)}, '}"
        f"{resampled if certain else NO_INTERVAL}"
        f"{f'; of {scored}' if scored else ''}"
    )


def _points(value: Score, ends: Interval) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f}{f' [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]' if ends else ''}"
