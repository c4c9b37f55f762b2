"""Methods over seeds on one page, in the order in which a busy practitioner asks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tailora.report.blocks import (
    Block,
    Cell,
    Column,
    Facts,
    Listing,
    Note,
    Page,
    Section,
    Source,
    Table,
    left_out,
    text_cells,
)
from tailora.report.class_figures import Series, score_dots
from tailora.report.method_figures import difference_forest, rank_lines, score_grid
from tailora.report.method_rows import (
    LEAKS,
    Compared,
    ComparedRow,
    difference_cell,
    read_compared,
    spread,
)
from tailora.report.method_verdict import verdict_notes
from tailora.report.names import class_cell, shorten
from tailora.report.numbers import MISSING, decimal, duration, integer, number, percent
from tailora.report.page import write_page
from tailora.report.record_sections import code_state, machine_text, megabytes, version_list
from tailora.report.score_sections import SCOPES
from tailora.report.style import MARKERS, STRONG_COLOURS

_MOST_DRAWN: Final = len(MARKERS)
_DISTANCES: Final = ("inter_head_tail", "inter_tail_tail", "intra_tail")


def write_method_comparison(comparison: Mapping[str, Any], out: Path) -> Path:
    """Write one page that sets methods side by side over seeds, as a file that opens offline.

    Args:
        comparison: The content of comparison.json.
        out: File to write.

    Returns:
        The file written.

    Raises:
        RunError: Another schema, or no rows.
        StorageError: The file cannot be written.
    """
    compared = read_compared(comparison)
    dataset = comparison.get("dataset") or {}
    sections = (
        _verdict_section(compared),
        _scores_section(compared),
        *([_grid_section(compared)] if len(compared.probes) > 1 else []),
        _forest_section(compared),
        _ranks_section(compared),
        _classes_section(compared),
        _geometry_section(compared),
        _other_section(compared),
        _cost_section(compared),
        _record_section(compared),
    )
    page = Page(
        title=f"Methods side by side: {dataset.get('name') or 'unnamed data'}",
        subtitle=_subtitle(compared),
        sections=sections,
        made_by=f"tailora {comparison.get('tailora') or ''}".strip(),
    )
    return write_page(page, out)


def _subtitle(compared: Compared) -> str:
    entry = compared.entry
    n_adapters = len({row.name for row in compared.rows})
    parts = [
        f"{_counted(n_adapters, 'method')} under {_counted(len(compared.probes), 'probe')} over "
        f"{_counted(len(compared.seeds), 'seed')}",
        f"on {(entry.get('backbone') or {}).get('name') or 'an unnamed encoder'}",
    ]
    if entry.get("started"):
        parts.append(str(entry["started"])[:16].replace("T", " "))
    parts.append(_counted(len(compared.classes), "class", "classes"))
    dataset = entry.get("dataset") or {}
    sizes = [
        f"{_extent(dataset[key])} {split}"
        for key, split in (("n_train", "train"), ("n_val", "validation"), ("n_test", "test"))
        if dataset.get(key)
    ]
    if sizes:
        parts.append(f"{' / '.join(sizes)} images")
    return " · ".join(parts)


def _counted(count: int, one: str, several: str = "") -> str:
    return f"{count} {one if count == 1 else several or one + 's'}"


def _extent(values: Any) -> str:
    given = values if isinstance(values, list) else [values]
    found = [value for value in map(number, given) if value is not None]
    if not found:
        return MISSING
    return " to ".join(dict.fromkeys(integer(end) for end in (min(found), max(found))))


def _verdict_section(compared: Compared) -> Section:
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


def _scores_section(compared: Compared) -> Section:
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
    return Cell(shorten(row.name, 30), row.changes, title=row.name, tag=tag)


def _label_cell(row: ComparedRow) -> Cell:
    return Cell(row.short, title=row.label, tag=LEAKS if row.leaks else "")


def _grid_section(compared: Compared) -> Section:
    caption = (
        "Every method under every probe. Down a column the probe is the same, so what changes is "
        "the method's; along a row it is the probe's. Shades are scaled to each panel."
    )
    return Section("grid", "Method by probe", caption, (score_grid(compared),))


def _forest_section(compared: Compared) -> Section:
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


def _ranks_section(compared: Compared) -> Section:
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


def _classes_section(compared: Compared) -> Section:
    title = "F1 per class"
    names = [str(entry.get("name")) for entry in compared.classes]
    rows = _drawn_rows(compared)
    if not names or not any(row.entry.get("per_class") for row in rows):
        return left_out("classes", title, "no scores per class were kept")
    several = len(compared.seeds) > 1
    caption = (
        "F1 of each class in percent, most frequent first"
        + (", mean and deviation over the seeds whose test has the class" if several else "")
        + f"{_which_rows(compared, rows)}."
    )
    groups = [compared.group_of.get(name) for name in names]
    lines = "deviations over seeds" if several else "no lines for one seed"
    picture = score_dots(names, groups, _series(rows, names), lines=lines)
    blocks = (picture, _class_table(compared, rows, names))
    return Section("classes", title, caption, blocks)


def _which_rows(compared: Compared, rows: Sequence[ComparedRow]) -> str:
    if len(rows) == len(compared.rows):
        return ""
    candidates = compared.under(rows[0].probe)
    text = f"; under the probe {rows[0].probe}" if len(compared.probes) > 1 else ""
    if len(rows) < len(candidates):
        kept = "those highest on the tail"
        if compared.against is not None:
            kept = f"{compared.against} and {kept}"
        text += f"; {len(rows)} of {len(candidates)} methods, {kept}"
    return text


def _drawn_rows(compared: Compared) -> list[ComparedRow]:
    """At most six rows of the first probe: the one compared against, then the best on the tail."""
    rows = compared.under(compared.probes[0])

    def importance(row: ComparedRow) -> tuple[bool, bool, float]:
        is_against = row.adapter == compared.entry.get("against")
        return not is_against, row.leaks, -(row.mean("tail") or row.mean("all") or 0.0)

    kept = sorted(rows, key=importance)[:_MOST_DRAWN]
    return [row for row in rows if row in kept]


def _series(rows: Sequence[ComparedRow], names: Sequence[str]) -> list[Series]:
    looks = zip(STRONG_COLOURS, MARKERS, strict=False)
    return [
        Series(shorten(row.name, 28), colour, marker, tuple(_class_scores(row, names)))
        for row, (colour, marker) in zip(rows, looks, strict=False)
    ]


def _class_scores(row: ComparedRow, names: Sequence[str]) -> list[dict[str, Any]]:
    found = _by_class(row)
    return [
        {"f1": (entry := found.get(name, {})).get("mean"), "f1_interval": _around(entry)}
        for name in names
    ]


def _around(entry: Mapping[str, Any]) -> tuple[float, float] | None:
    mean, deviation = number(entry.get("mean")), number(entry.get("deviation"))
    if mean is None or deviation is None:
        return None
    return max(mean - deviation, 0.0), min(mean + deviation, 1.0)


def _by_class(row: ComparedRow) -> dict[str, Mapping[str, Any]]:
    return {str(entry.get("name")): entry for entry in row.entry.get("per_class") or []}


def _class_table(compared: Compared, rows: Sequence[ComparedRow], names: Sequence[str]) -> Table:
    found = [_by_class(row) for row in rows]
    n_train = {str(entry.get("name")): entry.get("n_train") for entry in compared.classes}
    columns = (
        Column("class", numeric=False),
        Column("group", numeric=False),
        Column("train", "training samples" + _mean_over_seeds(compared)),
        *(Column(shorten(row.name, 18), row.name) for row in rows),
    )
    cells = tuple(
        (
            class_cell(name),
            Cell(compared.group_of.get(name, MISSING)),
            Cell(integer(n_train[name])),
            *(Cell(spread(scores.get(name))) for scores in found),
        )
        for name in names
    )
    return Table(columns, cells, "F1 per class and method")


def _mean_over_seeds(compared: Compared) -> str:
    return ", mean over seeds" if compared.entry.get("resplit") else ""


def _geometry_section(compared: Compared) -> Section:
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


def _other_section(compared: Compared) -> Section:
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


def _cost_section(compared: Compared) -> Section:
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


def _record_section(compared: Compared) -> Section:
    entry = compared.entry
    dataset, backbone = entry.get("dataset") or {}, entry.get("backbone") or {}
    keys = ("name", "source", "license")
    encoder = ", ".join(str(backbone[key]) for key in keys if backbone.get(key))
    facts = Facts(
        (
            ("seeds", ", ".join(map(str, compared.seeds)) or MISSING),
            ("test split", _split_text(compared)),
            ("intervals", _interval_text(compared)),
            ("data", str(dataset.get("name") or MISSING)),
            ("encoder", encoder or MISSING),
            ("started, finished", _times(entry)),
            ("machine", machine_text(entry.get("machine") or {})),
            ("code", code_state(entry.get("git"))),
            ("versions", version_list(entry.get("versions") or {})),
        )
    )
    blocks: list[Block] = [facts]
    if dataset.get("notes"):
        blocks += [Note("Notes on the data:"), Listing(tuple(map(str, dataset["notes"])))]
    recipe = str(entry.get("recipe") or "").strip()
    if recipe:
        blocks.append(Source(recipe, "Recipe"))
    caption = "Seeds, splits and resampling, and the recipe that all methods share."
    return Section("record", "How it was made", caption, tuple(blocks))


def _split_text(compared: Compared) -> str:
    if len(compared.seeds) == 1:
        return "one"
    if compared.entry.get("resplit"):
        return (
            "drawn anew by every seed; such splits overlap, so the spread over seeds is somewhat "
            "too small"
        )
    return "the same in all seeds: what differs from seed to seed is training alone"


def _interval_text(compared: Compared) -> str:
    entry = compared.entry
    level = f"{100 * compared.confidence:g} %"
    if entry.get("resplit") and len(compared.seeds) > 1:
        return f"{level}, from the spread of paired differences over seeds (Student's t)"
    unit = "whole groups of samples" if entry.get("unit") == "group" else "single samples"
    text = f"{level}, from {integer(entry.get('replicates'))} redraws of {unit} of the test split"
    if len(compared.seeds) == 1:
        return f"{text}; the chance of training is not in them"
    return f"{text} and the spread over seeds (Student's t), in quadrature"


def _times(entry: Mapping[str, Any]) -> str:
    ends = (str(entry.get(key) or MISSING)[:16].replace("T", " ") for key in _ENDS)
    return ", ".join(ends)


_ENDS: Final = ("started", "finished")
