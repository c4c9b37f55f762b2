"""Sections of a comparison: scores, differences, ranks, classes, measures, distances, cost."""

from collections.abc import Sequence
from typing import Final

from tailora.metrics import ClassSpread, MeanDifference
from tailora.numbers import MISSING, decimal, duration, integer, megabytes, percent, points
from tailora.report.blocks import (
    Cell,
    Column,
    Note,
    Section,
    Table,
    class_cell,
    left_out,
    shorten,
    text_cells,
)
from tailora.report.class_figures import Series, score_dots
from tailora.report.debias_sections import DISTANCES
from tailora.report.method_figures import difference_forest, rank_lines, score_grid, short_label
from tailora.report.method_verdict import verdict_notes
from tailora.report.score_sections import SCOPES
from tailora.report.style import MARKERS, STRONG_COLOURS
from tailora.runs.comparison import LEAKS, ComparisonResult, ComparisonRow, Measures

_MOST_DRAWN: Final = len(MARKERS)
_MEASURES: Final = ("measures", "Worst class, ranking and coverage")


def verdict_section(found: ComparisonResult) -> Section:
    """Report which method is best and which gains are supported."""
    caption = (
        f"{_measure(found)} in percent on the test split: the mean over classes, so rare classes "
        "count as much as frequent ones."
    )
    if found.against_title is not None:
        caption += (
            f" A gain over {found.against_title} is claimed only if the "
            f"{100 * found.confidence:g} % interval of the paired difference, with the same "
            "probe, lies above zero."
        )
    return Section("verdict", "Results", caption, verdict_notes(found))


def scores_section(found: ComparisonResult) -> Section:
    """Score of each method, one table per probe."""
    what = "mean ± standard deviation over seeds" if len(found.seeds) > 1 else "one seed"
    caption = f"{_measure(found)} in percent, {what}; one table per probe, with the same columns."
    if len(found.probes) == 1:
        caption = f"{_measure(found)} in percent, {what}, all with the probe {found.probes[0]}."
    caption += (
        " None is bold: the highest mean does not prove a lead; rely on the differences and "
        "their intervals."
    )
    tables = tuple(_score_table(found, probe) for probe in found.probes)
    return Section("scores", "Scores", caption, (*tables, *_other_scores(found)))


def _other_scores(found: ComparisonResult) -> tuple[Table, ...]:
    """Scores of the task beside that by which rows are compared."""
    rows = [(row, row.task) for row in found.rows if row.task is not None and row.task.also]
    if not rows:
        return ()
    names = [
        (name, scope)
        for name, other in rows[0][1].also.items()
        for scope in ("tail", "all")
        if scope in other.scores
    ]
    gained = found.against_title is not None
    columns = [Column("method", numeric=False)]
    for name, scope in names:
        title = f"{name} {scope}" if (name, "tail") in names else name
        columns += [Column(title), *[Column("gain", "paired difference, points")] * gained]
    cells = []
    for row, task in rows:
        own = [_label_cell(row)]
        for name, scope in names:
            other = task.also[name]
            change = None if other.difference is None else other.difference.get(scope)
            own += [Cell(other.scores[scope].text()), *[_difference_cell(change)] * gained]
        cells.append(tuple(own))
    return (Table(tuple(columns), tuple(cells), "Further scores of each method"),)


def _measure(found: ComparisonResult) -> str:
    """Its measure at the beginning of a sentence."""
    return found.measure[0].upper() + found.measure[1:]


def _score_table(found: ComparisonResult, probe: str) -> Table:
    first = f"probe: {shorten(probe, 30)}" if len(found.probes) > 1 else "method"
    columns = [Column(first, numeric=False), *(Column(scope) for scope in SCOPES)]
    if found.against_title is not None:
        against = shorten(found.against_title, 24)
        hint = (
            f"paired difference of {found.measure}, points, with its interval; same probe, same "
            "seeds"
        )
        columns += [Column(f"{scope} − {against}", hint) for scope in ("tail", "all")]
    if found.ordinary is not None:
        hint = f"paired difference to {found.ordinary}, the head that the adapter was trained with"
        columns.append(Column("tail − ordinary fine-tuning", hint))
    columns += [
        Column("time", "including everything the method builds on"),
        Column("parameters", "that were trained"),
    ]
    rows = tuple(_score_row(found, row) for row in found.under(probe))
    return Table(tuple(columns), rows, f"{_measure(found)} per method with the probe {probe}")


