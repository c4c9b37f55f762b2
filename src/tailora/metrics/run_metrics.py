"""All methods of a run on one test split: what metrics.json holds and the table that is printed."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, final

from rich.table import Table

from tailora.counts import GROUP_NAMES, ClassCounts
from tailora.errors import RunError
from tailora.metrics.collapse_alarm import alarm_text, collapse_alarm
from tailora.metrics.method_metrics import (
    Interval,
    MethodMetrics,
    Score,
    intervals_from_json,
    plain,
)
from tailora.metrics.metric_parts import MetricParts
from tailora.storage import typed

SCHEMA: Final = 2
READ_SCHEMAS: Final = (1, 2)  # 1 lacks fields, which are None then; nothing it has has changed


@final
@dataclass(frozen=True)
class BootstrapInfo:
    """How the intervals were made.

    Args:
        replicates: Resampled tests.
        confidence: Two-sided level, in (0, 1).
        unit: What was resampled: single samples within their class, or whole groups.
    """

    replicates: int
    confidence: float
    unit: Literal["sample", "group"]


@final
@dataclass(frozen=True)
class PairedDifference:
    """Macro-F1 of `method` minus `against` on the same resamples, keyed all/head/middle/tail."""

    method: str
    against: str
    macro_f1_difference: dict[str, Score]
    interval: dict[str, Interval]


@final
@dataclass(frozen=True)
class ClusterSummary:
    """The clusters debLoRA was built on.

    Args:
        count: Clusters, K.
        balance: rho, at least 1; infinite without a size constraint (null in JSON).
        purity: Share of training samples in the majority class of their cluster.
        sizes: Samples of each cluster.
    """

    count: int
    balance: float
    purity: float
    sizes: tuple[int, ...]


@final
@dataclass(frozen=True)
class RunMetrics:
    """Every number of a run.

    Args:
        groups: Class names by group.
        classes: Class names in index order.
        bootstrap: How the intervals were made.
        methods: In the order they are to be shown.
        paired: Differences between methods.
        clusters: None without debLoRA.
        label_value: What more labels of rare classes would buy; None where it was not asked.
        left_out: Images that were not measured because the run does not know their class, by class.
        learnt_from: How many were not measured because the run has learnt from them, or chosen by
            them, or are chips that share ground with those; None where that is not known.
        task: Name of the task and what it measures beside its rows; None where that is nothing.
    """

    groups: dict[str, list[str]]
    classes: tuple[str, ...]
    bootstrap: BootstrapInfo
    methods: tuple[MethodMetrics, ...]
    paired: tuple[PairedDifference, ...]
    clusters: ClusterSummary | None = None
    label_value: dict[str, Any] | None = None
    left_out: dict[str, int] | None = None
    learnt_from: int | None = None
    task: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The content of metrics.json: null where undefined, never NaN or infinity."""
        entry = plain(asdict(replace(self, methods=())))
        entry["methods"] = [method.to_json() for method in self.methods]
        if self.clusters is not None and math.isinf(self.clusters.balance):
            entry["clusters"]["balance"] = None
        if self.task is None:
            del entry["task"]
        return {"schema": SCHEMA, **entry}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "RunMetrics":
        """Read what `to_json` wrote.

        Raises:
            RunError: Another schema, or an entry that is missing or unknown.
        """
        if not isinstance(entry, Mapping) or not isinstance(entry.get("schema"), int):
            raise RunError("metrics.json is damaged: it says no schema; evaluate the run again")
        if entry.get("schema") not in READ_SCHEMAS:
            known = " or ".join(map(str, READ_SCHEMAS))
            raise RunError(
                f"metrics.json must have schema {known}, got {entry.get('schema')!r}; "
                "evaluate the run again with this version"
            )
        try:
            found = cls(
                groups=dict(entry["groups"]),
                classes=tuple(entry["classes"]),
                bootstrap=BootstrapInfo(**entry["bootstrap"]),
                methods=tuple(MethodMetrics.from_json(row) for row in entry["methods"]),
                paired=tuple(_paired_from_json(row) for row in entry["paired"]),
                clusters=_clusters_from_json(entry["clusters"]),
                label_value=entry.get("label_value"),
                left_out=entry.get("left_out"),
                learnt_from=entry.get("learnt_from"),
                task=entry.get("task"),
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise RunError(
                f"metrics.json is incomplete ({error}); evaluate the run again"
            ) from error
        file = Path("metrics.json")
        checked = typed(cls, asdict(found), file)
        _check_lengths(checked, typed(MetricParts, asdict(found), file))
        return checked

    def alarm(self) -> str:
        """One sentence on the classes that the last method has given up; empty if all is well."""
        last = self.methods[-1]
        counts = ClassCounts(self.classes, tuple(row.n_train for row in last.per_class))
        return alarm_text(collapse_alarm(last.confusion, counts))

    def table(self) -> Table:
        """Macro-F1 of each method on head, middle, tail and all, in points with intervals."""
        table = Table(caption=_caption(self.bootstrap))
        table.add_column("method")
        columns = (*GROUP_NAMES, "all")
        for name in columns:
            table.add_column(name, justify="right")
        for method in self.methods:
            cells = [_points(method.macro_f1[k], method.macro_f1_interval[k]) for k in columns]
            table.add_row(method.method, *cells)
        return table


def _check_lengths(metrics: RunMetrics, parts: MetricParts) -> None:
    count = len(metrics.classes)
    for method, more in zip(metrics.methods, parts.methods, strict=True):
        lists = [method.per_class, method.confusion, *method.confusion]
        if more.coverage is not None:
            lists += [more.coverage.by_class, more.coverage.size_by_class]
        if any(len(one) != count for one in lists):
            raise RunError(
                f"metrics.json is damaged: {method.method!r} has not each of its {count} classes; "
                "evaluate the run again"
            )


def _caption(bootstrap: BootstrapInfo) -> str:
    unit = "single samples within each class" if bootstrap.unit == "sample" else "whole groups"
    return (
        f"macro-F1 in points \\[{100 * bootstrap.confidence:g} % interval], "
        f"bootstrap of {unit}, {bootstrap.replicates} resamples"
    )


def _points(value: Score, ends: Interval) -> str:
    if value is None or ends is None:
        return "–"
    return f"{100 * value:.1f} \\[{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"


def _paired_from_json(row: Mapping[str, Any]) -> PairedDifference:
    return PairedDifference(**{**row, "interval": intervals_from_json(row["interval"])})


def _clusters_from_json(entry: Mapping[str, Any] | None) -> ClusterSummary | None:
    if entry is None:
        return None
    balance = math.inf if entry["balance"] is None else entry["balance"]
    return ClusterSummary(**{**entry, "balance": balance, "sizes": tuple(entry["sizes"])})
