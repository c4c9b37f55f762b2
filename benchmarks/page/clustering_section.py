"""Memory of size-constrained K-means, and its search beside others."""

import statistics
from typing import Any

from benchmarks.page.tables import table


def clustering_memory(results: dict[str, Any]) -> str:
    """Show what clustering a mapped file holds at its peak."""
    found = results["clustering-memory"]
    rows = [
        (
            f"{found['samples']:,} x {found['features']}", f"{found['size_mb']:,.0f}",
            f"{row['clusters']}", f"{row['own_mb']:,.0f}", f"{row['file_mb']:,.0f}",
            f"{row['imports_mb']:,.0f}", f"{row['all_mb'] + row['imports_mb']:,.0f}",
            f"{row['seconds']:.0f}",
        )
        for row in found["rows"]
    ]  # fmt: skip
    head = ("samples", "file, MB", "K", "own memory, MB", "pages of the file, MB", "imports, MB",
            "all, MB", "seconds")  # fmt: skip
    return (
        "## Memory of size-constrained K-means\n\nPeaks in a process that maps a file of float32 "
        f"samples and clusters it, k-means++ and {found['iterations']} iterations. Pages of the "
        "file count as long as nobody else needs the memory. The goal is 2 GB for a million "
        "samples of 384 features.\n\n" + table(head, rows)
    )


def nearest(results: dict[str, Any]) -> str:
    """Show the time of other searches over NumPy's."""
    cases = results["nearest"]["results"]
    names = list(cases[0]["ratio_to_numpy"])
    rows = [
        (
            f"{case['samples']:,} x {case['features']}", f"{case['clusters']}",
            f"{1000 * statistics.median(case['seconds']['NumPy']):.1f}",
            *(f"{case['ratio_to_numpy'][name]:.2f}" for name in names[1:]),
        )
        for case in cases
    ]  # fmt: skip
    return (
        "## Search for the two nearest centres\n\nOne search of all samples by NumPy, as "
        "size-constrained K-means does by default (float32), and the time of others over its.\n\n"
        + table(("samples", "K", "NumPy, ms", *names[1:]), rows)
    )