def _score_row(found: ComparisonResult, row: ComparisonRow) -> tuple[Cell, ...]:
    changes = [_difference_cell(row.difference_on(scope)) for scope in ("tail", "all")]
    return (
        _name_cell(row),
        *(Cell(row.main.scores[scope].text()) for scope in SCOPES),
        *(changes if found.against_title is not None else []),
        *([_difference_cell(row.gain_on("tail"))] if found.ordinary is not None else []),
        Cell(duration(row.seconds and row.seconds.total)),
        Cell(integer(row.trained_parameters)),
    )


def _difference_cell(change: MeanDifference | None) -> Cell:
    """Format a difference in points with its interval."""
    return Cell(MISSING) if change is None else Cell(points(change.mean), change.ends_text())


def _name_cell(row: ComparisonRow) -> Cell:
    tag = LEAKS if row.leaks else ""
    method, _, told = row.title.partition(", ")  # what was varied may need several lines
    detail = "; ".join(part for part in (told, row.told) if part)
    return Cell(shorten(method, 30), detail, title=row.title, tag=tag)


def _label_cell(row: ComparisonRow) -> Cell:
    return Cell(short_label(row), title=row.label, tag=LEAKS if row.leaks else "")


def grid_section(found: ComparisonResult) -> Section:
    """Score of each method with each probe, as a heat map."""
    caption = (
        "Every method with every probe. Within a column the probe is the same, so differences "
        "are due to the method; within a row, to the probe. Each panel has its own colour scale."
    )
    return Section("grid", "Method by probe", caption, (score_grid(found),))


def forest_section(found: ComparisonResult) -> Section:
    """Difference of each method to the reference method."""
    title = "Gains"
    picture = difference_forest(found)
    if picture is None:
        return left_out("differences", title, "there is no reference method")
    over = ", mean over seeds" if len(found.seeds) > 1 else ""
    caption = (
        f"{_measure(found)} minus that of {found.against_title} with the same probe{over}, with "
        f"{100 * found.confidence:g} % intervals. If an interval includes zero, it is open which "
        "of the two is better."
    )
    return Section("differences", title, caption, (picture,))


def ranks_section(found: ComparisonResult) -> Section:
    """Mean rank of each row over seeds."""
    title = "Ranks over seeds"
    if len(found.seeds) == 1:
        return left_out("ranks", title, "with one seed, ranks are not informative")
    picture = rank_lines(found)
    if picture is None:
        return left_out("ranks", title, "no ranks were stored")
    caption = (
        "The rank of each row in each seed, averaged over seeds; best on the tail first, ties "
        "share their mean rank. Ranks show the order, not the size of a lead."
    )
    return Section("ranks", title, caption, (picture,))


def geometry_section(found: ComparisonResult) -> Section:
    """Cosine distances between and within classes, by method."""
    title = "Distances between classes"
    # one probe suffices: the features of an adapter are the same under every probe
    rows = [row for row in _one_per_adapter(found) if row.geometry]
    if not rows:
        return left_out("geometry", title, "no distances were computed")
    columns = (
        Column("method", numeric=False),
        Column("head to tail ↑", "between a head class and a tail class; higher is better"),
        Column("tail to tail ↑", "between two tail classes; higher is better"),
        Column("within tail ↓", "between samples of one tail class; lower is better"),
        Column("cluster purity", "share of samples in the majority class of their cluster"),
    )
    cells = tuple(
        (
            _name_cell(row),
            *(Cell(decimal(row.geometry[key] if row.geometry else None)) for key in DISTANCES),
            Cell(decimal(row.purity, digits=2)),
        )
        for row in rows
    )
    if all(row.purity is None for row in rows):
        columns, cells = columns[:-1], tuple(row[:-1] for row in cells)
    caption = (
        "Mean cosine distance of features on the test split. Rare classes should be far from the "
        "others (↑ higher is better) and compact (↓ lower is better)."
    )
    table = Table(columns, cells, "Cosine distances per method")
    return Section("geometry", title, caption, (table,))


