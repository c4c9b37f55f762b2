"""What a detection run misses, confuses and invents, as figures, a table and pictures."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tailora.class_colours import class_colours, hex_colour
from tailora.counts import GROUP_NAMES
from tailora.metrics.detection_errors import RECALLS
from tailora.numbers import counted, integer, percent
from tailora.report.blocks import (
    Block,
    Cell,
    Column,
    Gallery,
    Picture,
    Section,
    Table,
    Thumbnail,
    class_cell,
    left_out,
)
from tailora.report.matrix_figures import confusion_picture
from tailora.report.scene_section import legend_picture
from tailora.report.style import FAINT, GROUP_COLOURS, INK, SOFT, figure_uri, image_uri
from tailora.runs.result import RunResult

_ERRORS: Final = ("object-errors", "Missed, confused and invented objects")
_EXAMPLES: Final = ("object-examples", "Missed, confused and invented objects in pictures")
_HEIGHT: Final = 3.1  # inches
_GAP: Final = 4  # white pixels between panels


def errors_section(run: RunResult) -> Section:
    """Confusion matrix with background, errors of each class, curves, scores and sizes."""
    found = (run.metrics.task or {}).get("errors")
    if found is None:
        return left_out(*_ERRORS, "metrics.json does not have them; evaluate the run again")
    caption = (
        f"Boxes with a score of at least {found['score']:g}, matched with objects by an overlap "
        f"above {100 * found['overlap']:g} % whatever their classes, the surest first. The row of "
        "background are false alarms, its column are objects missed. "
        f"{counted(found['repeated'], 'further box')} of objects that a surer one "
        "had found are in neither."
    )
    matrix = np.asarray(found["confusion"])
    order = [*run.order, len(run.class_names)]
    names = [run.class_names[c] for c in run.order]
    blocks: list[Block] = [
        confusion_picture(matrix[np.ix_(order, order)], names, background=True),
        _class_table(run, matrix, found),
    ]
    curves = run.evidence.get("object_curves")
    blocks.append(_figures(found, curves if curves is not None and curves.size else None))
    return Section(*_ERRORS, caption, tuple(blocks))


def _class_table(run: RunResult, matrix: NDArray[np.int64], found: Mapping[str, Any]) -> Table:
    columns = (
        Column("class", numeric=False),
        Column("test objects"),
        Column("found", "as their class"),
        Column("lost to another class"),
        Column("most often to", numeric=False),
        Column("missed"),
        Column("false alarms"),
        Column(f"recall at {found['per_image']}", "% found as their class among the surest boxes "
               f"of each image, {found['per_image']} at most"),
    )  # fmt: skip
    rows = []
    for c in run.order:
        others = matrix[c, :-1].copy()
        others[c] = 0
        to = run.class_names[int(others.argmax())] if others.any() else "–"
        rows.append(
            (
                class_cell(run.class_names[c]),
                *(Cell(integer(int(n))) for n in (matrix[c].sum(), matrix[c, c], others.sum())),
                Cell(to),
                *(Cell(integer(int(n))) for n in (matrix[c, -1], matrix[-1, c])),
                Cell(percent(found["recall"][c])),
            )
        )
    return Table(columns, tuple(rows), "Errors of each class")


def _figures(found: Mapping[str, Any], curves: NDArray[np.float64] | None) -> Picture:
    """Precision against recall, right against score, and found against size."""

    def draw(figure: Figure) -> None:
        first, second, third = figure.subplots(1, 3)
        _draw_curves(first, curves)
        _draw_scores(second, found["calibration"]["bins"])
        _draw_sizes(third, found["sizes"])

    error = found["calibration"]["error"]
    alt = (
        "Precision against recall by group; share of right boxes against their score"
        f"{'' if error is None else f', {percent(error)} % apart on average'}; share of objects "
        "found against their size."
    )
    return Picture(figure_uri(draw, height=_HEIGHT), alt)


def _draw_curves(axes: Axes, curves: NDArray[np.float64] | None) -> None:
    axes.set_title("precision by recall")
    keys = (*GROUP_NAMES, "all")
    for key, curve in zip(keys, [] if curves is None else curves, strict=False):
        if np.isfinite(curve).all():
            colour = GROUP_COLOURS.get(key, INK)
            axes.plot(100 * RECALLS, 100 * curve, color=colour, label=key, linewidth=1.5)
    axes.set_xlabel("recall, %")
    axes.set_ylabel("precision, % (mean over classes)")
    _square(axes)
    if axes.lines:
        axes.legend()


def _draw_scores(axes: Axes, bins: Sequence[Mapping[str, Any]]) -> None:
    axes.set_title("are scores right?")
    axes.plot([0, 100], [0, 100], color=FAINT, zorder=0)
    x, y = ([100 * one[key] for one in bins] for key in ("score", "right"))
    axes.plot(x, y, color=INK, linewidth=1, marker="o", markersize=4)
    for one, at, share in zip(bins, x, y, strict=True):
        axes.annotate(
            integer(one["detections"]), (at, share), textcoords="offset points", xytext=(4, -9),
            fontsize=7, color=SOFT,
        )  # fmt: skip
    axes.set_xlabel("score, % (number of boxes)")
    axes.set_ylabel("right, %")
    _square(axes)


def _draw_sizes(axes: Axes, sizes: Sequence[Mapping[str, Any]]) -> None:
    axes.set_title("found by size")
    places = range(len(sizes))
    axes.bar(places, [100 * one["found"] for one in sizes], color=FAINT, label="as any class")
    axes.bar(
        places, [100 * one["right"] for one in sizes], color=GROUP_COLOURS["middle"], width=0.5,
        label="as their class",
    )  # fmt: skip
    names = [
        f"{one['from']:g}–{one['to']:g}" if one["to"] else f"≥ {one['from']:g}" for one in sizes
    ]
    texts = [f"{name}\n({integer(one['objects'])})" for name, one in zip(names, sizes, strict=True)]
    axes.set_xticks(list(places), texts, fontsize=8)
    axes.set_xlabel("root of area, pixels (objects)")
    axes.set_ylabel("found, %")
    axes.set_ylim(0, 140)  # room for the legend
    axes.set_yticks(range(0, 101, 20))
    if sizes:
        axes.legend(loc="upper right")


def _square(axes: Axes) -> None:
    axes.set_xlim(0, 104)
    axes.set_ylim(0, 104)
    axes.grid(visible=True)


def examples_section(run: RunResult) -> Section:
    """Pictures around objects that were missed or confused, and around false alarms."""
    needed = [
        f"error_{name}" for name in ("picture", "id", "true", "found", "score", "box", "box_class",
                                     "box_found", "box_main", "box_of")
    ]  # fmt: skip
    if not run.has_evidence(*needed):
        none = "no object was missed or confused, and none invented"
        reason = none if needed[0] in run.evidence else "report.npz does not have them"
        return left_out(*_EXAMPLES, reason)
    pictures, ids, true, said, scores, boxes, classes, is_found, is_main, owners = (
        run.evidence[name] for name in needed
    )
    caption = (
        "Objects that were missed or taken for another class, rarest classes first, then the "
        "surest false alarms. From left to right: image, true boxes, boxes found; the one in "
        "question is drawn thick. Colours are those of classes. Check for wrong or missing labels "
        "first."
    )
    colours = class_colours(run.class_names)
    items = []
    for i, picture in enumerate(pictures):
        gap = np.full((len(picture), _GAP, 3), 255, dtype=np.uint8)
        panels = [picture]
        for kind in (False, True):
            own = np.flatnonzero((owners == i) & (is_found == kind))
            panels += [gap, _drawn(picture, boxes[own], [colours[c] for c in classes[own].tolist()],
                                   is_main[own])]  # fmt: skip
        what = _said(run.class_names, int(true[i]), int(said[i]), float(scores[i]))
        items.append(
            Thumbnail(
                image_uri(np.concatenate(panels, axis=1), at_most=1024),
                f"image, true boxes and boxes found: {what}", (what, str(ids[i])),
            )
        )  # fmt: skip
    legend = legend_picture(run.class_names, [hex_colour(one) for one in colours])
    return Section(*_EXAMPLES, caption, (legend, Gallery(tuple(items), wide=True)))


def _said(names: Sequence[str], true: int, found: int, score: float) -> str:
    if found < 0:
        return f"{names[true]}, missed"
    return f"{'false alarm:' if true < 0 else f'{names[true]} →'} {names[found]} ({score:.2f})"


def _drawn(
    picture: NDArray[np.uint8],
    boxes: NDArray[np.float64],
    colours: Sequence[tuple[int, int, int]],
    is_main: NDArray[np.bool_],
) -> NDArray[np.uint8]:
    """Draw boxes, in shares of the sides, on a copy of a picture, with a dark and a light rim."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for box, colour, main in zip(boxes * image.size, colours, is_main.tolist(), strict=True):
        outline = [tuple(point) for point in box.tolist()]
        closed = [*outline, outline[0], outline[1]]
        width = 4 if main else 2
        for fill, rim in (((0, 0, 0), 4), ((255, 255, 255), 2), (colour, 0)):
            draw.line(closed, fill=fill, width=width + rim, joint="curve")
    return np.asarray(image)
