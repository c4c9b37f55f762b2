"""Scores over pixels and the worst windows of a segmentation run, in reports and terminals."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich import table as rich_table

from tailora.class_colours import class_colours, hex_colour
from tailora.counts import GROUP_NAMES
from tailora.metrics import RunMetrics
from tailora.numbers import counted, integer, percent
from tailora.registry import row_title
from tailora.report.blocks import (
    Cell,
    Column,
    Gallery,
    Note,
    Section,
    Table,
    Thumbnail,
    left_out,
)
from tailora.report.ground_section import ground_section
from tailora.report.scene_section import legend_picture
from tailora.report.style import image_uri
from tailora.report.task_tables import class_row, gain_notes, resampled, scored, terminal_table
from tailora.report.window_section import GAP, NO_LABEL, beside, worst_section
from tailora.runs.result import RunResult

_PIXELS: Final = ("pixels", "Pixels")
_WINDOWS: Final = ("windows", "Worst windows of rare classes")
_RATERS: Final = ("raters", "Masks of several raters")
_KEYS: Final = (*GROUP_NAMES, "all")
_OF_OBJECTS: Final = (
    "An object is a connected area of its class, found if more than half of it is called so."
)
_LAST: Final = "Where groups are those of objects, a third of the classes each by training objects."
NO_PANEL: Final = -2
"""In the place of a mask that there is not."""


def pixels_section(run: RunResult) -> Section:
    """Mean IoU of every row, and IoU of each class of the last."""
    found = run.metrics.task or {}
    if "rows" not in found:
        return left_out(*_PIXELS, "metrics.json has no metrics over pixels")
    caption = (
        "Intersection over union (IoU): of the pixels that are or are called a class, the share "
        f"that is both, counted over all {counted(found['images'], 'test image')}. "
        f"{resampled(run.metrics)} Boundary IoU counts only pixels near the edge of a class. "
        f"Groups are by training pixels. {_OF_OBJECTS}"
    )
    tables = [_row_table(found["rows"]), _class_table(run, found)]
    if "by_objects" in found["rows"][-1]:
        tables.append(_object_table(found["rows"]))
        caption = f"{caption} {_LAST}"
    if "raters" in found:
        tables.append(_rater_table(found["raters"]))
    return Section(*_PIXELS, caption, (*_differences(run.metrics), *tables))


def _row_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = (
        Column("row", numeric=False),
        *(Column(f"{key}", "mean IoU of its classes, %") for key in _KEYS),
        Column("boundary, all", "mean boundary IoU, %"),
        Column("objects found", "share of the objects of a class, mean over all classes, %"),
        Column("right pixels", "% of all labelled pixels"),
    )
    cells = tuple(
        (
            Cell(row_title(row["method"], row["head"])),
            *_scores_of(row),
            _score(row, "mean_object_recall", "all"),
            Cell(percent(row["pixel_accuracy"])),
        )
        for row in rows
    )
    return Table(columns, cells, "Mean IoU by group")


def _object_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Mean IoU and objects found over head, middle and tail by training objects."""
    scores = (("mean_iou", "IoU"), ("mean_object_recall", "objects found"))
    columns = (
        Column("row", numeric=False),
        *(
            Column(f"{key}, {what}", "mean over its classes, %")
            for _, what in scores
            for key in GROUP_NAMES
        ),
    )
    cells = tuple(
        (
            Cell(row_title(row["method"], row["head"])),
            *(_score(row["by_objects"], name, key) for name, _ in scores for key in GROUP_NAMES),
        )
        for row in rows
    )
    return Table(columns, cells, "Thirds of the classes by training objects")


def _score(row: Mapping[str, Any], name: str, key: str) -> Cell:
    """A mean with its interval; empty in results of versions that did not have it."""
    return scored(row[name][key], row[f"{name}_interval"][key]) if name in row else Cell("")


def _rater_table(raters: Mapping[str, Any]) -> Table:
    columns = (
        Column("masks", numeric=False),
        Column("agreement", "mean IoU of an image with a rater's mask, mean over images, %"),
        Column("energy distance", "to all raters of an image: 0 if masks are spread as theirs"),
    )
    cells = [
        (
            Cell("of two raters"),
            scored(raters["agreement"], raters["agreement_interval"]),
            Cell("0"),
        )
    ]
    for row in raters["rows"]:
        ends = row["energy_distance_interval"]
        cells.append(
            (
                Cell(f"{row_title(row['method'], row['head'])} and a rater"),
                scored(row["agreement"], row["agreement_interval"]),
                Cell(
                    f"{row['energy_distance']:.3f}",
                    f"[{ends[0]:.3f}, {ends[1]:.3f}]" if ends else "",
                ),
            )
        )
    title = f"{counted(raters['images'], 'test image')} of several raters"
    return Table(columns, tuple(cells), title)


