"""What leaving out easy or hard training images costs."""

from typing import Any

import numpy as np

from benchmarks.page.tables import gain_text, gained, table

GROUPS = ("head", "middle", "tail", "all")


def _of_training(found: dict[str, Any]) -> str:
    rules = [one["rule"] for measured in found["data"].values() for one in measured]
    if not any("training" in rule for rule in rules):
        return ""
    return "; *in training* and VoG: of LoRA that learns all images first"


def pruning(results: dict[str, Any]) -> str:
    """Show macro-F1 per rule and share left out, and the gain over a random choice, by split."""
    found = results["pruning"]
    rows, compared, better, worse = [], 0, 0, 0
    for data, measured in found["data"].items():
        drawn = {one["dropped"]: one["f1"] for one in measured if one["rule"] == "random"}
        for one in measured:
            gains = ["–", "–"]
            if one["rule"] not in ("random", "all images"):
                for i, group in enumerate(("tail", "all")):
                    gain = np.subtract(one["f1"][group], drawn[one["dropped"]][group]) * 100
                    _, low, high = gained(gain)
                    compared, better, worse = compared + 1, better + (low > 0), worse + (high < 0)
                    gains[i] = gain_text(gain)
            f1 = [f"{100 * np.mean(one['f1'][g]):.1f}" if g in one["f1"] else "–" for g in GROUPS]
            rows.append((data, f"{one['dropped']:.0%}", one["rule"], *f1, *gains))
    return (
        "## What leaving out training images costs\n\nOf the training images a share was left out "
        "by a measure of `tailora curate` (*easy*: the smallest first, *hard*: the largest; "
        f"*within class*: by its deviations within the class{_of_training(found)}), at least "
        f"{found['min_per_class']} of each class stayed, and a logit-adjusted head learnt the "
        "others. Macro-F1 in % on the test split by group of classes, and the gain over leaving "
        "out as many at random, paired by split, with 95 % intervals over "
        f"{found['seeds']} splits; features of {found['encoder']}. Of {compared} gains {better} "
        f"lie above zero with their interval and {worse} below; by luck alone "
        f"{0.025 * compared:.1f} would each.\n\n"
        + table(("data", "left out", "rule", *GROUPS, "tail over random", "all over random"), rows)
    )
