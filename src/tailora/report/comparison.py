"""Several runs side by side: scores, what they were given, and each class."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tailora.errors import ConfigError
from tailora.report.blocks import Block, Cell, Column, Note, Page, Section, Table
from tailora.report.class_figures import Series, score_dots
from tailora.report.names import class_cell
from tailora.report.numbers import MISSING, duration, integer, percent, percent_interval
from tailora.report.page import write_page
from tailora.report.reading import FinishedRun, method_name, read_run_folder, recipe_settings
from tailora.report.score_sections import SCOPES, score_cell, score_columns
from tailora.report.sentences import supported_best
from tailora.report.style import MARKERS, STRONG_COLOURS

_MOST_DRAWN: Final = 6
_SCORE_COLUMNS: Final = (
    Column("run", numeric=False),
    Column("method", numeric=False),
    *score_columns()[: len(SCOPES)],
    Column("tail ECE", "expected calibration error on tail classes, points"),
    Column("trained parameters"),
    Column("time"),
)


def write_comparison(folders: list[Path], out: Path) -> Path:
    """Write one page that sets several finished runs side by side.

    Args:
        folders: At least two run folders, in the order to show them.
        out: File to write.

    Returns:
        The file written.

    Raises:
        ConfigError: Fewer than two folders.
        RunError: A file of a folder is absent or unreadable.
        StorageError: The file cannot be written.
    """
    if len(folders) < 2:
        raise ConfigError(f"a comparison needs at least two runs, got {len(folders)}; name more")
    runs = dict(zip(_labels(folders), map(read_run_folder, folders), strict=True))
    page = Page(
        title="Runs side by side",
        subtitle=" · ".join(runs),
        sections=(_scores_section(runs), _settings_section(runs), _classes_section(runs)),
        made_by="tailora report",
    )
    return write_page(page, out)


def _labels(folders: Sequence[Path]) -> list[str]:
    """Name each folder by its last part, or by its whole path where last parts coincide."""
    short = [folder.resolve().name for folder in folders]
    if len(set(short)) == len(short):
        return short
    return [f"{position}: {folder}" for position, folder in enumerate(folders, start=1)]


def _scores_section(runs: Mapping[str, FinishedRun]) -> Section:
    same_data = _same_test_data(list(runs.values()))
    entries = [(label, run, method) for label, run in runs.items() for method in run.methods]
    methods = [method for _, _, method in entries]
    best = {scope: supported_best(methods, [], scope) if same_data else None for scope in SCOPES}
    rows = tuple(
        (
            Cell(label, title=str(run.path)),
            Cell(method_name(method["method"])),
            *(score_cell(method, scope, bold=best[scope] == i) for scope in SCOPES),
            Cell(percent((method.get("ece_by_group") or {}).get("tail"))),
            Cell(integer(method.get("trained_parameters"))),
            Cell(duration(method.get("seconds"))),
        )
        for i, (label, run, method) in enumerate(entries)
    )
    caption = (
        "Macro-F1 in percent on the test split, with intervals in brackets. The best value of a "
        "column is bold only where its interval clears every other one."
    )
    blocks: list[Block] = [Table(_SCORE_COLUMNS, rows, "Macro-F1 of every run and method")]
    if not same_data:
        text = "The runs saw different data: their scores cannot be compared directly."
        blocks.insert(0, Note(text, "bad"))
    return Section("scores", "Scores", caption, tuple(blocks))


def _settings_section(runs: Mapping[str, FinishedRun]) -> Section:
    settings = {label: _settings(run) for label, run in runs.items()}
    keys = list(dict.fromkeys(key for found in settings.values() for key in found))
    rows = tuple(
        (Cell(key), *(Cell(found.get(key, MISSING)) for found in settings.values()))
        for key in keys
        if len({found.get(key) for found in settings.values()}) > 1
    )
    caption = "Only what differs; every other setting is the same in all runs."
    if not rows:
        note = Note("The runs have the same recipe, data, seed and encoder.")
        return Section("settings", "What differs", caption, (note,))
    columns = (Column("setting", numeric=False), *(Column(label, numeric=False) for label in runs))
    return Section("settings", "What differs", caption, (Table(columns, rows, "Settings"),))


def _settings(run: FinishedRun) -> dict[str, str]:
    dataset, machine = run.run.get("dataset") or {}, run.run.get("machine") or {}
    backbone = run.run.get("backbone") or {}
    return {
        "data": str(dataset.get("name")),
        "data fingerprint": str(dataset.get("fingerprint")),
        "encoder": str(backbone.get("name")),
        "encoder sha256": str(backbone.get("sha256")),
        "seed": str(run.run.get("seed")),
        "tailora version": str(run.run.get("tailora")),
        "device": str(machine.get("device")),
        **recipe_settings(run.recipe),
    }


def _classes_section(runs: Mapping[str, FinishedRun]) -> Section:
    first = next(iter(runs.values()))
    if any(set(run.names) != set(first.names) for run in runs.values()):
        note = Note("Left out: the runs have different classes.")
        return Section("classes", "F1 per class", "", (note,))
    names = [first.names[c] for c in first.order]
    scores = {label: run.per_class(run.final) for label, run in runs.items()}
    rows = tuple(
        (
            class_cell(name),
            Cell(first.group_of.get(name, MISSING)),
            *(_class_cell(found.get(name, {})) for found in scores.values()),
        )
        for name in names
    )
    columns = (
        Column("class", numeric=False),
        Column("group", numeric=False),
        *(Column(label) for label in runs),
    )
    caption = "F1 of each run's final method, in percent, most frequent class first."
    blocks: list[Block] = [Table(columns, rows, "F1 per class and run")]
    if len(runs) <= _MOST_DRAWN:
        groups = [first.group_of.get(name) for name in names]
        blocks.insert(0, score_dots(names, groups, _series(scores, names)))
    return Section("classes", "F1 per class", caption, tuple(blocks))


def _series(
    scores: Mapping[str, Mapping[str, Mapping[str, Any]]], names: Sequence[str]
) -> list[Series]:
    looks = zip(STRONG_COLOURS, MARKERS, strict=False)
    return [
        Series(label, colour, marker, tuple(dict(found.get(name, {})) for name in names))
        for (label, found), (colour, marker) in zip(scores.items(), looks, strict=False)
    ]


def _class_cell(scores: Mapping[str, Any]) -> Cell:
    return Cell(percent(scores.get("f1")), percent_interval(scores.get("f1_interval")))


def _same_test_data(runs: Sequence[FinishedRun]) -> bool:
    prints = {(run.run.get("dataset") or {}).get("fingerprint") for run in runs}
    return len(prints) == 1
