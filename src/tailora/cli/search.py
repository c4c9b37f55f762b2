"""`tailora search`."""

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
    WindowSide,
    bars,
    encoder_source,
    listed,
    print_json,
    screen,
)
from tailora.errors import ConfigError
from tailora.numbers import percent

_SHOWN = 20  # hits in the terminal, if all are in a file


def search(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A folder of images, data as for `tailora fit`, or a scene without labels.",
        ),
    ],
    *,
    like: Annotated[
        list[str],
        typer.Option(
            help="Examples, comma-separated: image files, ids of images or windows, or one box "
            "WEST,SOUTH,EAST,NORTH of the scene; may be repeated.",
        ),
    ],
    unlike: Annotated[
        list[str] | None,
        typer.Option(help="Counter-examples: what resembles these ranks lower."),
    ] = None,
    run: EncoderRun = None,
    backbone: Backbone = None,
    top: Annotated[int, typer.Option(help="Number of hits.")] = 50,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Hits as .csv; for a scene also .gpkg or .geojson. Features are kept beside it.",
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Page with thumbnails of examples and hits, .html.")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder that keeps features for the next search.",
            show_default="tailora-features beside --out",
        ),
    ] = None,
    combine: Annotated[
        str,
        typer.Option(
            help="Compare with the mean of several examples, or with max by the nearest, where "
            "they look different from each other."
        ),
    ] = "mean",
    class_: Annotated[
        str | None,
        typer.Option(
            "--class",
            help="Class of the examples, to measure the hits by the labels of DATA.",
            show_default="that of examples in DATA",
        ),
    ] = None,
    keep_examples: Annotated[
        bool,
        typer.Option(
            "--keep-examples", help="Keep examples and copies of them among the hits, marked."
        ),
    ] = False,
    views: Annotated[
        int,
        typer.Option(
            help="Flips and quarter turns that features are averaged over, 1 or 8 (slower)."
        ),
    ] = 1,
    chip: WindowSide = None,
    step: Annotated[
        int | None,
        typer.Option(help="Stride between windows in pixels.", show_default="half a window"),
    ] = None,
    set_: Set = None,
    skip_broken: SkipBroken = False,
    unverified: Unverified = False,
    quiet: Quiet = False,
    json: Json = False,
    allow_remote: AllowRemote = False,
    debug: Debug = False,
) -> None:
    """Search DATA by examples: which images, or places of a scene, look like these?

    The first search computes features and keeps them; the next ones are quick. Examples themselves
    and copies of them are left out of the hits.

    [dim]tailora search chips/ --like quarry1.png,quarry2.png --unlike beach.png --out hits.csv[/]

    [dim]tailora search scene.tif --like quarry1.png --run runs/land --out hits.gpkg[/]
    """
    if top < 1:  # before slow imports
        raise ConfigError(f"--top must be at least 1, got {top}")
    source = encoder_source(run, backbone, set_, unverified=unverified)
    from tailora.inference.search import search as search_data

    found = search_data(
        data, like, unlike=unlike or (), **source, top=top, combine=combine,
        relevant=class_, keep_examples=keep_examples, views=views, chip=chip, step=step, out=out,
        html=html, cache=cache, skip_broken=skip_broken, progress=bars(quiet=quiet),
    )  # fmt: skip
    if json:
        print_json(found.to_json())
    if not quiet:
        _show(found, out, screen(stderr=json))


def _copies(number: int, *, marked: bool) -> str:
    shown = "among the hits" if marked else "left out (--keep-examples shows them)"
    return f"examples and copies of them: {number:,}, {shown}"


def _show(found: Any, out: Path | None, show: Any) -> None:
    from rich.table import Table

    shown = found.hits[: None if out is None else _SHOWN]
    with_labels = any(one.label for one in found.hits)
    marked = any(one.example for one in found.hits)
    table = Table(title=listed([found.data]), title_justify="left")
    for name in ("rank", "score"):
        table.add_column(name, justify="right")
    for name in ("id", *(["class"] if with_labels else []), *(["example"] if marked else [])):
        table.add_column(name)
    for one in shown:
        more = [listed([one.label or ""])] if with_labels else []
        more += ["yes" if one.example else ""] if marked else []
        table.add_row(str(one.rank), f"{one.score:.3f}", listed([one.id]), *more)
    show.print(table)
    if len(shown) < len(found.hits):
        show.print(f"all {len(found.hits)} hits: {listed([str(out)])}", soft_wrap=True)
    parts = [f"searched {found.searched:,}"]
    parts += [f"unusable: {found.left_out:,}"] if found.left_out else []
    parts += [_copies(found.copies, marked=marked)] if found.copies else []
    parts.append("features from an earlier search" if found.reused else "features computed")
    show.print("; ".join(parts))
    if found.quality is not None:
        of = found.quality
        show.print(
            f"{listed([of.name])}: precision at 10 {percent(of.precision)} %, average precision "
            f"{percent(of.average_precision)} % ({of.images:,} of {of.searched:,} images, so a "
            f"random ranking has about {percent(of.images / of.searched)} %)",
            soft_wrap=True,
        )
    if found.features is None:
        show.print("features were not kept: use --out or --cache to search again quickly")
    for note in found.notes:
        show.print(f"note: {listed([note])}", soft_wrap=True)
