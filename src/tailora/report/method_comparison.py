"""Methods over seeds on one page, in the order in which a busy practitioner asks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tailora.report.blocks import Block, Facts, Listing, Note, Page, Section, Source
from tailora.report.measure_section import measures_section
from tailora.report.method_class_section import classes_section
from tailora.report.method_row_sections import (
    cost_section,
    forest_section,
    geometry_section,
    grid_section,
    other_section,
    ranks_section,
    scores_section,
    verdict_section,
)
from tailora.report.method_rows import Compared, read_compared
from tailora.report.numbers import MISSING, integer, number
from tailora.report.page import write_page
from tailora.report.record_sections import code_state, machine_text, version_list
from tailora.report.tuning_section import tuning_section

_ENDS: Final = ("started", "finished")


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
        verdict_section(compared),
        scores_section(compared),
        *([grid_section(compared)] if len(compared.probes) > 1 else []),
        forest_section(compared),
        ranks_section(compared),
        classes_section(compared),
        measures_section(compared),
        geometry_section(compared),
        other_section(compared),
        cost_section(compared),
        *([tuning_section(comparison["tuning"])] if comparison.get("tuning") else []),
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
            ("machine", _machines_text(entry)),
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


def _machines_text(entry: Mapping[str, Any]) -> str:
    """Name each kind of machine; times of unlike ones cannot be compared."""
    kinds = entry.get("machines") or [entry.get("machine") or {}]
    text = "; ".join(map(machine_text, kinds))
    return text if len(kinds) < 2 else f"{text} (unlike machines: compare no times)"


def _times(entry: Mapping[str, Any]) -> str:
    ends = (str(entry.get(key) or MISSING)[:16].replace("T", " ") for key in _ENDS)
    return ", ".join(ends)
