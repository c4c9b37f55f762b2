"""The page of a comparison over seeds, most important results first."""

from collections.abc import Sequence
from pathlib import Path

from tailora.numbers import MISSING, counted, integer
from tailora.report.blocks import Block, Facts, Listing, Note, Page, Section, Source, write_page
from tailora.report.comparison_sections import (
    classes_section,
    cost_section,
    forest_section,
    geometry_section,
    grid_section,
    measures_section,
    other_section,
    ranks_section,
    scores_section,
    verdict_section,
)
from tailora.report.record_sections import code_state, listed, machine_text, version_list
from tailora.report.tuning_section import tuning_section
from tailora.runs.comparison import ComparisonResult


def write_method_comparison(found: ComparisonResult, out: Path) -> Path:
    """Write the page of a comparison over seeds, as a self-contained file.

    Args:
        found: The comparison.
        out: File to write.

    Returns:
        The file written.

    Raises:
        StorageError: The file cannot be written.
    """
    sections = (
        verdict_section(found),
        scores_section(found),
        *([grid_section(found)] if len(found.probes) > 1 else []),
        forest_section(found),
        ranks_section(found),
        classes_section(found),
        measures_section(found),
        geometry_section(found),
        other_section(found),
        cost_section(found),
        *([tuning_section(found.tuning)] if found.tuning else []),
        _record_section(found),
    )
    page = Page(
        title=f"Comparison of methods: {found.dataset.name or 'unnamed data'}",
        subtitle=_subtitle(found),
        sections=sections,
        made_by=f"tailora {found.tailora or ''}".strip(),
    )
    return write_page(page, out)


def _subtitle(found: ComparisonResult) -> str:
    n_adapters = len({row.title for row in found.rows})
    parts = [
        f"{counted(n_adapters, 'method')} with {counted(len(found.probes), 'probe')} over "
        f"{counted(len(found.seeds), 'seed')}",
        f"on {found.backbone.name or 'an unnamed encoder'}",
    ]
    if found.started:
        parts.append(_minute(found.started))
    parts.append(counted(len(found.classes), "class"))
    data = found.dataset
    splits = {"train": data.n_train, "validation": data.n_val, "test": data.n_test}
    sizes = [f"{_extent(values)} {split}" for split, values in splits.items() if values]
    if sizes:
        parts.append(f"{' / '.join(sizes)} images")
    return " · ".join(parts)


def _extent(values: Sequence[int]) -> str:
    return " to ".join(dict.fromkeys(integer(end) for end in (min(values), max(values))))


def _minute(moment: str | None) -> str:
    return (moment or MISSING)[:16].replace("T", " ")


def _record_section(found: ComparisonResult) -> Section:
    encoder, data = found.backbone, found.dataset
    facts = Facts(
        (
            ("seeds", ", ".join(map(str, found.seeds)) or MISSING),
            ("test split", _split_text(found)),
            ("intervals", _interval_text(found)),
            ("data", data.name or MISSING),
            ("encoder", listed(encoder.name, encoder.source, encoder.license)),
            ("started, finished", f"{_minute(found.started)}, {_minute(found.finished)}"),
            ("machine", _machines_text(found)),
            *((("code", code_state(found.git)),) if found.git else ()),
            ("versions", version_list(found.versions)),
        )
    )
    blocks: list[Block] = [facts]
    if data.notes:
        blocks += [Note("Notes on the data:"), Listing(data.notes)]
    recipe = (found.recipe or "").strip()
    if recipe:
        blocks.append(Source(recipe, "Recipe"))
    caption = "Seeds, splits and resampling, and the common recipe."
    return Section("record", "Reproducibility", caption, tuple(blocks))


def _split_text(found: ComparisonResult) -> str:
    if len(found.seeds) == 1:
        return "one"
    if found.resplit:
        return "drawn per seed; such splits overlap, so the spread over seeds is slightly too small"
    return "the same in all seeds: only training differs between seeds"


def _interval_text(found: ComparisonResult) -> str:
    level = f"{100 * found.confidence:g} %"
    if found.resplit and len(found.seeds) > 1:
        return f"{level}, from the spread of paired differences over seeds (Student's t)"
    unit = "whole groups of samples" if found.unit == "group" else "single samples"
    text = (
        f"{level}, from {integer(found.replicates)} bootstrap resamples of {unit} of the test split"
    )
    if len(found.seeds) == 1:
        return f"{text}; without the variation of training"
    return f"{text} and the spread over seeds (Student's t), in quadrature"


def _machines_text(found: ComparisonResult) -> str:
    """List each type of machine; times on different types are not comparable."""
    kinds = found.machines or (found.machine,)
    text = "; ".join(map(machine_text, kinds))
    return text if len(kinds) < 2 else f"{text} (different machines: times are not comparable)"
