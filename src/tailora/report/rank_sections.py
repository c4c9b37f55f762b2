"""Ranking, other class priors, and neural collapse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from matplotlib.figure import Figure

from tailora.metrics import Collapse, FeatureShift, GroupScores, MethodMetrics, ShiftedScores
from tailora.numbers import MISSING, counted, decimal, integer, percent
from tailora.registry import row_title
from tailora.report.blocks import Cell, Column, Note, Picture, Section, Table, left_out, shorten
from tailora.report.style import figure_uri, percent_axis, row_style
from tailora.runs.result import RunResult

OLD: Final = "the run was measured by an earlier version"
_TITLE: Final = ("ranking", "Shots, worst class and ranking")
_SHOTS: Final = ("many", "medium", "few")


def ranking_section(run: RunResult) -> Section:
    """Mean recall by number of training samples, the worst class, AUROC and AUPRC."""
    if all(method.shots is None for method in run.metrics.methods):
        return left_out(*_TITLE, OLD)
    caption = (
        "In percent. First recall: many-shot classes have over 100 training samples, few-shot "
        "fewer than 20. Then ranking: does a class's own probability rank its samples above all "
        "others, at any threshold? AUPRC depends on how frequent a class is in the test split: "
        "compare it down a column, and with its chance level, not between groups."
    )
    return Section(*_TITLE, caption, (_recall_table(run), _ranking_table(run)))


def _recall_table(run: RunResult) -> Table:
    columns = [
        Column("method", numeric=False),
        *(Column(name, f"mean recall of {name}-shot classes") for name in _SHOTS),
        Column("worst class", "lowest recall of any class"),
        Column("G-mean", "geometric mean of the recalls; one class at 0 makes it 0"),
        Column("disparity", "highest minus lowest recall"),
    ]
    known = any(method.relative_accuracy is not None for method in run.metrics.methods)
    if known:
        columns.append(Column("relative", "balanced accuracy relative to balanced training"))
    rows = tuple(
        (
            Cell(row_title(*method.row)),
            *(Cell(percent(method.shots[name] if method.shots else None)) for name in _SHOTS),
            _worst_cell(method),
            Cell(percent(method.g_mean)),
            Cell(percent(method.accuracy_disparity)),
            *([Cell(percent(method.relative_accuracy))] if known else []),
        )
        for method in run.metrics.methods
    )
    return Table(tuple(columns), rows, "Recall by number of training samples")


def _worst_cell(method: MethodMetrics) -> Cell:
    name = method.worst_class or ""
    return Cell(percent(method.worst_class_recall), shorten(name, 24), title=name)


def _ranking_table(run: RunResult) -> Table:
    columns = (
        Column("method", numeric=False),
        Column("AUROC", "mean over classes, one vs. rest; chance is 50"),
        Column("tail AUROC", "the same over tail classes"),
        *(
            Column(f"{scope} AUPRC", "mean average precision; chance level in grey")
            for scope in ("head", "middle", "tail")
        ),
        Column(
            "tail retrieval",
            "mean average precision of a search among training images",
        ),
    )
    rows = tuple(
        (
            Cell(row_title(*method.row)),
            *(Cell(percent(_rank(method, scope).auroc)) for scope in ("all", "tail")),
            *(_auprc_cell(_rank(method, scope)) for scope in ("head", "middle", "tail")),
            Cell(percent((method.retrieval or {}).get("tail"))),
        )
        for method in run.metrics.methods
    )
    return Table(columns, rows, "Ranking per method")


def _auprc_cell(found: GroupScores) -> Cell:
    score = percent(found.auprc)
    return Cell(score, "" if score == MISSING else f"chance {percent(found.prevalence)}")


def _rank(method: MethodMetrics, scope: str) -> GroupScores:
    return method.ranking[scope] if method.ranking else GroupScores(None, None, None)


@final
@dataclass(frozen=True)
class PriorLine:
    """One method over test priors, from the most head-heavy to the most tail-heavy.

    Args:
        label: Name in the legend.
        colour: Colour of the line.
        marker: Shape of the markers.
        macro_f1: In [0, 1], None where unknown.
        accuracy: In [0, 1], None where unknown.
    """

    label: str
    colour: str
    marker: str
    macro_f1: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]


_PRIORS: Final = ("priors", "Other class priors")
_NAMED: Final = ("natural", "uniform", "reversed")
_FEW_ROWS: Final = 50
Row = tuple[str, str | None]
_SCALE: Final = ("forward", "uniform", "backward")


def priors_section(run: RunResult) -> Section:
    """Scores of every method under test priors from head-heavy to tail-heavy."""
    found = {m.row: m.priors for m in run.metrics.methods if m.priors}
    if not found:
        return left_out(*_PRIORS, OLD)
    caption = (
        "The same test split, reweighted as if the most frequent training class were up to 50 "
        "times as frequent as the rarest (left), all equally frequent (middle), or the reverse "
        "(right). Natural is the training prior, reversed gives the largest share to the rarest "
        "class. Only the prior changes: other seasons or sensors are not covered."
    )
    first, last = next(iter(found.values())), [*found.values()][-1]
    order = [name for name in first if name.partition("-")[0] in _SCALE]
    lines = [_line(*entry, order, place) for place, entry in enumerate(found.items())]
    picture = prior_lines([_tick(name) for name in order], lines)
    return Section(*_PRIORS, caption, (*_warning(last), picture, _table(found)))


def _tick(name: str) -> str:
    side, _, ratio = name.partition("-")
    return f"{ratio}:1" if side == "forward" else f"1:{ratio}" if side == "backward" else "1:1"


def _line(row: Row, priors: Mapping[str, ShiftedScores], order: list[str], place: int) -> PriorLine:
    known = [priors.get(name) for name in order]
    return PriorLine(
        row_title(*row),
        *row_style(row, place),
        tuple(one and one.macro_f1 for one in known),
        tuple(one and one.accuracy for one in known),
    )


def prior_lines(ticks: Sequence[str], lines: Sequence[PriorLine]) -> Picture:
    """Draw macro-F1 and accuracy of each method over test priors, side by side.

    Args:
        ticks: Names of the priors, in drawing order.
        lines: One per method.
    """

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 2, sharex=True)
        for axes, key, title in (
            (panels[0], "macro_f1", "macro-F1, %"),
            (panels[1], "accuracy", "accuracy, %"),
        ):
            for line in lines:
                known = [(x, y) for x, y in enumerate(getattr(line, key)) if y is not None]
                axes.plot(
                    [x for x, _ in known],
                    [y for _, y in known],
                    color=line.colour,
                    marker=line.marker,
                    markersize=4.5,
                    linewidth=1.4,
                    label=line.label if key == "macro_f1" else None,
                )
            axes.set_title(title)
            axes.set_xticks(range(len(ticks)), ticks)
            axes.set_xlabel("← head-heavy · class prior of the test · tail-heavy →")
            percent_axis(axes)
        figure.legend(loc="outside upper right", ncols=min(len(lines), 4))

    labels = ", ".join(line.label for line in lines)
    alt = f"Macro-F1 and accuracy against the class prior of the test split, for {labels}."
    return Picture(figure_uri(draw, height=3.6), alt)


def _table(found: Mapping[Row, Mapping[str, ShiftedScores]]) -> Table:
    columns = [Column("method", numeric=False)]
    for name in _NAMED:
        columns += [
            Column(f"{name} macro-F1"),
            Column(f"{name} accuracy", "effective sample size in grey"),
        ]
    rows = tuple(
        (
            Cell(row_title(*row)),
            *(cell for name in _NAMED for cell in _cells(priors, name)),
        )
        for row, priors in found.items()
    )
    return Table(tuple(columns), rows, "Scores under other test priors")


def _cells(priors: Mapping[str, ShiftedScores], name: str) -> tuple[Cell, Cell]:
    if name not in priors:
        return Cell(MISSING), Cell(MISSING)
    one = priors[name]
    detail = counted(round(one.effective_rows), "sample")
    return Cell(percent(one.macro_f1)), Cell(percent(one.accuracy), detail)


def _warning(priors: Mapping[str, ShiftedScores]) -> list[Note]:
    """Warn if the tail-heavy side has a very small effective sample size."""
    fewest = min(one.effective_rows for one in priors.values())
    if fewest >= _FEW_ROWS:
        return []
    text = (
        f"The most extreme priors have an effective sample size of {integer(fewest)} or fewer: "
        "treat the ends of the lines as a tendency only."
    )
    return [Note(text, "open")]


_COLLAPSE: Final = ("collapse", "Neural collapse and distribution shift")
_DISTANCES: Final = ("nc2_classifier", "nc2_means", "nc3_product")


def collapse_section(run: RunResult) -> Section:
    """Neural-collapse distances and the Fréchet distance from training to test."""
    methods = [m for m in run.metrics.methods if m.collapse or m.shift]
    if not methods:
        return left_out(*_COLLAPSE, OLD)
    caption = (
        "At the end of training, classes collapse to equally spaced points (variability 0); a "
        "distance of 0 means full collapse, towards the geometry of balanced data or, in "
        "brackets, of these class sizes. The last column is the Fréchet distance between training "
        "and test features in units of the training variance, corrected for small-sample bias, "
        "with its interval; a changed class prior counts as a shift too."
    )
    columns = (
        Column("method", numeric=False),
        Column("spread", "within-class over between-class variability (NC1)"),
        Column("head vectors", "Gram matrix of class vectors relative to its target (NC2), 0 to 2"),
        Column("class means", "Gram matrix of class means relative to its target (NC2), 0 to 2"),
        Column("their products", "class vectors with class means relative to their target (NC3)"),
        Column("distribution shift"),
    )
    rows = tuple(
        (
            Cell(row_title(*method.row)),
            Cell(decimal(method.collapse and method.collapse.nc1, digits=2)),
            *(_distance_cell(method.collapse, key) for key in _DISTANCES),
            _shift_cell(method.shift),
        )
        for method in methods
    )
    table = Table(columns, rows, "Neural collapse and shift")
    lacking = [row_title(*m.row) for m in methods if not m.collapse]
    note = (
        f"Collapse is not computed for {', '.join(lacking)}: a head that is not a linear layer "
        "has no class vectors."
    )
    return Section(*_COLLAPSE, caption, (*((Note(note),) if lacking else ()), table))


def _distance_cell(collapse: Collapse | None, key: str) -> Cell:
    if collapse is None or (balanced := getattr(collapse.balanced, key)) is None:
        return Cell(MISSING)
    sized = getattr(collapse.imbalanced, key)
    return Cell(decimal(balanced, digits=2), f"({decimal(sized, digits=2)})")


def _shift_cell(shift: FeatureShift | None) -> Cell:
    if shift is None or shift.low is None or shift.high is None:
        return Cell(MISSING)
    detail = f"[{decimal(shift.low, digits=2)}, {decimal(shift.high, digits=2)}]"
    return Cell(decimal(shift.corrected, digits=2), detail)
