"""The report of one run, in the order in which a busy practitioner asks."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from tailora.report.blocks import Page, Section
from tailora.report.debias_sections import composition_section, geometry_section, map_section
from tailora.report.error_sections import confusion_section, examples_section, places_section
from tailora.report.label_value_section import label_value_section
from tailora.report.numbers import integer, number
from tailora.report.page import write_page
from tailora.report.rank_sections import collapse_section, priors_section, ranking_section
from tailora.report.reading import FinishedRun, method_name, read_run_folder
from tailora.report.record_sections import (
    adapted_section,
    caveats_section,
    cost_section,
    record_section,
)
from tailora.report.score_sections import (
    class_scores_section,
    headline_section,
    tail_section,
)
from tailora.report.training_section import training_section
from tailora.report.trust_sections import calibration_section, coverage_section, trust_section

RunSection = Callable[[FinishedRun], Section]

_SCORES: Final[tuple[RunSection, ...]] = (
    headline_section,
    trust_section,
    tail_section,
    class_scores_section,
)
_SECTIONS: Final[tuple[RunSection, ...]] = (
    label_value_section,
    ranking_section,
    priors_section,
    map_section,
    composition_section,
    confusion_section,
    examples_section,
    places_section,
    geometry_section,
    collapse_section,
    calibration_section,
    coverage_section,
    training_section,
    cost_section,
    adapted_section,
    caveats_section,
    record_section,
)


def write_report(folder: Path, *, out: Path | None = None, more: Sequence[RunSection] = ()) -> Path:
    """Write the report of a finished run as one HTML file that opens anywhere, offline.

    The same folder always gives the same bytes.

    Args:
        folder: Run folder.
        out: Where to write; default `report.html` in the folder.
        more: Sections of the run's task, after those on scores.

    Returns:
        The file written.

    Raises:
        RunError: A file of the folder is absent or unreadable.
        StorageError: The file cannot be written.
    """
    run = read_run_folder(folder)
    dataset = run.run.get("dataset") or {}
    page = Page(
        title=str(dataset.get("name") or folder.name),
        subtitle=_subtitle(run),
        sections=tuple(section(run) for section in (*_SCORES, *more, *_SECTIONS)),
        made_by=f"tailora {run.run.get('tailora', '')}".strip(),
    )
    return write_page(page, folder / "report.html" if out is None else out)


def _subtitle(run: FinishedRun) -> str:
    dataset, backbone = run.run.get("dataset") or {}, run.run.get("backbone") or {}
    parts = [
        f"{method_name(run.final['method'])} on {backbone.get('name') or 'an unnamed encoder'}"
    ]
    if run.run.get("started"):
        parts.append(str(run.run["started"])[:16].replace("T", " "))
    parts.append(f"{len(run.names)} classes")
    splits = [
        f"{integer(dataset[key])} {split}"
        for key, split in (("n_train", "train"), ("n_val", "validation"), ("n_test", "test"))
        if number(dataset.get(key)) is not None
    ]
    if splits:
        parts.append(f"{' / '.join(splits)} images")
    return " · ".join([*parts, *_pixels(dataset)])


def _pixels(dataset: dict[str, Any]) -> list[str]:
    bands, size = dataset.get("bands"), dataset.get("image_size")
    found = []
    if bands:
        named = isinstance(bands, list)
        found.append(f"bands {', '.join(map(str, bands))}" if named else f"{bands} bands")
    if size:
        sides = [size, size] if isinstance(size, int) else size
        text = " × ".join(map(str, sides)) if isinstance(sides, list) else str(sides)
        found.append(f"{text} px".replace(" ", "\N{NO-BREAK SPACE}"))
    return found
