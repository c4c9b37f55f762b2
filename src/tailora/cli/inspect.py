"""`tailora inspect`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tailora.cli.options import (
    Chip,
    ClassField,
    Debug,
    Imbalance,
    Json,
    Labels,
    Quiet,
    Seed,
    listed,
    opened,
    print_json,
    screen,
)


def inspect(
    data: Annotated[str, typer.Argument(metavar="DATA", help="As for `tailora fit`.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="HTML page of counts and thumbnails to write."),
    ] = None,
    imbalance: Imbalance = None,
    labels: Labels = None,
    class_field: ClassField = None,
    chip: Chip = None,
    seed: Seed = None,
    quiet: Quiet = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what DATA holds: classes, splits, imbalance, copies across splits, bands."""
    # a wrong path is told before the slow imports
    dataset = opened(
        data, seed=seed or 0, imbalance=imbalance, labels=labels, class_field=class_field, chip=chip
    )
    from tailora.pipeline.inspect import inspect_dataset, write_page

    found = inspect_dataset(dataset)
    if out:
        write_page(dataset, found, out)
    if json:
        print_json(found.to_json())
    elif not quiet:
        _show(found)


def _show(found: Any) -> None:
    from rich.table import Table

    show = screen()
    pixels = any(row.pixels is not None for row in found.rows)
    columns = ("class", "group", "train", "val", "test", *(["pixels"] if pixels else []))
    table = Table(*columns, title=listed([found.name]))
    for row in found.rows:
        counts = [str(row.counts[s]) for s in ("train", "val", "test")]
        table.add_row(
            listed([row.name]), row.group, *counts, *([str(row.pixels)] if pixels else [])
        )
    show.print(table)
    image = found.image
    show.print(
        f"imbalance {found.imbalance:.1f} : 1; first image {image['bands']} bands, "
        f"{image['height']} x {image['width']}, {image['dtype']}"
    )
    names = ", ".join(band.name for band in found.bands)
    show.print(f"values look like {found.units}; bands: {listed([names])}", soft_wrap=True)
    for text in found.warnings:
        show.print(f"warning: {listed([text])}", soft_wrap=True)
    if found.small:
        show.print(f"too few test samples to judge: {listed(found.small)}", soft_wrap=True)
    leaks = [d for d in found.duplicates if d.leaks]
    conflicts = [d for d in found.duplicates if d.conflicts]
    show.print(
        f"exact copies: {len(found.duplicates)}; across splits {len(leaks)}, with contradicting "
        f"labels {len(conflicts)}"
    )
    for copy in [*leaks, *conflicts][:5]:
        show.print(f"  {listed(copy.ids)}", soft_wrap=True)
    for note in found.notes:
        show.print(f"note: {listed([note])}", soft_wrap=True)
