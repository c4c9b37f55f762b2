"""Growth in samples, features, clusters and classes."""

from typing import Any, Final

from benchmarks.page.tables import counted, short, table

AXES: Final = {"samples": "N", "features": "d", "clusters": "K", "classes": "C"}
STAGES: Final = {
    "clustering": "size-constrained K-means, {iterations_of_clustering} iterations",
    "calibration": "`calibrate`, clustering to its end included",
    "probe": "linear probe, one penalty",
    "evaluation": "all metrics, {replicates_of_evaluation:,} resamples",
}


def growth(results: dict[str, Any]) -> str:
    """Show time and memory of every size, and what was not run."""
    found = results["growth"]
    base = ", ".join(f"{AXES[name]} = {value:,}" for name, value in found["base"].items())
    stages = "; ".join(f"{name}: {text.format(**found)}" for name, text in STAGES.items())
    parts = [
        "## Growth\n\nGenerated features; one size grows at a time from "
        f"{base}. Every size ran in a process of its own on {counted(found['cores'], 'core')}. "
        f"{stages}. A "
        "cell: median seconds, and the memory in MB that the stage itself needed at its peak, "
        f"beyond imports and input. A run may take {found['limit_seconds']:g} s; a dash with a "
        "note was not run for longer.\n\n"
        "![Seconds over each size](images/growth-time.svg)\n\n"
        "![Peak memory over each size](images/growth-memory.svg)\n"
    ]
    parts += [_axis(found["rows"], axis) for axis in AXES]
    skipped = [row for row in found["rows"] if "skipped" in row]
    notes = [
        f"- {r['stage']}, {AXES[r['axis']]} = {r[r['axis']]:,}: {r['skipped']}" for r in skipped
    ]
    if notes:
        parts.append("Not measured:\n\n" + "\n".join(notes) + "\n")
    return "\n".join(parts)


def _axis(rows: list[dict[str, Any]], axis: str) -> str:
    along = [row for row in rows if row["axis"] == axis]
    stages = [stage for stage in STAGES if any(row["stage"] == stage for row in along)]
    cells = {(row["stage"], row[axis]): _cell(row) for row in along}
    sizes = sorted({row[axis] for row in along})
    lines = [(f"{n:,}", *(cells.get((stage, n), "–") for stage in stages)) for n in sizes]
    return table((f"{axis}, {AXES[axis]}", *stages), lines)


def _cell(row: dict[str, Any]) -> str:
    if "skipped" in row:
        return "–"
    return f"{short(row['median_seconds'])} s, {short(own_memory(row))} MB"


def own_memory(row: dict[str, Any]) -> float:
    """MB that a stage needed itself."""
    return max(row["peak_memory_mb"] - row["memory_before_mb"], 0.0)
