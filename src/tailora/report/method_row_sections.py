"""Sections with a row per method: scores, differences, ranks, distances, calibration, cost."""

from typing import Final

from tailora.report.blocks import Cell, Column, Section, Table, left_out, text_cells
from tailora.report.method_figures import difference_forest, rank_lines, score_grid
from tailora.report.method_rows import LEAKS, Compared, ComparedRow, difference_cell
from tailora.report.method_verdict import verdict_notes
from tailora.report.names import shorten
from tailora.report.numbers import decimal, duration, integer, number, percent
from tailora.report.record_sections import megabytes
from tailora.report.score_sections import SCOPES

_DISTANCES: Final = ("inter_head_tail", "inter_tail_tail", "intra_tail")


def verdict_section(compared: Compared) -> Section:
    """Say which method is best and which gains are supported."""
    caption = (
        "Macro-F1 in percent on the test split: the mean over classes, so a rare class counts as "
        "much as a frequent one."
    )
    if compared.against is not None:
        caption += (
            f" A gain over {compared.against} is claimed only where the "
            f"{100 * compared.confidence:g} % interval of the paired difference, under the same "
            "probe, lies above zero."
        )
    return Section("verdict", "What came out", caption, verdict_notes(compared))


def scores_section(compared: Compared) -> Section:
    """Macro-F1 of each method, a table per probe."""
    what = "mean ± deviation over seeds" if len(compared.seeds) > 1 else "of the one seed"
    caption = f"Macro-F1 in percent, {what}; one table a probe, the same columns in each."
    if len(compared.probes) == 1:
        caption = f"Macro-F1 in percent, {what}, all under the probe {compared.probes[0]}."
    caption += (
        " None is bold: the highest mean is no proof of a lead, the differences and their "
        "intervals are what to go by."
    )
    tables = tuple(_score_table(compared, probe) for probe in compared.probes)
    return Section("scores", "Scores", caption, tables)


def _score_table(compared: Compared, probe: str) -> Table:
    first = f"probe: {shorten(probe, 30)}" if len(compared.probes) > 1 else "method"
    columns = [Column(first, numeric=False), *(Column(scope) for scope in SCOPES)]
    if compared.against is not None:
        against = shorten(compared.against, 24)
        hint = "paired difference of macro-F1, points, with its interval; same probe, same seeds"
        columns += [Column(f"{scope} − {against}", hint) for scope in ("tail", "all")]
    columns += [
        Column("time", "with all that the method builds on"),
        Column("parameters", "that were trained"),
    ]
    rows = tuple(_score_row(compared, row) for row in compared.under(probe))
    return Table(tuple(columns), rows, f"Macro-F1 per method under the probe {probe}")


def _score_row(compared: Compared, row: ComparedRow) -> tuple[Cell, ...]:
    changes = [difference_cell(row.difference(scope)) for scope in ("tail", "all")]
    return (
        _name_cell(row),
        *(Cell(row.score(scope)) for scope in SCOPES),
        *(changes if compared.against is not None else []),
        Cell(duration(row.part("seconds").get("total"))),
        Cell(integer(row.entry.get("trained_parameters"))),
    )


def _name_cell(row: ComparedRow) -> Cell:
    tag = LEAKS if row.leaks else ""
    method, _, told = row.name.partition(", ")  # what was varied may need several lines
    detail = "; ".join(part for part in (told, row.changes) if part)
    return Cell(shorten(method, 30), detail, title=row.name, tag=tag)


def _label_cell(row: ComparedRow) -> Cell:
    return Cell(row.short, title=row.label, tag=LEAKS if row.leaks else "")


def grid_section(compared: Compared) -> Section:
    """Macro-F1 of each method under each probe, as shades."""
    caption = (
        "Every method under every probe. Down a column the probe is the same, so what changes is "
        "the method's; along a row it is the probe's. Shades are scaled to each panel."
    )
    return Section("grid", "Method by probe", caption, (score_grid(compared),))