def _one_per_adapter(found: ComparisonResult) -> list[ComparisonRow]:
    return list({row.title: row for row in reversed(found.rows)}.values())[::-1]


def other_section(found: ComparisonResult) -> Section:
    """Accuracy and calibration error of each row."""
    columns = (
        Column("method", numeric=False),
        Column("accuracy", "share of all test samples; dominated by frequent classes"),
        Column("balanced accuracy", "mean recall over classes"),
        Column("ECE", "expected calibration error, points; 0 is perfect"),
        Column("tail ECE", "expected calibration error on tail classes, points"),
    )
    rows = tuple(
        (
            _label_cell(row),
            Cell(percent(row.accuracy)),
            Cell(percent(row.balanced_accuracy)),
            *(Cell(percent(row.ece[scope] if row.ece else None)) for scope in ("all", "tail")),
        )
        for row in found.rows
    )
    caption = (
        "In percent. Calibration error: how far predicted probabilities are from observed "
        "frequencies."
    )
    table = Table(columns, rows, "Accuracy and calibration")
    return Section("other", "Accuracy and calibration", caption, (table,))


def cost_section(found: ComparisonResult) -> Section:
    """Time, memory and trained parameters of each row."""
    columns = (
        Column("method", numeric=False),
        Column("own time", "training of this method only"),
        Column("total time", "including everything the method builds on"),
        Column("peak memory"),
        Column("trained parameters"),
    )
    rows = tuple(
        (
            _label_cell(row),
            *text_cells(
                (
                    duration(row.seconds and row.seconds.own),
                    duration(row.seconds and row.seconds.total),
                    megabytes(row.peak_memory_mb),
                    integer(row.trained_parameters),
                )
            ),
        )
        for row in found.rows
    )
    caption = (
        "For one seed, on the machine named below. The total includes what a method builds on, "
        "such as the adapter that de-biasing starts from, as if nothing were shared."
    )
    return Section("cost", "Cost", caption, (Table(columns, rows, "Cost"),))


def classes_section(found: ComparisonResult) -> Section:
    """Draw and list the score of each class; only a few methods if there are many."""
    title = f"{found.class_measure} per class"
    names = [one.name for one in found.classes]
    rows = _drawn_rows(found)
    if not names or not any(row.main.per_class for row in rows):
        return left_out("classes", title, "no per-class scores were stored")
    several = len(found.seeds) > 1
    caption = (
        f"{found.class_measure} of each class in percent, most frequent first"
        + (
            ", mean and standard deviation over the seeds whose test split has the class"
            if several
            else ""
        )
        + f"{_which_rows(found, rows)}."
    )
    groups = [found.group_of.get(name) for name in names]
    lines = "standard deviations over seeds" if several else "no intervals for one seed"
    picture = score_dots(names, groups, _series(rows, names), lines=lines)
    blocks = (picture, _class_table(found, rows, names))
    return Section("classes", title, caption, blocks)


def _which_rows(found: ComparisonResult, rows: Sequence[ComparisonRow]) -> str:
    if len(rows) == len(found.rows):
        return ""
    candidates = found.under(rows[0].probe)
    text = f"; with the probe {rows[0].probe}" if len(found.probes) > 1 else ""
    if len(rows) < len(candidates):
        kept = "those best on the tail"
        if found.against_title is not None:
            kept = f"{found.against_title} and {kept}"
        text += f"; {len(rows)} of {len(candidates)} methods, {kept}"
    return text


def _drawn_rows(found: ComparisonResult) -> list[ComparisonRow]:
    """Return at most six rows of the first probe: the reference, then the best on the tail."""
    rows = found.under(found.probes[0])

    def importance(row: ComparisonRow) -> tuple[bool, bool, float]:
        is_against = row.adapter == found.against
        return (
            not is_against,
            row.leaks,
            -(row.main.scores["tail"].mean or row.main.scores["all"].mean or 0.0),
        )

    kept = sorted(rows, key=importance)[:_MOST_DRAWN]
    return [row for row in rows if row in kept]


