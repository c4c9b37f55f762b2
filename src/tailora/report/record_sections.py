"""The record: what it cost, what was adapted, what is wrong with the data, how to repeat it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tailora.report.blocks import (
    Block,
    Cell,
    Column,
    Facts,
    Listing,
    Note,
    Section,
    Source,
    Table,
    left_out,
    text_cells,
)
from tailora.report.numbers import MISSING, duration, integer, number
from tailora.report.reading import FinishedRun

_MOST_LISTED: Final = 12


def cost_section(run: FinishedRun) -> Section:
    """Time, memory and parameters per stage."""
    stages = run.run.get("stages") or []
    if not stages:
        return left_out("cost", "What it cost", "the run kept no times")
    rows = tuple(_stage_row(stage) for stage in stages)
    seconds = sum(number(stage.get("seconds")) or 0 for stage in stages)
    memory = max(number(stage.get("peak_memory_mb")) or 0 for stage in stages)
    total = text_cells(("all", duration(seconds), megabytes(memory or None), ""))
    columns = (
        Column("stage", numeric=False),
        Column("time"),
        Column("peak memory"),
        Column("trained parameters"),
    )
    caption = "Time, peak memory and trained parameters of each stage on the machine named below."
    return Section("cost", "What it cost", caption, (Table(columns, rows, "Cost", (total,)),))


def adapted_section(run: FinishedRun) -> Section:
    """Which modules of the encoder got an adapter."""
    adapted = run.run.get("adapted") or []
    if not adapted:
        return left_out("adapted", "What was adapted", "no module of the encoder was adapted")
    rows = tuple(_adapted_row(entry) for entry in adapted)
    layers, parameters = (
        integer(sum(number(entry.get(key)) or 0 for entry in adapted))
        for key in ("count", "parameters")
    )
    total = text_cells(("all", layers, "", parameters))
    columns = (
        Column("module", numeric=False),
        Column("layers"),
        Column("weight"),
        Column("adapter parameters"),
    )
    caption = "The encoder's weights stay as they were; only these small additions were trained."
    table = Table(columns, rows, "Adapted modules", (total,))
    return Section("adapted", "What was adapted", caption, (table, *_spectrum_note(run)))


def _spectrum_note(run: FinishedRun) -> tuple[Block, ...]:
    """Say how evenly the adapter uses its directions; tuners without a product B A say nothing."""
    found = run.run.get("spectrum")
    if not found:
        return ()
    return (
        Note(
            f"How evenly the adapter uses its directions: on average {found['effective_rank']:.1f} "
            f"directions a layer carry its change, the strongest with {found['top_energy']:.0%} of "
            f"it (evenness {found['entropy']:.2f}, from 0 for one direction to 1 for all alike)."
        ),
    )


def caveats_section(run: FinishedRun) -> Section:
    """Notes on the data, duplicates across splits and broken files."""
    dataset = run.run.get("dataset") or {}
    blocks = data_caveats(
        dataset.get("notes") or [], dataset.get("duplicates") or [], dataset.get("broken") or []
    )
    caption = "What to know about the images before believing any number above."
    return Section("caveats", "Caveats of the data", caption, blocks)


def data_caveats(
    notes: list[str], duplicates: list[Mapping[str, Any]], broken: list[str]
) -> tuple[Block, ...]:
    """Turn findings about the data into blocks; says so when there are none.

    Args:
        notes: Sentences.
        duplicates: Entries `{"ids", "splits"}`, one per set of equal images.
        broken: Files that could not be read.
    """
    leaks = [entry for entry in duplicates if len(set(entry["splits"])) > 1]
    inside = [entry for entry in duplicates if entry not in leaks]
    blocks: list[Block] = []
    if leaks:
        text = (
            f"In more than one split: {_how_many(leaks, 'image')}. Test scores are too good "
            "by what the model remembers."
        )
        blocks += [Note(text, "bad"), _listing([_leak(entry) for entry in leaks])]
    if inside:
        blocks.append(Note(f"More than once inside one split: {_how_many(inside, 'image')}."))
    if broken:
        text = f"Unreadable and left out: {_how_many(broken, 'file')}."
        blocks += [Note(text, "open"), _listing(broken)]
    if notes:
        blocks.append(_listing(notes))
    return tuple(blocks) or (Note("Nothing found: no duplicates across splits, no broken files."),)


def record_section(run: FinishedRun) -> Section:
    """Recipe, versions, seed, machine and code state."""
    facts = Facts(
        tuple(
            (name, text)
            for name, text in (
                ("seed", str(run.run.get("seed", MISSING))),
                ("started", str(run.run.get("started") or MISSING)),
                ("data", _named(run.run.get("dataset"), "name", "fingerprint")),
                ("encoder", _named(run.run.get("backbone"), "name", "source", "sha256")),
                ("machine", machine_text(run.run.get("machine") or {})),
                ("code", code_state(run.run.get("git"))),
                ("versions", version_list(run.run.get("versions") or {})),
            )
        )
    )
    caption = "Everything needed to run it again: the full recipe, every default filled in."
    blocks = (facts, Source(run.recipe.strip(), "Recipe"))
    return Section("record", "How to repeat it", caption, blocks)


def megabytes(value: Any) -> str:
    """Write a size in MB."""
    found = number(value)
    return MISSING if found is None else f"{integer(found)} MB"


def machine_text(machine: Mapping[str, Any]) -> str:
    """Name the machine, most telling facts first."""
    parts = [str(machine[key]) for key in ("device", "cpu", "platform") if machine.get(key)]
    if machine.get("cores"):
        parts.append(f"{machine['cores']} cores")
    if number(machine.get("memory_gb")) is not None:
        parts.append(f"{machine['memory_gb']:g} GB memory")
    return ", ".join(parts) or MISSING


def code_state(git: Mapping[str, Any] | None) -> str:
    """Name the commit, and whether it was as committed."""
    if not git:
        return "not under version control"
    return f"commit {git.get('commit')}" + (" with uncommitted changes" if git.get("dirty") else "")


def version_list(versions: Mapping[str, str]) -> str:
    """List names and versions, sorted."""
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) or MISSING


def _stage_row(stage: Mapping[str, Any]) -> tuple[Cell, ...]:
    return text_cells(
        (
            stage["name"],
            duration(stage.get("seconds")),
            megabytes(stage.get("peak_memory_mb")),
            integer(stage.get("trained_parameters") or None),
        )
    )


def _adapted_row(entry: Mapping[str, Any]) -> tuple[Cell, ...]:
    return text_cells(
        (
            entry["module"],
            integer(entry.get("count")),
            _size(entry.get("shape")),
            integer(entry.get("parameters")),
        )
    )


def _listing(lines: list[str]) -> Listing:
    more = len(lines) - _MOST_LISTED
    shown = tuple(lines[:_MOST_LISTED])
    return Listing(shown if more <= 0 else (*shown, f"and {integer(more)} more"))


def _how_many(found: Sequence[Any], what: str) -> str:
    return f"1 {what}" if len(found) == 1 else f"{integer(len(found))} {what}s"


def _leak(entry: Mapping[str, Any]) -> str:
    if len(entry["ids"]) != len(entry["splits"]):
        return f"{' = '.join(entry['ids'])} ({', '.join(entry['splits'])})"
    pairs = zip(entry["ids"], entry["splits"], strict=True)
    return " = ".join(f"{name} ({split})" for name, split in pairs)


def _size(shape: Any) -> str:
    if isinstance(shape, (list, tuple)):
        return " × ".join(str(side) for side in shape)
    return MISSING if shape is None else str(shape)


def _named(value: Mapping[str, Any] | None, *keys: str) -> str:
    return ", ".join(str((value or {})[key]) for key in keys if (value or {}).get(key)) or MISSING