def rater_texts(metrics: RunMetrics) -> list[str]:
    """How far raters agree, and the run with them, in a sentence; none with one rater."""
    raters = (metrics.task or {}).get("raters")
    if raters is None:
        return []
    last = raters["rows"][-1]
    return [
        f"Two raters of an image agree with a mean IoU of {percent(raters['agreement'])} %, "
        f"{row_title(last['method'], last['head'])} with a rater {percent(last['agreement'])} % "
        f"(energy distance {last['energy_distance']:.3f}), over "
        f"{counted(raters['images'], 'image')}."
    ]


def _class_table(run: RunResult, found: Mapping[str, Any]) -> Table:
    last = found["rows"][-1]["per_class"]
    columns = (
        Column("class", numeric=False),
        Column("group", numeric=False),
        Column("training pixels"),
        Column("test pixels"),
        Column("IoU", "%"),
        Column("boundary IoU", "%"),
        Column("objects found", "% of the test objects"),
        Column("test objects"),
        Column("training objects"),
    )
    train = found.get("train_objects")
    rows = [
        (
            *class_row(
                last[c]["name"], run.groups[c], (found["train_pixels"][c], last[c]["test_pixels"]),
                (last[c]["iou"], last[c]["iou_interval"]),
                (last[c]["boundary_iou"], last[c].get("object_recall")),
            ),
            _count(last[c].get("test_objects")),
            _count(train and train[c]),
        )
        for c in run.order
    ]  # fmt: skip
    return Table(columns, tuple(rows), "IoU of each class")


def _count(objects: int | None) -> Cell:
    return Cell("" if objects is None else integer(objects))


def _differences(metrics: RunMetrics) -> list[Note]:
    return gain_notes(metrics, "mean_iou", "Tail mean IoU", group="tail")


def gains(metrics: RunMetrics) -> list[str]:
    """What the run gained in the tail over each other row, in sentences."""
    return [note.text for note in _differences(metrics)]


def iou_table(metrics: RunMetrics) -> rich_table.Table:
    """Mean IoU over head, middle, tail and all, in per cent with intervals, for the terminal."""
    return terminal_table(
        metrics, "mean IoU over pixels in %", (*_KEYS, "boundary, all"), _scores_of
    )


def _scores_of(row: Mapping[str, Any]) -> list[Cell]:
    names = [("mean_iou", key) for key in _KEYS] + [("mean_boundary_iou", "all")]
    return [_score(row, name, key) for name, key in names]


def windows_section(run: RunResult) -> Section:
    """Image, truth, prediction and errors of the windows with most errors of rare classes."""
    caption = (
        "Test images with the most wrong pixels of a tail class, rarest first. From left to right: "
        "image, truth, prediction, errors (orange; white pixels have no label). Colours are those "
        "of maps."
    )
    none = "no pixel of a rare class is wrong"
    texts = caption, "image, truth, prediction and errors", none
    names = run.class_names
    return worst_section(run, _WINDOWS, texts, names, class_colours(names), np.arange(len(names)))


def raters_section(run: RunResult) -> Section | None:
    """What raters drew of the images that they differ most about; None with one rater each."""
    needed = [f"rated_{name}" for name in ("picture", "masks", "said", "id")]
    if not run.has_evidence(*needed):
        return None
    pictures, masks, said, ids = (run.evidence[name] for name in needed)
    draws = (said[:, 1:] > NO_PANEL).any()
    caption = (
        "Test images that raters differ most about. Above: the image and the masks of its raters; "
        f"below: the prediction{' and masks that the model draws' if draws else ''}. White pixels "
        "have no label."
    )
    colours = class_colours(run.class_names)
    items = [
        Thumbnail(
            image_uri(_two_rows(pictures[i], masks[i], said[i], colours), at_most=1024),
            f"masks of the raters of {ids[i]} and of the model",
            (str(ids[i]),),
        )
        for i in range(len(pictures))
    ]
    legend = legend_picture(run.class_names, [hex_colour(one) for one in colours])
    return Section(*_RATERS, caption, (legend, Gallery(tuple(items), wide=True)))


def _two_rows(
    picture: NDArray[np.uint8],
    masks: NDArray[np.integer],
    said: NDArray[np.integer],
    colours: Sequence[tuple[int, int, int]],
) -> NDArray[np.uint8]:
    """The picture and masks of raters above, masks of a model below them."""
    palette = np.array([*colours, NO_LABEL, NO_LABEL], dtype=np.uint8)  # of -1 and -2 the last
    shown = max((masks > NO_PANEL).any(axis=(1, 2)).sum(), (said > NO_PANEL).any(axis=(1, 2)).sum())
    above = beside([picture, *palette[masks[:shown]]])
    below = beside([np.full_like(picture, 255), *palette[said[:shown]]])
    return np.concatenate([above, np.full_like(above[:GAP], 255), below])


def class_ground_section(run: RunResult) -> Section | None:
    """Test images in their places: truth, prediction and errors."""
    classes = run.class_names
    return ground_section(run, classes, class_colours(classes), np.arange(len(classes)))