def _series(rows: Sequence[ComparisonRow], names: Sequence[str]) -> list[Series]:
    styles = zip(STRONG_COLOURS, MARKERS, strict=False)
    return [
        Series(shorten(row.title, 28), *style, tuple(map(_around, _by_class(row, names))))
        for row, style in zip(rows, styles, strict=False)
    ]


def _around(one: ClassSpread) -> tuple[float | None, tuple[float, float] | None]:
    """Return a score minus and plus its standard deviation."""
    if one.mean is None or one.deviation is None:
        return one.mean, None
    return one.mean, (max(one.mean - one.deviation, 0.0), min(one.mean + one.deviation, 1.0))


def _by_class(row: ComparisonRow, names: Sequence[str]) -> list[ClassSpread]:
    known = {one.name: one for one in row.main.per_class}
    return [known[name] if name in known else ClassSpread(name) for name in names]


def _class_table(
    found: ComparisonResult, rows: Sequence[ComparisonRow], names: Sequence[str]
) -> Table:
    spreads = [_by_class(row, names) for row in rows]
    columns = (
        Column("class", numeric=False),
        Column("group", numeric=False),
        Column("train", "training samples" + _mean_over_seeds(found)),
        *(Column(shorten(row.title, 18), row.title) for row in rows),
    )
    cells = tuple(
        (
            class_cell(one.name),
            Cell(found.group_of.get(one.name, MISSING)),
            Cell(integer(one.n_train)),
            *(Cell(spread.text()) for spread in of_rows),
        )
        for one, *of_rows in zip(found.classes, *spreads, strict=True)
    )
    return Table(columns, cells, f"{found.class_measure} per class and method")


def _mean_over_seeds(found: ComparisonResult) -> str:
    return ", mean over seeds" if found.resplit else ""


def measures_section(found: ComparisonResult) -> Section:
    """One compact table: mean over seeds with standard deviation."""
    cells = tuple(_measure_cells(row, row.measures) for row in found.rows if row.measures)
    if not cells:
        return left_out(*_MEASURES, "the rows were measured by an earlier version")
    caption = (
        "In percent, mean ± standard deviation over seeds. AUROC and AUPRC measure whether a "
        "class's own probability ranks its samples above all others; AUPRC depends on class "
        "frequencies in the test split, and its chance level is shown in grey. Tail coverage: "
        "share of tail samples whose prediction set, with thresholds from validation, contains "
        "the true class; next to it the mean set size. Tail retrieval: mean average precision of "
        "tail test images searched among the training images by cosine similarity, without a head."
    )
    columns = (
        Column("method", numeric=False),
        Column("few-shot", "mean recall of classes with fewer than 20 training samples"),
        Column("worst class", "lowest recall of any class"),
        Column("G-mean", "geometric mean of the recalls; one class at 0 makes it 0"),
        Column("AUROC", "mean over classes; chance is 50"),
        *(Column(f"{scope} AUPRC", "mean average precision") for scope in ("head", "tail")),
        Column("tail retrieval", "mean average precision of a search among training images"),
        Column("tail coverage"),
        Column("set size", "classes in the prediction set of a tail sample"),
    )
    table = Table(columns, cells, "Worst class, ranking and coverage per method")
    without = [row.label for row in found.rows if not row.measures]
    text = f"Not shown, measured by an earlier version: {', '.join(without)}."
    return Section(*_MEASURES, caption, (table, *([Note(text)] if without else [])))


def _measure_cells(row: ComparisonRow, found: Measures) -> tuple[Cell, ...]:
    size = found.set_size["tail"].mean
    return (
        _label_cell(row),
        Cell(found.shots["few"].text()),
        Cell(found.worst_class_recall.text()),
        Cell(found.g_mean.text()),
        Cell(found.auroc["all"].text()),
        *(_auprc_cell(found, scope) for scope in ("head", "tail")),
        Cell(MISSING if found.retrieval is None else found.retrieval["tail"].text()),
        Cell(found.coverage["tail"].text()),
        Cell(decimal(size, digits=1)),
    )


def _auprc_cell(found: Measures, scope: str) -> Cell:
    chance = percent(found.prevalence[scope].mean)
    return Cell(found.auprc[scope].text(), "" if chance == MISSING else f"chance {chance}")