def forest_section(compared: Compared) -> Section:
    """Difference of each method to the one compared against."""
    title = "What is gained"
    picture = difference_forest(compared)
    if picture is None:
        return left_out("differences", title, "no method was compared against")
    over = ", mean over seeds" if len(compared.seeds) > 1 else ""
    caption = (
        f"Macro-F1 minus that of {compared.against} under the same probe{over}, with "
        f"{100 * compared.confidence:g} % intervals. A line that crosses zero leaves it open which "
        "of the two is better."
    )
    return Section("differences", title, caption, (picture,))


def ranks_section(compared: Compared) -> Section:
    """Mean rank of each row over seeds."""
    title = "Who is ahead from seed to seed"
    if len(compared.seeds) == 1:
        return left_out("ranks", title, "one seed has one order, which says nothing of the next")
    picture = rank_lines(compared)
    if picture is None:
        return left_out("ranks", title, "no ranks were kept")
    caption = (
        "The rank of each row in each seed, averaged over seeds; best on the tail first, ties "
        "share their mean. It shows the order, not how large a lead is."
    )
    return Section("ranks", title, caption, (picture,))


def geometry_section(compared: Compared) -> Section:
    """Cosine distances between and within classes, by method."""
    title = "Distances between classes"
    # one probe suffices: the features of an adapter are the same under every probe
    rows = [row for row in _one_per_adapter(compared) if row.entry.get("geometry")]
    if not rows:
        return left_out("geometry", title, "no distances were measured")
    columns = (
        Column("method", numeric=False),
        Column("head to tail ↑", "between a head class and a tail class; more is better"),
        Column("tail to tail ↑", "between two tail classes; more is better"),
        Column("within tail ↓", "between samples of one tail class; less is better"),
        Column("purity of clusters", "share of samples in the majority class of their cluster"),
    )
    cells = tuple(
        (
            _name_cell(row),
            *(Cell(decimal(row.part("geometry").get(key))) for key in _DISTANCES),
            Cell(decimal(row.entry.get("purity"), digits=2)),
        )
        for row in rows
    )
    if all(number(row.entry.get("purity")) is None for row in rows):
        columns, cells = columns[:-1], tuple(row[:-1] for row in cells)
    caption = (
        "Mean cosine distance of features on the test split. Rare classes should move away from "
        "the others (↑ more is better) and huddle together (↓ less is better)."
    )
    table = Table(columns, cells, "Cosine distances per method")
    return Section("geometry", title, caption, (table,))


def _one_per_adapter(compared: Compared) -> list[ComparedRow]:
    return list({row.name: row for row in reversed(compared.rows)}.values())[::-1]


def other_section(compared: Compared) -> Section:
    """Accuracy and calibration error of each row."""
    columns = (
        Column("method", numeric=False),
        Column("accuracy", "share of all test samples; frequent classes dominate it"),
        Column("balanced accuracy", "mean recall over classes"),
        Column("ECE", "expected calibration error, points; 0 is perfect"),
        Column("tail ECE", "expected calibration error on tail classes, points"),
    )
    rows = tuple(
        (
            _label_cell(row),
            *(Cell(percent(row.entry.get(key))) for key in ("accuracy", "balanced_accuracy")),
            *(Cell(percent(row.part("ece").get(scope))) for scope in ("all", "tail")),
        )
        for row in compared.rows
    )
    caption = "In percent. Calibration error: how far a stated probability is from the truth."
    table = Table(columns, rows, "Accuracy and calibration")
    return Section("other", "Accuracy and honesty of confidence", caption, (table,))


def cost_section(compared: Compared) -> Section:
    """Time, memory and trained parameters of each row."""
    columns = (
        Column("method", numeric=False),
        Column("own time", "training of this method alone"),
        Column("total time", "with all that the method builds on"),
        Column("peak memory"),
        Column("trained parameters"),
    )
    rows = tuple(
        (
            _label_cell(row),
            *text_cells(
                (
                    duration(row.part("seconds").get("own")),
                    duration(row.part("seconds").get("total")),
                    megabytes(row.entry.get("peak_memory_mb")),
                    integer(row.entry.get("trained_parameters")),
                )
            ),
        )
        for row in compared.rows
    )
    caption = (
        "For one seed, on the machine named below. The total counts what a method builds on, such "
        "as the adapter that de-biasing starts from, as if nothing were shared."
    )
    return Section("cost", "What it cost", caption, (Table(columns, rows, "Cost"),))
