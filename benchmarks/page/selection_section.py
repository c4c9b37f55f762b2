"""What choosing the images to label gave, beside drawing them."""

from typing import Any

import numpy as np

from benchmarks.page.tables import gain_text, gained, table


def selection(results: dict[str, Any]) -> str:
    """Show images of tail classes and macro-F1 per strategy and budget, paired by split."""
    found = results["selection"]
    rows, better = [], 0
    for data, measured in found["data"].items():
        drawn = {one["budget"]: one for one in measured if one["strategy"] == "random"}
        for one in measured:
            gains = []
            for key in ("tail_f1", "all_f1"):
                gain = np.subtract(one[key], drawn[one["budget"]][key]) * 100
                is_drawn = one["strategy"] == "random"
                better += not is_drawn and gained(gain)[1] > 0
                gains.append("–" if is_drawn else gain_text(gain))
            rows.append(
                (
                    data, str(one["budget"]), one["strategy"],
                    f"{np.mean(one['tail_images']):.1f} of {np.mean(one['expected']):.1f}",
                    f"{np.mean(one['classes']):.1f}",
                    f"{100 * np.mean(one['tail_f1']):.1f}", gains[0],
                    f"{100 * np.mean(one['all_f1']):.1f}", gains[1],
                )
            )  # fmt: skip
    compared = 2 * sum(row[2] != "random" for row in rows)
    return (
        "## What choosing images to label gives\n\nOf the training images some were chosen without "
        "looking at labels (`tailora select`), for margin, badge and objects the first half at "
        "random; a logit-adjusted head learnt their labels. Images of tail classes among them, of "
        "those that a random choice has on average; classes seen; macro-F1 on the test split, and "
        f"its gain over random, paired by split, with 95 % intervals over {found['seeds']} splits; "
        f"features of {found['encoder']}. Of {compared} gains {better} lie above zero with their "
        f"interval; by luck alone {0.025 * compared:.1f} would.\n\n"
        + table(
            ("data", "budget", "strategy", "tail images", "classes", "tail", "gain", "all", "gain"),
            rows,
        )
    )
