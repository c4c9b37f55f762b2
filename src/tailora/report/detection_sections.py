"""Average precision and pictures with boxes of a detection run, in reports and terminals."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rich import table as rich_table

from tailora.class_colours import class_colours, hex_colour
from tailora.counts import GROUP_NAMES
from tailora.metrics import RunMetrics
from tailora.numbers import counted, percent
from tailora.registry import row_name, row_title
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
from tailora.report.scene_section import legend_picture
from tailora.report.style import image_uri
from tailora.report.task_tables import class_row, gain_notes, resampled, scored, terminal_table
from tailora.runs.result import RunResult

_OBJECTS: Final = ("objects", "Objects")
_PICTURES: Final = ("found", "Objects in test images")
_KEYS: Final = (*GROUP_NAMES, "all")
_MEASURES: Final = (("ap50", "AP50"), ("ap75", "AP75"), ("map", "AP50:95"))
_GAP: Final = 4  # white pixels between panels
_LINE: Final = 1 / 60  # width of a box's outline, of the longer side of a picture
_LARGEST: Final = 1024  # pixels along the longer side of a strip


def objects_section(run: RunResult) -> Section:
    """Average precision of every row by group, and of each class of the last."""
    found = run.metrics.task or {}
    if "rows" not in found:
        return left_out(*_OBJECTS, "metrics.json has no average precision")
    caption = (
        "Average precision (AP): a detection is right if its oriented box overlaps an object of "
        "its class by more than 50 % (AP50) or 75 % (AP75); AP50:95 averages ten overlaps. "
        f"{resampled(run.metrics)} Groups are by training objects; difficult objects do not "
        "count. The AP of a class with few test objects can take few values."
    )
    tables = _row_table(found["rows"]), _class_table(run, found)
    return Section(*_OBJECTS, caption, (*_differences(run.metrics), *tables))


def _row_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = (
        Column("row", numeric=False),
        *(Column(f"AP50 {key}", "mean over its classes, %") for key in _KEYS),
        *(Column(f"{title} all", "%") for _, title in _MEASURES[1:]),
        Column("AP50, VOC 2007", "at eleven recalls, as in tables on DOTA, %"),
    )
    cells = tuple(
        (
            Cell(row_title(row["method"], row["head"])),
            *_scores_of(row),
            Cell(percent(row["voc07_ap50"])),
        )
        for row in rows
    )
    return Table(columns, cells, "Mean average precision by group")


def _scores_of(row: Mapping[str, Any]) -> list[Cell]:
    names = [("ap50", key) for key in _KEYS] + [(measure, "all") for measure, _ in _MEASURES[1:]]
    return [_cell(row, name, key) for name, key in names]


def _cell(row: Mapping[str, Any], measure: str, key: str) -> Cell:
    return scored(row[measure][key], row[f"{measure}_interval"][key])


def _class_table(run: RunResult, found: Mapping[str, Any]) -> Table:
    last = found["rows"][-1]["per_class"]
    columns = (
        Column("class", numeric=False),
        Column("group", numeric=False),
        Column("training objects"),
        Column("test objects"),
        *(Column(title, "%") for _, title in _MEASURES),
    )
    rows = [
        class_row(
            last[c]["name"], run.groups[c], (found["train_objects"][c], last[c]["test_objects"]),
            (last[c]["ap50"], last[c]["ap50_interval"]),
            [last[c][measure] for measure, _ in _MEASURES[1:]],
        )
        for c in run.order
    ]  # fmt: skip
    return Table(columns, tuple(rows), "Average precision of each class")


def _differences(metrics: RunMetrics) -> list[Note]:
    return gain_notes(metrics, "ap50", "Tail AP50", group="tail")


def gains(metrics: RunMetrics) -> list[str]:
    """Higher overlaps, and what the run gained in the tail over each other row, in sentences."""
    last = (metrics.task or {"rows": []})["rows"][-1:]
    above = [
        f"{row_name(row['method'], row['head'])}: "
        + ", ".join(f"{title} {percent(row[name]['all'])}" for name, title in _MEASURES[1:])
        for row in last
    ]
    return [*above, *(note.text for note in _differences(metrics))]


def precision_table(metrics: RunMetrics) -> rich_table.Table:
    """Mean AP50 over head, middle, tail and all, in per cent with intervals, for the terminal."""
    about, titles = "average precision of oriented boxes in %", [f"AP50 {key}" for key in _KEYS]
    return terminal_table(
        metrics, about, titles, lambda row: [_cell(row, "ap50", key) for key in _KEYS]
    )


def pictures_section(run: RunResult) -> Section:
    """True boxes and those found in the test images with most objects of rare classes."""
    needed = [f"object_{name}" for name in ("picture", "id", "corners", "class", "score", "of")]
    if not run.has_evidence(*needed):
        return left_out(*_PICTURES, "no detector was trained, or report.npz is missing")
    caption = (
        "Test images with the most objects of tail classes. From left to right: image, true boxes, "
        "boxes found with a score of at least 0.3. Colours are those of classes."
    )
    pictures, ids, corners, classes, scores, owners = (run.evidence[name] for name in needed)
    colours = class_colours(run.class_names)
    items = []
    for i in range(len(pictures)):
        own = owners == i
        panels = [
            _drawn(pictures[i], corners[rows], [colours[int(c)] for c in classes[rows]])
            for rows in (own & np.isnan(scores), own & ~np.isnan(scores))
        ]
        gap = np.full((len(pictures[i]), _GAP, 3), 255, dtype=np.uint8)
        strip = np.concatenate([pictures[i], gap, panels[0], gap, panels[1]], axis=1)
        true, found = int((own & np.isnan(scores)).sum()), int((own & ~np.isnan(scores)).sum())
        items.append(
            Thumbnail(
                image_uri(strip, at_most=_LARGEST),
                f"image, true boxes and boxes found of {ids[i]}",
                (f"{counted(true, 'true object')}, {counted(found, 'box')} drawn", str(ids[i])),
            )
        )
    legend = legend_picture(run.class_names, [hex_colour(one) for one in colours])
    return Section(*_PICTURES, caption, (legend, Gallery(tuple(items), wide=True)))


def _drawn(
    picture: NDArray[np.uint8],
    corners: NDArray[np.float64],
    colours: Sequence[tuple[int, int, int]],
) -> NDArray[np.uint8]:
    """Draw boxes, in shares of the sides of a picture, on a copy of it."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    width = max(2, round(_LINE * max(image.size)))
    for box, colour in zip(corners * image.size, colours, strict=True):
        outline = [tuple(point) for point in box.tolist()]
        draw.line([*outline, *outline[:2]], fill=(255, 255, 255), width=2 * width, joint="curve")
        draw.line([*outline, *outline[:2]], fill=colour, width=width, joint="curve")
    return np.asarray(image)
