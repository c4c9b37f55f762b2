"""The report of one run, most important results first."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tailora.numbers import counted, integer
from tailora.registry import row_title
from tailora.report.blocks import Page, Section, write_page
from tailora.report.debias_sections import (
    composition_section,
    geometry_section,
    has_clusters,
    map_section,
)
from tailora.report.error_sections import confusion_section, examples_section, places_section
from tailora.report.label_value_section import label_value_section
from tailora.report.rank_sections import collapse_section, priors_section, ranking_section
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
from tailora.runs.result import RunResult, read_unreported

RunSection = Callable[[RunResult], Section | None]

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
_OF_DEBIASING: Final = (map_section, composition_section)


def write_report(
    run: RunResult | Path, *, out: Path | None = None, more: Sequence[RunSection] = ()
) -> Path:
    """Write the report of a finished run as one self-contained HTML file.

    The same folder always gives the same bytes.

    Args:
        run: From `read_run`, or its folder.
        out: Output file; default `report.html` in the folder.
        more: Sections of the run's task, after those on scores; None is one that says nothing.

    Returns:
        The file written.

    Raises:
        RunError: A file of the folder is missing or unreadable.
        StorageError: The file cannot be written.
    """
    run = read_unreported(run) if isinstance(run, Path) else run
    folder = run.folder.path
    page = Page(
        title=run.record.dataset.name or folder.name,
        subtitle=_subtitle(run),
        sections=tuple(
            made
            for section in (*_SCORES, *more, *_SECTIONS)
            if section not in _OF_DEBIASING or has_clusters(run)
            if (made := section(run)) is not None
        ),
        made_by=f"tailora {run.record.tailora or ''}".strip(),
    )
    return write_page(page, folder / "report.html" if out is None else out)


def _subtitle(run: RunResult) -> str:
    data = run.record.dataset
    parts = [f"{row_title(*run.final.row)} on {run.record.backbone.name}"]
    if run.record.started:
        parts.append(run.record.started[:16].replace("T", " "))
    parts.append(counted(len(run.classes), "class"))
    sizes = {"train": data.n_train, "validation": data.n_val, "test": data.n_test}
    splits = [f"{integer(size)} {name}" for name, size in sizes.items() if size is not None]
    parts += [f"{' / '.join(splits)} images", counted(data.bands, "band")]
    if data.image_size:
        size = f"{data.image_size} × {data.image_size} px"
        parts.append(size.replace(" ", "\N{NO-BREAK SPACE}"))
    return " · ".join(parts)
