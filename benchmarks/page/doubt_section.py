"""Which band of doubt finds the errors of a map."""

from typing import Any

from benchmarks.page.tables import spread, table


def doubt(results: dict[str, Any]) -> str:
    """Show the AUROC of both bands, and what follows."""
    found = results["map-doubt"]
    rows = [
        (f"`{name}`", f"{one['value']:.3f}", spread(*one["interval"]))
        for name, one in found["auroc"].items()
    ]
    difference, ends = found["difference"]["value"], found["difference"]["interval"]
    if ends[0] > 0 or ends[1] < 0:
        better = list(found["auroc"])[0 if difference > 0 else 1]
        verdict = f"Here `{better}` finds more of them."
    else:
        verdict = "Here neither is shown to find more of them."
    return (
        f"## Doubt about a map\n\nThe land use of {found['scene']} from {found['classes']} classes "
        f"of polygons ({found['encoder']} as it is, windows of {found['chip']} pixels), mapped as "
        f"a whole. At {found['pixels']:,} labelled pixels in {found['blocks']} held-out blocks, "
        f"{found['errors']:.0%} are wrong on the map, and {found['disagreeing']:.0%} get another "
        "class in shifted windows. AUROC says how well a band of `tailora map --doubt` ranks the "
        "wrong above the right; 0.5 is chance. Intervals (95 %) resample blocks.\n\n"
        + table(("band", "AUROC", "interval"), rows)
        + f"\nDifference of the first to the second: {difference:.3f} ({spread(*ends)}). "
        + f"{verdict}\n"
    )
