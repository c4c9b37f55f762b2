"""Several runs compared: scores, settings, and each class."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tailora.errors import ConfigError
from tailora.metrics import ClassMetrics
from tailora.numbers import MISSING, duration, integer, percent, percent_interval
from tailora.registry import row_title
from tailora.report.blocks import (
    Block,
    Cell,
    Column,
    Note,
    Page,
    Section,
    Table,
    class_cell,
    write_page,
)
from tailora.report.class_figures import Series, score_dots
from tailora.report.score_sections import SCOPES, score_cell, score_columns
from tailora.report.sentences import supported_best
from tailora.report.style import MARKERS, STRONG_COLOURS
from tailora.runs.result import RunResult, read_run
from tailora.storage import parse_toml

_MOST_DRAWN: Final = 6
_SCORE_COLUMNS: Final = (
    Column("run", numeric=False),
    Column("method", numeric=False),
    *score_columns()[: len(SCOPES)],
    Column("tail ECE", "expected calibration error on tail classes, points"),
    Column("trained parameters"),
    Column("time"),
)


def write_comparison(found: Sequence[RunResult | Path], out: Path) -> Path:
    """Write one page that compares several finished runs.

    Args:
        found: At least two runs from `read_run`, or their folders, in display order.
        out: File to write.

    Returns:
        The file written.

    Raises:
        ConfigError: Fewer than two runs.
        RunError: A file of a folder is missing or unreadable.
        StorageError: The file cannot be written.
    """
    if len(found) < 2:
        raise ConfigError(f"a comparison needs at least two runs, got {len(found)}; add more")
    read = [run if isinstance(run, RunResult) else read_run(run) for run in found]
    runs = dict(zip(_labels([run.folder.path for run in read]), read, strict=True))
    page = Page(
        title="Comparison of runs",
        subtitle=" · ".join(runs),
        sections=(_scores_section(runs), _settings_section(runs), _classes_section(runs)),
        made_by="tailora report",
    )
    return write_page(page, out)


def _labels(folders: Sequence[Path]) -> list[str]:
    """Name each folder by its last part, or by its full path if last parts are equal."""
    short = [folder.resolve().name for folder in folders]
    if len(set(short)) == len(short):
        return short
    return [f"{position}: {folder}" for position, folder in enumerate(folders, start=1)]


def _scores_section(runs: Mapping[str, RunResult]) -> Section:
    same_data = _same_test_data(list(runs.values()))
    entries = [
        (label, run, method) for label, run in runs.items() for method in run.metrics.methods
    ]
    methods = [method for _, _, method in entries]
    best = {scope: supported_best(methods, [], scope) if same_data else None for scope in SCOPES}
    rows = tuple(
        (
            Cell(label, title=str(run.folder.path)),
            Cell(row_title(*method.row)),
            *(score_cell(method, scope, bold=best[scope] == i) for scope in SCOPES),
            Cell(percent(method.ece_by_group["tail"])),
            Cell(integer(method.trained_parameters)),
            Cell(duration(method.seconds)),
        )
        for i, (label, run, method) in enumerate(entries)
    )
    caption = (
        "Macro-F1 in percent on the test split, with intervals in brackets. The best value of a "
        "column is bold only if its interval does not overlap any other."
    )
    blocks: list[Block] = [Table(_SCORE_COLUMNS, rows, "Macro-F1 of every run and method")]
    if not same_data:
        text = "The runs used different data: their scores are not directly comparable."
        blocks.insert(0, Note(text, "bad"))
    return Section("scores", "Scores", caption, tuple(blocks))


def _settings_section(runs: Mapping[str, RunResult]) -> Section:
    settings = {label: _settings(run) for label, run in runs.items()}
    keys = list(dict.fromkeys(key for found in settings.values() for key in found))
    rows = tuple(
        (Cell(key), *(Cell(found.get(key, MISSING)) for found in settings.values()))
        for key in keys
        if len({found.get(key) for found in settings.values()}) > 1
    )
    caption = "Only settings that differ are shown."
    if not rows:
        note = Note("The runs have the same recipe, data, seed and encoder.")
        return Section("settings", "Differences", caption, (note,))
    columns = (Column("setting", numeric=False), *(Column(label, numeric=False) for label in runs))
    return Section("settings", "Differences", caption, (Table(columns, rows, "Settings"),))


def _settings(run: RunResult) -> dict[str, str]:
    record = run.record
    return {
        "data": record.dataset.name,
        "data fingerprint": record.dataset.fingerprint,
        "encoder": record.backbone.name,
        "encoder sha256": record.backbone.sha256,
        "seed": str(record.seed),
        "tailora version": str(record.tailora),
        "device": str(record.machine.device),
        **recipe_settings(run.recipe_text),
    }


def recipe_settings(recipe: str) -> dict[str, str]:
    r"""Flatten a recipe to dotted keys and values as text.

    Example:
        >>> recipe_settings("seed = 0\n[adapter]\nrank = 8")
        {'seed': '0', 'adapter.rank': '8'}
    """
    settings: dict[str, str] = {}

    def visit(prefix: str, value: object) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                visit(f"{prefix}.{key}" if prefix else key, inner)
        else:
            settings[prefix] = str(value)

    visit("", parse_toml(recipe))
    return settings


def _classes_section(runs: Mapping[str, RunResult]) -> Section:
    first = next(iter(runs.values()))
    if any(set(run.class_names) != set(first.class_names) for run in runs.values()):
        note = Note("Not shown: the runs have different classes.")
        return Section("classes", "F1 per class", "", (note,))
    names = [first.class_names[c] for c in first.order]
    groups = [first.groups[c] for c in first.order]
    scores = {label: _scores(run, names) for label, run in runs.items()}
    rows = tuple(
        (
            class_cell(name),
            Cell(group or MISSING),
            *(Cell(percent(one.f1), percent_interval(one.f1_interval)) for one in found),
        )
        for name, group, *found in zip(names, groups, *scores.values(), strict=True)
    )
    columns = (
        Column("class", numeric=False),
        Column("group", numeric=False),
        *(Column(label) for label in runs),
    )
    caption = "F1 of each run's final method, in percent, most frequent class first."
    blocks: list[Block] = [Table(columns, rows, "F1 per class and run")]
    if len(runs) <= _MOST_DRAWN:
        blocks.insert(0, score_dots(names, groups, _series(scores)))
    return Section("classes", "F1 per class", caption, tuple(blocks))


def _scores(run: RunResult, names: Sequence[str]) -> list[ClassMetrics]:
    found = {row.name: row for row in run.final.per_class}
    return [found[name] for name in names]


def _series(scores: Mapping[str, Sequence[ClassMetrics]]) -> list[Series]:
    looks = zip(STRONG_COLOURS, MARKERS, strict=False)
    return [
        Series(label, colour, marker, tuple((row.f1, row.f1_interval) for row in found))
        for (label, found), (colour, marker) in zip(scores.items(), looks, strict=False)
    ]


def _same_test_data(runs: Sequence[RunResult]) -> bool:
    return len({run.record.dataset.fingerprint for run in runs}) == 1
