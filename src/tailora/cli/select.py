"""`tailora select`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tailora.cli.options import (
    AllowRemote,
    Backbone,
    Debug,
    Json,
    Quiet,
    Seed,
    Set,
    SideBySide,
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

_SHOWN = 20  # in the terminal, if all are in a file


def select(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A folder of images, data as for `tailora fit` (labels are not looked at), or a "
            "scene.",
        ),
    ],
    *,
    budget: Annotated[int, typer.Option(help="Number of images or windows to label.")],
    method: Annotated[
        str,
        typer.Option(
            help="typical, diverse or bands, which need no labels; margin, badge or objects, which "
            "need --run; random."
        ),
    ] = "typical",
    run: Annotated[
        Path | None,
        typer.Option(
            help="Use encoder and head of this classification run.", show_default="a pretrained one"
        ),
    ] = None,
    backbone: Backbone = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Table as .csv; for a scene also .gpkg or .geojson. Features are kept beside it.",
        ),
    ] = None,
    chip: WindowSide = None,
    step: SideBySide = None,
    seed: Seed = None,
    set_: Set = None,
    skip_broken: SkipBroken = False,
    unverified: Unverified = False,
    quiet: Quiet = False,
    json: Json = False,
    allow_remote: AllowRemote = False,
    debug: Debug = False,
) -> None:
    """Choose which images of DATA, or windows of a scene, to label next.

    [dim]tailora select pool/ --budget 200 --out to-label.csv[/]

    [dim]tailora select pool/ --budget 100 --method margin --run runs/land --out next.csv[/]
    """
    if budget < 1:  # before slow imports
        raise ConfigError(f"--budget must be at least 1, got {budget}")
    source = encoder_source(run, backbone, set_, unverified=unverified)
    from tailora.curation.select import select as select_images

    found = select_images(
        data, budget=budget, method=method, **source, chip=chip, step=step,
        seed=seed or 0, out=out, skip_broken=skip_broken, progress=bars(quiet=quiet),
    )  # fmt: skip
    if json:
        print_json(found.to_json())
    if not quiet:
        _show(found, out, screen(stderr=json))


def _show(found: Any, out: Path | None, show: Any) -> None:
    from rich.table import Table

    shown = found.images[: None if out is None else _SHOWN]
    table = Table(title=listed([found.data]), title_justify="left")
    for name in ("rank", "score"):
        table.add_column(name, justify="right")
    for name in ("id", *(["predicted"] if found.predicted else [])):
        table.add_column(name)
    for one in shown:
        more = [listed([one.label or ""])] if found.predicted else []
        table.add_row(str(one.rank), f"{one.score:.3f}", listed([one.id]), *more)
    show.print(table)
    if out is not None:
        show.print(f"all {len(found.images)}: {listed([str(out)])}", soft_wrap=True)
    parts = [f"{len(found.images):,} of {found.searched:,} by {found.method}"]
    parts += [f"unusable: {found.left_out:,}"] if found.left_out else []
    if found.predicted:
        counts = [f"{listed([name])} {count}" for name, count in found.predicted.items()]
        parts.append("predicted as: " + ", ".join(counts))
    show.print("; ".join(parts), soft_wrap=True)
    for note in found.notes:
        show.print(f"note: {listed([note])}", soft_wrap=True)
