"""Near duplicates and searches in large collections."""

from typing import Any, Final

from benchmarks.page.run_sections import QUIET
from benchmarks.page.tables import spread, table

GOALS: Final = {"duplicates": 10.0, "search": 2.0}
"""Seconds on two cores."""


def collections(results: dict[str, Any]) -> str:
    """Show seconds beside their goals, and what of planted copies was found."""
    copies, search = results["duplicates"], results["search"]
    width = f"{copies['samples']:,} x {copies['features']}"
    rows = [
        (f"near duplicates, {width}, variances {row['variances']}", *_seconds(row, "duplicates"))
        for row in copies["rows"]
    ]
    rows.append(
        (
            f"second search, {search['windows']:,} windows x {search['features']}",
            *_seconds(search, "search"),
        )
    )
    found = " and ".join(f"{row['found']:,} ({row['wrong']} wrong)" for row in copies["rows"])
    most = max(row["peak_memory_mb"] - row["memory_before_mb"] for row in copies["rows"])
    return (
        "## Duplicates and searches in large collections\n\nFeatures of images are drawn, with "
        "variances that fall along their axes as those of an encoder do, or equal ones, where "
        f"hardly a pair can be left out. Of {copies['copies']:,} planted copies {found} were "
        f"found; memory rose by {most:,.0f} MB over features of "
        f"{copies['rows'][0]['features_mb']:,.0f} MB. The search goes through the kept features "
        f"of windows of a scene of {search['side']:,} x {search['side']:,} pixels, without loading "
        f"the encoder or reading images.{_load(copies, search)}\n\n"
        + table(("what", "seconds", "range", "of all processors", "goal"), rows)
    )


def _seconds(row: dict[str, Any], what: str) -> tuple[str, str, str, str]:
    ends = min(row["seconds"]), max(row["seconds"])
    return (
        f"{row['median_seconds']:.1f}", spread(*ends), f"{row['median_processor_seconds']:.1f}",
        f"under {GOALS[what]:.0f}",
    )  # fmt: skip


def _load(*results: dict[str, Any]) -> str:
    machine = max((one["machine"] for one in results), key=lambda one: one["load_average_at_start"])
    if machine["load_average_at_start"] < QUIET:
        return ""
    return (
        f" Other jobs ran on the machine (a load of {machine['load_average_at_start']:.1f} on "
        f"{machine['cores']} cores), so that seconds are too many: those of all processors, summed "
        "over threads, are nearer to what the work itself takes."
    )
