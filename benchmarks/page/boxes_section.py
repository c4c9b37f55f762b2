"""Oriented boxes against shapely's polygons, and an epoch of a detector against a bare loop."""

from typing import Any

from benchmarks.page.tables import spread, table


def boxes(results: dict[str, Any]) -> str:
    """Show how many times as fast both are, and that they agree."""
    found = results["boxes"]
    rows = []
    for row in found["rows"]:
        for what in ("overlap", "suppression"):
            one = row[what]
            rows.append(
                (
                    row["scene"], what, f"{row['pairs']:,}",
                    f"{1000 * one['median_seconds']['ours']:.1f} ms",
                    f"{one['speed_ratio']:.1f}", spread(*one["speed_ratio_range"]),
                )
            )  # fmt: skip
    apart = max(row["largest_difference"] for row in found["rows"])
    same = all(row["same_kept"] for row in found["rows"])
    return (
        f"## Oriented boxes\n\n{found['boxes']:,} boxes of 10 to 60 pixels: IoU of all pairs, and "
        f"suppression above an IoU of {found['overlap']:g}, against the same by shapely's polygons "
        "and tree, all pairs at once. In `crowded` twenty boxes lie around each object, as a "
        "detector gives them. A ratio is shapely's seconds over ours, the median over turns; above "
        "1 ours is faster.\n\n"
        + table(("scene", "what", "pairs that overlap", "ours", "ratio", "range"), rows)
        + f"\nIoU differ by at most {apart:.0e}; "
        + ("both keep the same boxes.\n" if same else "they keep different boxes.\n")
    )


def detector(results: dict[str, Any]) -> str:
    """Show what training a detector costs beside a bare loop."""
    found = results["detection"]
    one = found["epoch"]
    return (
        f"## Training a detector\n\nAn epoch on {found['images']} drawn images of "
        f"{found['image_size']} pixels in batches of {found['batch_size']}: {found['encoder']} "
        f"with a LoRA of rank {found['rank']}, the detector and a head, against a bare loop of the "
        "same model with everything in memory and without augmentation. Ratio of the bare loop's "
        "seconds to ours, median over turns; the goal is 0.95.\n\n"
        + table(
            ("bare loop", "tailora", "ratio", "range"),
            [
                (
                    *(f"{one['median_seconds'][name]:.2f} s" for name in ("bare", "ours")),
                    f"{one['speed_ratio']:.2f}", spread(*one["speed_ratio_range"]),
                )
            ],
        )
    )  # fmt: skip
