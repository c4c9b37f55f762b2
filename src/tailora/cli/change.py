"""`tailora change`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tailora.cli.options import (
    AllowRemote,
    BandNames,
    Debug,
    Json,
    Nodata,
    Quiet,
    Raw,
    SceneChip,
    Sensor,
    SkipBroken,
    Unverified,
    Views,
    bars,
    check_ending,
    print_json,
    scene_options,
    screen,
    tell_notes,
)
from tailora.numbers import counted, magnitude, percent

_SHOWN = 20  # rows of the table; all are in the CSV file


def change(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder written by `tailora fit`.")
    ],
    before: Annotated[
        Path,
        typer.Argument(
            metavar="BEFORE",
            help="Raster of the first date, or its bands; a map of classes with --reference.",
        ),
    ],
    after: Annotated[
        Path, typer.Argument(metavar="AFTER", help="The same of the second date, on any grid.")
    ],
    *,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="GeoTIFF to write: change, from, to, confidence."),
    ],
    polygons: Annotated[
        Path | None, typer.Option(help="GeoPackage of what changed, as polygons.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="CSV of what changed into what, with areas.")
    ] = None,
    prior: Annotated[
        float | None,
        typer.Option(
            help="Probability of change before the images are seen, up to 0.5; less finds less.",
            show_default="0.5",
        ),
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(
            help="CSV of lines FROM,TO,KIND that name kinds of change: * is any class, an empty "
            "KIND is no change, and later lines win."
        ),
    ] = None,
    reference: Annotated[
        bool,
        typer.Option(
            "--reference",
            help="BEFORE is a map of classes, on any grid, that is taken as true; the result has "
            "the grid of AFTER.",
        ),
    ] = False,
    classes: Annotated[
        Path | None,
        typer.Option(
            help="Class table of the --reference, a line VALUE,NAME for each class.",
            show_default="what it declares",
        ),
    ] = None,
    chip: SceneChip = None,
    step: Annotated[
        int | None,
        typer.Option(
            help="Stride between chips in pixels, and the cell size for runs of classification.",
            show_default="half a chip",
        ),
    ] = None,
    most_nodata: Annotated[
        float | None,
        typer.Option(help="Skip chips with a larger share of no-data pixels.", show_default="0.5"),
    ] = None,
    sensor: Sensor = None,
    band_names: BandNames = None,
    nodata: Nodata = None,
    raw: Raw = False,
    views: Views = None,
    skip_broken: SkipBroken = False,
    unverified: Unverified = False,
    quiet: Quiet = False,
    json: Json = False,
    allow_remote: AllowRemote = False,
    debug: Debug = False,
) -> None:
    """Map what changed between two scenes, and from what into what.

    A run of change says so itself. Any finished run of segmentation or classification will do too:
    both dates are classified and their probabilities compared.

    [dim]tailora change runs/land before.tif after.tif --out change.tif --polygons change.gpkg[/]
    """
    check_ending(out, ".tif", ".tiff", what="maps of changes")
    from tailora.inference.change import ChangeTargets, map_change
    from tailora.inference.map_scenes import MapOptions
    from tailora.runs.run import load_run

    mapping: dict[str, Any] = {
        "chip": chip, "step": step, "most_nodata": most_nodata, "raw": raw or None,
    }  # fmt: skip
    loaded = load_run(run, verify=not unverified, views=views)
    tell_notes(loaded.notes)
    found, notes = map_change(
        loaded, before, after, ChangeTargets(out, polygons, table),
        options=MapOptions(**_given(mapping)),
        reading=scene_options(sensor=sensor, band_names=band_names, nodata=nodata),
        skip_broken=skip_broken, progress=bars(quiet=quiet),
        **_given({"prior": prior, "rules": rules, "classes": classes}), reference=reference,
    )  # fmt: skip
    if json:
        print_json({"map": str(out), **found.to_json()})
    if not quiet:
        show = screen(stderr=json)
        show.print(_table(found, out))
        show.print(escape(_left_out(found)))
        for note in notes:
            show.print(escape(note))


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _table(found: Any, out: Path) -> Table:
    table = Table(title=f"{escape(str(out))}: {found.method}", title_justify="left")
    for name in ("from", "to", *(["kind"] if found.kinds else [])):
        table.add_column(name)
    for name in ("cells", "ha", "% of the compared area"):
        table.add_column(name, justify="right")
    for one in found.transitions[:_SHOWN]:
        area = "" if one.hectares is None else magnitude(one.hectares)
        what = [one.before, one.after, *([one.kind] if found.kinds else [])]
        table.add_row(*map(escape, what), str(one.cells), area, percent(one.share))
    if len(found.transitions) > _SHOWN:
        table.caption = f"and {counted(len(found.transitions) - _SHOWN, 'smaller transition')}"
    return table


def _left_out(found: Any) -> str:
    compared = found.changed + found.unchanged
    parts = [f"changed: {percent(found.changed / compared)} % of {counted(compared, 'cell')}"]
    parts += [f"{kind}: {percent(share)} %" for kind, share in found.kinds.items()]
    if found.no_data:
        parts.append(f"without data at a date: {counted(found.no_data, 'cell')}")
    if found.broken:
        parts.append(f"unreadable: {counted(found.broken, 'chip')}")
    if found.polygons is not None:
        parts.append(counted(found.polygons, "polygon"))
    return "; ".join(parts)
