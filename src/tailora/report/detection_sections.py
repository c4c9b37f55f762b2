"""Average precision and pictures with boxes of a detection run, in reports and terminals."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rich import table as rich_table
from rich.markup import escape

from tailora.class_colours import class_colours
from tailora.counts import GROUP_NAMES
from tailora.metrics import RunMetrics
from tailora.numbers import counted, integer, percent, percent_interval, points, points_interval
from tailora.registry import row_title
from tailora.report.blocks import (
    Bar,
    Block,
    Cell,
    Column,
    Gallery,
    Note,
    Section,
    Table,
    Thumbnail,
    class_cell,
    left_out,
)
from tailora.report.scene_section import legend_picture
from tailora.report.style import image_uri
from tailora.runs.result import RunResult

_OBJECTS: Final = ("objects", "Objects")
_PICTURES: Final = ("found", "Objects in test images")
_KEYS: Final = (*GROUP_NAMES, "all")
_MEASURES: Final = (("ap50", "AP50"), ("ap75", "AP75"), ("map", "AP50:95"))
_GAP: Final = 4  # white pixels between panels
_LARGEST: Final = 1024  # pixels along the longer side of a strip


def objects_section(run: RunResult) -> Section:
    """Average precision of every row by group, and of each class of the last."""
    found = run.metrics.task or {}
    if "rows" not in found:
        return left_out(*_OBJECTS, "metrics.json has no average precision")
    confidence = run.metrics.bootstrap.confidence
    caption = (
        "Average precision (AP): a detection is right if its oriented box overlaps an object of "
        "its class by more than 50 % (AP50) or 75 % (AP75); AP50:95 averages ten overlaps. "
        f"Intervals ({100 * confidence:g} %) resample {counted(found['units'], found['unit'])}. "
        "Groups are by training objects; difficult objects do not count. The AP of a class with "
        "few test objects can take few values."
    )
    tone = {True: "good", False: "bad", None: "open"}
    blocks: list[Block] = [Note(text, tone[better]) for text, better in _differences(run.metrics)]
    blocks += [_row_table(found["rows"]), _class_table(run, found)]
    return Section(*_OBJECTS, caption, tuple(blocks))


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
            *(_scored(row, "ap50", key) for key in _KEYS),
            *(_scored(row, measure, "all") for measure, _ in _MEASURES[1:]),
            Cell(percent(row["voc07_ap50"])),
        )
        for row in rows
    )
    return Table(columns, cells, "Mean average precision by group")


def _scored(row: Mapping[str, Any], measure: str, key: str) -> Cell:
    ends = row[f"{measure}_interval"][key]
    return Cell(
        percent(row[measure][key]),
        "" if ends is None else percent_interval((ends[0], ends[1])),
    )


def _class_table(run: RunResult, found: Mapping[str, Any]) -> Table:
    last = found["rows"][-1]["per_class"]
    columns = (
        Column("class", numeric=False),
        Column("group", numeric=False),
        Column("training objects"),
        Column("test objects"),
        *(Column(title, "%") for _, title in _MEASURES),
    )
    rows = []
    for c in run.order:
        row, ends = last[c], last[c]["ap50_interval"] or (None, None)
        bar = None if row["ap50"] is None else Bar(row["ap50"], *ends)
        rows.append(
            (
                class_cell(row["name"]),
                Cell(run.groups[c] or ""),
                Cell(integer(found["train_objects"][c])),
                Cell(integer(row["test_objects"])),
                Cell(percent(row["ap50"]), bar=bar),
                *(Cell(percent(row[measure])) for measure, _ in _MEASURES[1:]),
            )
        )
    return Table(columns, tuple(rows), "Average precision of each class")


def _differences(metrics: RunMetrics) -> list[tuple[str, bool | None]]:
    """A sentence on the tail for each other row, and whether the last is better, if certain."""
    said: list[tuple[str, bool | None]] = []
    for pair in (metrics.task or {}).get("differences", ()):
        change, ends = pair["ap50"]["tail"], pair["ap50_interval"]["tail"]
        if change is None or ends is None:
            continue
        certain = ends[0] > 0 or ends[1] < 0
        names = [
            row_title(pair[method], pair[head])
            for method, head in (("method", "head"), ("against", "against_head"))
        ]
        said.append(
            (
                f"Tail AP50 of {names[0]} is {points(change)} points "
                f"{points_interval((ends[0], ends[1]))} against {names[1]}"
                f"{'' if certain else ', which may be chance'}; over all classes "
                f"{points(pair['ap50']['all'])}.",
                change > 0 if certain else None,
            )
        )
    return said


def gains(metrics: RunMetrics) -> list[str]:
    """What the run gained in the tail over each other row, in sentences."""
    return [text for text, _ in _differences(metrics)]


def precision_table(metrics: RunMetrics) -> rich_table.Table:
    """Mean AP50 over head, middle, tail and all, in per cent with intervals, for the terminal."""
    found = metrics.task or {}
    table = rich_table.Table(
        caption="average precision of oriented boxes in % "
        f"\\[{100 * metrics.bootstrap.confidence:g} % interval], "
        f"bootstrap of {counted(found.get('units', 0), found.get('unit', 'image'))}"
    )
    table.add_column("method")
    columns = [("ap50", key, f"AP50 {key}") for key in _KEYS]
    columns += [(measure, "all", f"{title} all") for measure, title in _MEASURES[1:]]
    for _, _, title in columns:
        table.add_column(title, justify="right")
    for row in found.get("rows", ()):
        cells = [_scored(row, measure, key) for measure, key, _ in columns]
        texts = [escape(" ".join(part for part in (c.text, c.detail) if part)) for c in cells]
        table.add_row(escape(row_title(row["method"], row["head"])), *texts)
    return table


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
                (f"{counted(true, 'object')}, {found} found", str(ids[i])),
            )
        )
    legend = legend_picture(run.class_names, ["#{:02x}{:02x}{:02x}".format(*c) for c in colours])
    return Section(*_PICTURES, caption, (legend, Gallery(tuple(items), wide=True)))


def _drawn(
    picture: NDArray[np.uint8],
    corners: NDArray[np.float64],
    colours: Sequence[tuple[int, int, int]],
) -> NDArray[np.uint8]:
    """Draw boxes, in shares of the sides of a picture, on a copy of it."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for box, colour in zip(corners * image.size, colours, strict=True):
        outline = [tuple(point) for point in box.tolist()]
        draw.line([*outline, outline[0]], fill=(255, 255, 255), width=4)
        draw.line([*outline, outline[0]], fill=colour, width=2)
    return np.asarray(image)
