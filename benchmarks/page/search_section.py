"""What whitening is worth to a search by example."""

from typing import Any

import numpy as np

from benchmarks.page.tables import gain_text, table


def search_quality(results: dict[str, Any]) -> str:
    """Show average precision by standardised and by whitened cosines, paired by split."""
    found = results.get("search-quality")
    if found is None:
        return ""
    cases = dict.fromkeys((row["data"], row["adapted"]) for row in found["rows"])
    lines = []
    for data, adapted in cases:
        own = [row for row in found["rows"] if (row["data"], row["adapted"]) == (data, adapted)]
        cells = []
        for group in ("tail", "all"):
            plain, white = (
                100 * np.array([row[way][group] for row in own])
                for way in ("standardised", "whitened")
            )
            cells += [f"{plain.mean():.1f}", f"{white.mean():.1f}", gain_text(white - plain)]
        encoder = "adapted" if adapted else "pretrained"
        lines.append((data, encoder, str(len(own)), *cells))
    how = "as pretrained"
    if any(adapted for _, adapted in cases):
        how += " or adapted by `tailora fit` with LoRA"
    head = ("data", "encoder", "splits", "tail: standardised", "whitened", "gain",
            "all: standardised", "whitened", "gain")  # fmt: skip
    return (
        "## What whitening is worth to a search\n\nMean average precision, in points, of the "
        f"training images searched with the mean of {found['examples']} examples of a class from "
        f"the validation split, {found['queries']} queries per class: cosines of standardised "
        f"features, and of features whitened as `tailora search` does. {found['encoder']}, {how}. "
        "Splits that took no part in choosing "
        "the ridge; gains are paired by split, with 95 % intervals.\n\n" + table(head, lines)
    )
