"""Record: cost, adapted layers, data problems, reproducibility."""

from collections.abc import Mapping, Sequence
from typing import Final

from tailora.numbers import MISSING, counted, duration, integer, megabytes
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
from tailora.runs.folder import StageCost
from tailora.runs.provenance import GitState, Machine
from tailora.runs.result import AdapterLayers, Copies, RunResult

_MOST_LISTED: Final = 12


def cost_section(run: RunResult) -> Section:
    """Time, memory and parameters per stage."""
    stages = run.costs
    if not stages:
        return left_out("cost", "Cost", "no times were stored")
    rows = tuple(_stage_row(stage) for stage in stages)
    seconds = sum(stage.seconds for stage in stages)
    memory = max(stage.peak_memory_mb for stage in stages)
    total = text_cells(("all", duration(seconds), megabytes(memory or None), ""))
    columns = (
        Column("stage", numeric=False),
        Column("time"),
        Column("peak memory"),
        Column("trained parameters"),
    )
    caption = "Time, peak memory and trained parameters of each stage on the machine named below."
    return Section("cost", "Cost", caption, (Table(columns, rows, "Cost", (total,)),))


def adapted_section(run: RunResult) -> Section:
    """Modules of the encoder with an adapter."""
    adapted = run.record.adapted
    if not adapted:
        return left_out("adapted", "What was adapted", "no module of the encoder was adapted")
    rows = tuple(_adapted_row(entry) for entry in adapted)
    layers, parameters = (sum(one.count for one in adapted), sum(one.parameters for one in adapted))
    total = text_cells(("all", integer(layers), "", integer(parameters)))
    columns = (
        Column("module", numeric=False),
        Column("layers"),
        Column("weight"),
        Column("adapter parameters"),
    )
    caption = (
        f"The encoder's weights are unchanged; only this small addition was trained: {_how(run)}."
    )
    table = Table(columns, rows, "Adapted modules", (total,))
    return Section("adapted", "What was adapted", caption, (table, *_spectrum_note(run)))


def _how(run: RunResult) -> str:
    """Say how the adapter was trained, with what the recipe left open filled in."""
    train, adapter = run.recipe.train, run.recipe.adapter
    rank = f" of rank {adapter.rank}" if adapter.rank else ""
    return (
        f"{adapter.tuner}{rank}, {counted(train.epochs, 'epoch')} by {train.optimizer} at a "
        f"learning rate of {train.lr:g}, augmentation {train.augment}"
    )


def _spectrum_note(run: RunResult) -> tuple[Block, ...]:
    """Report how evenly the adapter uses its directions; empty for tuners without a product B A."""
    found = run.record.spectrum
    if found is None:
        return ()
    of = f" of {run.recipe.adapter.rank}" if run.recipe.adapter.rank else ""
    return (
        Note(
            "How evenly the adapter uses its rank: the effective rank is "
            f"{found.effective_rank:.1f}{of} per layer on average, the strongest direction has "
            f"{found.top_energy:.0%} of the energy (entropy {found.entropy:.2f}, from 0 for one "
            "direction to 1 for equal use)."
        ),
    )


def caveats_section(run: RunResult) -> Section:
    """Notes on the data, duplicates across splits and broken files."""
    data = run.record.dataset
    blocks = data_caveats(data.notes, data.duplicates, data.broken)
    caption = "Known problems of the images that affect the numbers above."
    return Section("caveats", "Data caveats", caption, blocks)


def data_caveats(
    notes: Sequence[str], duplicates: Sequence[Copies], broken: Sequence[str]
) -> tuple[Block, ...]:
    """Turn findings about the data into blocks; reports it if there are none.

    Args:
        notes: Sentences.
        duplicates: One per set of equal images.
        broken: Files that could not be read.
    """
    leaks = [entry for entry in duplicates if len(set(entry.splits)) > 1]
    inside = [entry for entry in duplicates if entry not in leaks]
    blocks: list[Block] = []
    if leaks:
        text = (
            f"In more than one split: {counted(len(leaks), 'image')}. Test scores are inflated by "
            "memorisation."
        )
        blocks += [Note(text, "bad"), _listing([_leak(entry) for entry in leaks])]
    if inside:
        blocks.append(Note(f"More than once inside one split: {counted(len(inside), 'image')}."))
    if broken:
        text = f"Unreadable and skipped: {counted(len(broken), 'file')}."
        blocks += [Note(text, "open"), _listing(broken)]
    if notes:
        blocks.append(_listing(notes))
    return tuple(blocks) or (Note("Nothing found: no duplicates across splits, no broken files."),)


def record_section(run: RunResult) -> Section:
    """Recipe, versions, seed, machine and code state."""
    record, encoder = run.record, run.record.backbone
    facts = Facts(
        tuple(
            (name, text)
            for name, text in (
                ("seed", str(MISSING if record.seed is None else record.seed)),
                ("started", record.started or MISSING),
                ("data", listed(record.dataset.name, record.dataset.fingerprint)),
                ("encoder", listed(encoder.name, encoder.source, encoder.sha256)),
                ("machine", machine_text(record.machine)),
                ("code", code_state(record.git)),
                ("versions", version_list(record.versions)),
            )
            if text
        )
    )
    caption = "Everything needed to repeat the run: the full recipe with all defaults."
    blocks = (facts, Source(run.recipe_text.strip(), "Recipe"))
    return Section("record", "Reproducibility", caption, blocks)


def machine_text(machine: Machine | None) -> str:
    """Describe the machine, most important facts first."""
    if machine is None:
        return MISSING
    parts = [text for text in (machine.device, machine.cpu, machine.platform) if text]
    if machine.cores:
        parts.append(counted(machine.cores, "core"))
    if machine.memory_gb is not None:
        parts.append(f"{machine.memory_gb:g} GB memory")
    return listed(*parts)


def code_state(git: GitState | None) -> str:
    """Return the commit, and whether there were uncommitted changes."""
    if git is None:  # nobody asks of an installed package
        return ""
    return f"commit {git.commit}" + (" with uncommitted changes" if git.dirty else "")


def version_list(versions: Mapping[str, str | None] | None) -> str:
    """List names and versions, sorted."""
    return listed(*(f"{name} {version}" for name, version in sorted((versions or {}).items())))


def listed(*texts: str | None) -> str:
    """Join known values with commas; a dash if there are none."""
    return ", ".join(text for text in texts if text) or MISSING


def _stage_row(stage: StageCost) -> tuple[Cell, ...]:
    return text_cells(
        (
            stage.name,
            duration(stage.seconds),
            megabytes(stage.peak_memory_mb),
            integer(stage.trained_parameters or None),
        )
    )


def _adapted_row(one: AdapterLayers) -> tuple[Cell, ...]:
    return text_cells((one.module, integer(one.count), one.shape, integer(one.parameters)))


def _listing(lines: Sequence[str]) -> Listing:
    more = len(lines) - _MOST_LISTED
    shown = tuple(lines[:_MOST_LISTED])
    return Listing(shown if more <= 0 else (*shown, f"and {integer(more)} more"))


def _leak(entry: Copies) -> str:
    if len(entry.ids) != len(entry.splits):
        return f"{' = '.join(entry.ids)} ({', '.join(entry.splits)})"
    pairs = zip(entry.ids, entry.splits, strict=True)
    return " = ".join(f"{name} ({split})" for name, split in pairs)
