"""`tailora curate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tailora.cli.options import (
    AllowRemote,
    Backbone,
    Debug,
    EncoderRun,
    Json,
    Quiet,
    Set,
    SkipBroken,
    Unverified,
    bars,
    encoder_source,
    listed,
    print_json,
    screen,
)
from tailora.numbers import counted, percent


def curate(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Images as for `tailora fit`, or a folder of images without labels.",
        ),
    ],
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the page, the tables and features.")
    ],
    run: EncoderRun = None,
    backbone: Backbone = None,
    cosine: Annotated[
        float, typer.Option(help="Cosine of features from which images may be near duplicates.")
    ] = 0.98,
    folds: Annotated[
        int, typer.Option(help="Folds of the heads that judge labels, at least 3.")
    ] = 5,
    set_: Set = None,
    skip_broken: SkipBroken = False,
    unverified: Unverified = False,
    quiet: Quiet = False,
    json: Json = False,
    allow_remote: AllowRemote = False,
    debug: Debug = False,
) -> None:
    """Look for near duplicates, doubtful labels and outliers in DATA. Nothing is removed.

    Labels are judged by heads that have not seen them, on a pretrained encoder. Tail classes stand
    apart: rare is not wrong.

    [dim]tailora curate chips/ --out runs/curation[/]
    """
    source = encoder_source(run, backbone, set_, unverified=unverified)
    from tailora.curation.curate import curate as curate_data

    found = curate_data(
        data, **source, out=out, cosine=cosine, folds=folds,
        skip_broken=skip_broken, progress=bars(quiet=quiet),
    )  # fmt: skip
    if json:
        print_json(found.to_json())
    if not quiet:
        _show(found, out, screen(stderr=json))


def _show(found: Any, out: Path, show: Any) -> None:
    from rich.table import Table

    if found.classes:
        table = Table(title=listed([found.data]), title_justify="left")
        for name in ("class", "group"):
            table.add_column(name)
        for name in ("images", "doubted", "wrong, %", "outliers", "copies"):
            table.add_column(name, justify="right")
        for one in found.classes:
            table.add_row(
                listed([one.name]), one.group, f"{one.images:,}", str(one.doubted),
                percent(one.mislabelled), str(one.outliers), str(one.copies),
            )  # fmt: skip
        show.print(table)
        show.print(
            f"doubtful labels: {len(found.doubts):,}; wrong is the estimated share of the labels "
            "of a class, uncertain where images are few",
            soft_wrap=True,
        )
        for one in found.groups:
            if one.name in ("tail", "all"):
                show.print(f"{one.name}: {one.to_do}", soft_wrap=True)
    show.print(
        f"near duplicates: {counted(len(found.copies), 'group')}; across splits {found.leaks}, "
        f"with different labels {found.conflicts}; outliers: {len(found.outliers):,}",
        soft_wrap=True,
    )
    for note in found.notes:
        show.print(f"note: {listed([note])}", soft_wrap=True)
    show.print(f"page: {listed([str(out / 'index.html')])}", soft_wrap=True)
