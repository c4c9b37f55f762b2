"""Tables of very many images and lists of very many classes."""

from typing import Any

from benchmarks.page.tables import short, table


def large_inputs(results: dict[str, Any]) -> str:
    """Show seconds, memory, and how time grows with rows and with classes."""
    if "large-inputs" not in results:
        return ""
    found = results["large-inputs"]
    rows = []
    for one in found["things"]:
        full = one["full"]
        own = max(full["peak_memory_mb"] - full["memory_before_mb"], 0.0)
        rows.append((
            one["thing"], short(full["seconds"]), short(own), short(full["peak_memory_mb"]),
            *(_growth(full, one.get(size)) for size in ("fewer_rows", "fewer_classes")),
        ))  # fmt: skip
    more = found["fewer"]
    head = ("", "seconds", "own memory, MB", "peak, MB", f"time, {more} times the rows",
            f"time, {more} times the classes")  # fmt: skip
    return (
        "## Large inputs\n\n"
        f"{found['rows']:,} images in a table and {found['classes']:,} classes; metrics are of "
        f"{found['tested']:,} test images, with {found['replicates']:,} resamples. The images are "
        "PNGs of 8 x 8 random pixels, all different; a class is spelt in two ways; groups hold "
        f"{found['images_per_group']} images; features have {found['features']} dimensions, and "
        f"there are {found['clusters']} clusters. Own memory is what a thing needed at its peak "
        "beyond imports and input, the peak that of the whole process. The last two columns are "
        f"the time over that with a {_part(more)} of the rows, or of the classes: {more} is linear "
        f"growth, {more**2} quadratic; a dash was not measured. Scores are rows x classes, and a "
        "confusion matrix classes x classes, so what reads or writes these grows with them.\n\n"
        + table(head, rows)
    )


def _part(fewer: int) -> str:
    return "tenth" if fewer == 10 else f"{fewer}th part"


def _growth(full: dict[str, Any], small: dict[str, Any] | None) -> str:
    return "–" if small is None else f"{short(full['seconds'] / small['seconds'])} x"
