"""What sessions of labelling showed, and what their labels were worth."""

from typing import Any, Final

import numpy as np

from benchmarks.page.tables import gain_text, table

TIMES: Final = 5.0  # prevalence, that rare classes should be shown
WAYS: Final = ("random", "session", "session with examples")


def labelling(results: dict[str, Any]) -> str:
    """Show images of rare classes, macro-F1 paired with random by seed, and seconds."""
    found = results["labelling"]
    rows, reached, compared = [], 0, 0
    for data, one in found["data"].items():
        by = {way: [row for row in one["rows"] if row["way"] == way] for way in WAYS}
        drawn = np.array([row["tail_f1"] for row in by["random"]])
        for way in WAYS:
            tail = np.array([row["tail_f1"] for row in by[way]])
            for i, mark in enumerate(one["marks"]):
                times = [row["rare"][i] / mark / row["prevalence"] for row in by[way]]
                rows.append(
                    (
                        data, str(mark), way,
                        f"{np.mean([row['rare'][i] for row in by[way]]):.1f}",
                        f"{np.mean(times):.1f}",
                        f"{np.mean([row['classes'][i] for row in by[way]]):.1f}",
                        f"{100 * tail[:, i].mean():.1f}",
                        "–" if way == "random" else gain_text(100 * (tail - drawn)[:, i]),
                        f"{100 * np.mean([row['all_f1'][i] for row in by[way]]):.1f}",
                    )
                )  # fmt: skip
            if way != "random":
                compared += 1
                reached += float(rows[-1][4]) >= TIMES
    return (
        "## What labelling in sessions gives\n\nKnown labels answered for a person (`tailora "
        "label`), without examples or with one of each rare class from another split; a share of "
        "0.15 was drawn at random. The pool of a seed is a part of the training images. Rare "
        "images shown, and how many times their share of the pool; classes seen; macro-F1 on the "
        "test split of a logit-adjusted head on the labels, and the gain over as many random "
        f"labels, paired by seed, with 95 % intervals over {found['seeds']} seeds; features of "
        f"{found['encoder']}, which know nothing of the data. The goal after the last mark, "
        f"{TIMES:.0f} times, is reached in {reached} of {compared} cases; {_half(found)}"
        f"{_most(found)}\n\n"
        + table(
            ("data", "labels", "way", "rare", "times", "classes", "rare F1", "gain", "all F1"),
            rows,
        )
        + "\n"
        + _speed(found["speed"])
    )


def _half(found: dict[str, Any]) -> str:
    """Say where half the labels of a session gave rare F1 that all the random ones gave."""
    good = []
    for data, one in found["data"].items():
        half = one["marks"].index(one["marks"][-1] // 2)
        mean = {
            way: np.mean([row["tail_f1"] for row in one["rows"] if row["way"] == way], axis=0)
            for way in WAYS
        }
        good += [f"{data} ({way})" for way in WAYS[1:] if mean[way][half] >= mean["random"][-1]]
    where = ", ".join(good) if good else "no data"
    return f"half the labels gave the rare F1 of all random ones on {where}."


def _most(found: dict[str, Any]) -> str:
    """Say what a head with many labels could show with these features."""
    parts = [
        f"{np.mean(one['by_a_head_of_validation']['times']):.1f} times on {data} (a head of "
        f"{one['by_a_head_of_validation']['labels']} labels)"
        for data, one in found["data"].items()
        if "by_a_head_of_validation" in one
    ]
    if not parts:
        return ""
    return (
        " What these features can show at all: the first images in the order of a head that has "
        f"learnt the whole validation split hold rare ones {' and '.join(parts)}."
    )


def _speed(speed: dict[str, Any]) -> str:
    answer, page = speed["answer_ms"], speed["page_ms"]
    return (
        f"A session of {speed['chips']:,} chips whose features are kept was open with its first "
        f"page {speed['start_seconds']:.1f} s after the start of Python (the goal is 5). An answer "
        f"was on the disk after {answer['median']:.1f} ms, at most {answer['most']:.0f}, and the "
        f"next page chosen after {page['median']:.0f} ms, at most {page['most']:.0f} (the goal is "
        "50), while heads were fitted in the background.\n"
    )
