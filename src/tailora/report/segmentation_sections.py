"""Scores over pixels and the worst windows of a segmentation run, in reports and terminals."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
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

_PIXELS: Final = ("pixels", "Pixels")
_WINDOWS: Final = ("windows", "Worst windows of rare classes")
_KEYS: Final = (*GROUP_NAMES, "all")
_GAP: Final = 4  # white pixels between panels
_WRONG: Final = (215, 48, 31)
_IGNORED: Final = (255, 255, 255)
_FAINT: Final = 0.35  # of the colour of what is right


def pixels_section(run: RunResult) -> Section:
    """Mean IoU of every row, and IoU of each class of the last."""
    found = run.metrics.task or {}
    if "rows" not in found:
        return left_out(*_PIXELS, "metrics.json has no metrics over pixels")
    confidence = run.metrics.bootstrap.confidence
    caption = (
        "Intersection over union (IoU): of the pixels that are or are called a class, the share "
        f"that is both, counted over all {counted(found['images'], 'test image')}. Intervals "
        f"({100 * confidence:g} %) resample {counted(found['units'], found['unit'])}. Boundary IoU "
        "counts only pixels near the edge of a class. Groups are by training pixels."
    )
    tone = {True: "good", False: "bad", None: "open"}
    blocks: list[Block] = [Note(text, tone[better]) for text, better in _differences(run.metrics)]
    blocks += [_row_table(found["rows"]), _class_table(run, found)]
    if "raters" in found:
        blocks.append(_rater_table(found["raters"]))
    return Section(*_PIXELS, caption, tuple(blocks))


def _row_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = (
        Column("row", numeric=False),
        *(Column(f"{key}", "mean IoU of its classes, %") for key in _KEYS),
        Column("boundary, all", "mean boundary IoU, %"),
        Column("right pixels", "% of all labelled pixels"),
    )
    cells = tuple(
        (
            Cell(row_title(row["method"], row["head"])),
            *(_scored(row["mean_iou"][key], row["mean_iou_interval"][key]) for key in _KEYS),
            _scored(row["mean_boundary_iou"]["all"], row["mean_boundary_iou_interval"]["all"]),
            Cell(percent(row["pixel_accuracy"])),
        )
        for row in rows
    )
    return Table(columns, cells, "Mean IoU by group")


def _rater_table(raters: Mapping[str, Any]) -> Table:
    columns = (
        Column("masks", numeric=False),
        Column("agreement", "mean IoU of an image with a rater's mask, mean over images, %"),
        Column("energy distance", "to all raters of an image: 0 if masks are spread as theirs"),
    )
    cells = [
        (
            Cell("of two raters"),
            _scored(raters["agreement"], raters["agreement_interval"]),
            Cell("0"),
        )
    ]
    for row in raters["rows"]:
        ends = row["energy_distance_interval"]
        cells.append(
            (
                Cell(f"{row_title(row['method'], row['head'])} and a rater"),
                _scored(row["agreement"], row["agreement_interval"]),
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


def _scored(value: float | None, ends: Sequence[float] | None) -> Cell:
    detail = "" if ends is None else percent_interval((ends[0], ends[1]))
    return Cell(percent(value), detail)


def _class_table(run: RunResult, found: Mapping[str, Any]) -> Table:
    last = found["rows"][-1]["per_class"]
    columns = (
        Column("class", numeric=False),
        Column("group", numeric=False),
        Column("training pixels"),
        Column("test pixels"),
        Column("IoU", "%"),
        Column("boundary IoU", "%"),
    )
    rows = []
    for c in run.order:
        row, ends = last[c], last[c]["iou_interval"] or (None, None)
        bar = None if row["iou"] is None else Bar(row["iou"], *ends)
        rows.append(
            (
                class_cell(row["name"]),
                Cell(run.groups[c] or ""),
                Cell(integer(found["train_pixels"][c])),
                Cell(integer(row["test_pixels"])),
                Cell(percent(row["iou"]), bar=bar),
                Cell(percent(row["boundary_iou"])),
            )
        )
    return Table(columns, tuple(rows), "IoU of each class")


def _differences(metrics: RunMetrics) -> list[tuple[str, bool | None]]:
    """A sentence on the tail for each other row, and whether the last is better, if certain."""
    said: list[tuple[str, bool | None]] = []
    for pair in (metrics.task or {}).get("differences", ()):
        change, ends = pair["mean_iou"]["tail"], pair["mean_iou_interval"]["tail"]
        if change is None or ends is None:
            continue
        certain = ends[0] > 0 or ends[1] < 0
        names = [
            row_title(pair[method], pair[head])
            for method, head in (("method", "head"), ("against", "against_head"))
        ]
        everywhere = pair["mean_iou"]["all"]
        said.append(
            (
                f"Tail mean IoU of {names[0]} is {points(change)} points "
                f"{points_interval((ends[0], ends[1]))} against {names[1]}"
                f"{'' if certain else ', which may be chance'}; over all classes "
                f"{points(everywhere)}.",
                change > 0 if certain else None,
            )
        )
    return said


def gains(metrics: RunMetrics) -> list[str]:
    """What the run gained in the tail over each other row, in sentences."""
    return [text for text, _ in _differences(metrics)]


def iou_table(metrics: RunMetrics) -> rich_table.Table:
    """Mean IoU over head, middle, tail and all, in per cent with intervals, for the terminal."""
    found = metrics.task or {}
    table = rich_table.Table(
        caption=f"mean IoU over pixels in % \\[{100 * metrics.bootstrap.confidence:g} % interval], "
        f"bootstrap of {counted(found.get('units', 0), found.get('unit', 'image'))}"
    )
    table.add_column("method")
    for key in (*_KEYS, "boundary, all"):
        table.add_column(key, justify="right")
    for row in found.get("rows", ()):
        pairs = [(row["mean_iou"][key], row["mean_iou_interval"][key]) for key in _KEYS]
        edge = row["mean_boundary_iou"]["all"], row["mean_boundary_iou_interval"]["all"]
        cells = [
            escape(" ".join(part for part in (cell.text, cell.detail) if part))
            for cell in (_scored(*pair) for pair in (*pairs, edge))
        ]
        table.add_row(escape(row_title(row["method"], row["head"])), *cells)
    return table


def windows_section(run: RunResult) -> Section:
    """Image, truth, prediction and errors of the windows with most errors of rare classes."""
    needed = [f"window_{name}" for name in ("picture", "truth", "predicted", "class", "iou", "id")]
    if not run.has_evidence(*needed):
        none = "no pixel of a rare class is wrong"
        return left_out(*_WINDOWS, none if needed[0] in run.evidence else "report.npz is missing")
    caption = (
        "Test images with the most wrong pixels of a tail class, rarest first. From left to right: "
        "image, truth, prediction, errors (red; white pixels have no label). Colours are those of "
        "maps."
    )
    colours = class_colours(run.class_names)
    pictures, truths, said, classes, ious, ids = (run.evidence[name] for name in needed)
    items = []
    for i in range(len(pictures)):
        name, share = run.class_names[int(classes[i])], percent(float(ious[i]))
        items.append(
            Thumbnail(
                image_uri(_strip(pictures[i], truths[i], said[i], colours), at_most=1024),
                f"image, truth, prediction and errors of {ids[i]}",
                (f"{name}: IoU {share} % here", str(ids[i])),
            )
        )
    legend = legend_picture(run.class_names, ["#{:02x}{:02x}{:02x}".format(*c) for c in colours])
    return Section(*_WINDOWS, caption, (legend, Gallery(tuple(items), wide=True)))


def _strip(
    picture: NDArray[np.uint8],
    truth: NDArray[np.integer],
    said: NDArray[np.integer],
    colours: Sequence[tuple[int, int, int]],
) -> NDArray[np.uint8]:
    """Four panels side by side (side, 4 sides and gaps, 3)."""
    palette = np.array([*colours, _IGNORED], dtype=np.uint8)  # of -1 the last
    own, found = palette[truth], palette[said]
    faint = (255 - _FAINT * (255 - found.astype(np.float64))).astype(np.uint8)
    errors = np.where((truth != said)[..., None], np.array(_WRONG, dtype=np.uint8), faint)
    errors[truth < 0] = _IGNORED
    gap = np.full((len(picture), _GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([picture, gap, own, gap, found, gap, errors], axis=1)
