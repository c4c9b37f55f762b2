"""`tailora map`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tailora.cli.options import (
    AllowRemote,
    Debug,
    Json,
    Quiet,
    Raw,
    SkipBroken,
    Unverified,
    Views,
    bars,
    check_ending,
    print_json,
    screen,
    tell_notes,
)
from tailora.numbers import counted

_FOR_READING = ("sensor", "band_names", "nodata")
_FOR_MAPPING = ("chip", "step", "dense", "most_nodata", "raw", "sieve")
_FOR_FILES = ("probabilities", "confidence", "polygons", "doubt")


def map_(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder written by `tailora fit`.")
    ],
    scenes: Annotated[
        list[Path],
        typer.Argument(
            metavar="SCENES",
            help="Rasters, or folders of rasters; rasters named after bands form one scene.",
        ),
    ],
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="GeoTIFF to write, or a folder for the maps of several scenes."
        ),
    ],
    probabilities: Annotated[
        Path | None, typer.Option(help="GeoTIFF with one probability band per class.")
    ] = None,
    confidence: Annotated[
        Path | None, typer.Option(help="GeoTIFF of the probability of the mapped class.")
    ] = None,
    polygons: Annotated[
        Path | None, typer.Option(help="GeoPackage of the map as polygons.")
    ] = None,
    doubt: Annotated[
        Path | None,
        typer.Option(
            help="GeoTIFF of where the map may be wrong: by how much chips shifted by half a step "
            "prefer another class, and 1 minus the probability of the class. Takes twice as long."
        ),
    ] = None,
    sieve: Annotated[
        int | None,
        typer.Option(
            metavar="CELLS",
            help="Connected areas of fewer cells take the class of the largest area beside them.",
        ),
    ] = None,
    chip: Annotated[
        int | None,
        typer.Option(help="Chip size in pixels of the scene.", show_default="that of the run"),
    ] = None,
    step: Annotated[
        int | None,
        typer.Option(
            help="Stride between chips in pixels, and the cell size of the map.",
            show_default="half a chip",
        ),
    ] = None,
    dense: Annotated[bool, typer.Option("--dense", help="One cell per encoder patch.")] = False,
    most_nodata: Annotated[
        float | None,
        typer.Option(help="Skip chips with a larger share of no-data pixels.", show_default="0.5"),
    ] = None,
    sensor: Annotated[
        str | None,
        typer.Option(help="Sensor whose bands the scene has, in its order: {sensors}."),
    ] = None,
    band_names: Annotated[
        str | None,
        typer.Option(help="Bands of the scene in file order, comma-separated."),
    ] = None,
    nodata: Annotated[
        float | None,
        typer.Option(help="No-data value.", show_default="what the files declare"),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue interrupted maps; keep complete ones."),
    ] = False,
    raw: Raw = False,
    views: Views = None,
    skip_broken: SkipBroken = False,
    unverified: Unverified = False,
    quiet: Quiet = False,
    json: Json = False,
    allow_remote: AllowRemote = False,
    debug: Debug = False,
) -> None:
    """Classify whole SCENES, of any size, and write a georeferenced map of each.

    Each class on a map has a verdict: whether the run's test split supports trusting it.

    [dim]tailora map runs/land scene.tif --out map.tif --polygons map.gpkg[/]
    """
    if not out.is_dir():
        check_ending(out, ".tif", ".tiff", what="maps of scenes")
    given = {
        "probabilities": probabilities, "confidence": confidence, "polygons": polygons,
        "chip": chip, "step": step, "dense": dense or None, "most_nodata": most_nodata,
        "sensor": sensor, "band_names": band_names, "nodata": nodata, "resume": resume or None,
        "raw": raw or None, "views": views, "doubt": doubt, "sieve": sieve,
    }  # fmt: skip
    draw_maps(
        run, scenes, out, {name: value for name, value in given.items() if value is not None},
        verify=not unverified, skip_broken=skip_broken, quiet=quiet, json=json,
    )  # fmt: skip


def draw_maps(
    run: Path,
    scenes: Sequence[Path],
    out: Path,
    given: Mapping[str, Any],
    *,
    verify: bool,
    skip_broken: bool,
    quiet: bool,
    json: bool,
) -> None:
    """Write the maps of scenes and summarise them.

    Args:
        run: Folder of the run.
        scenes: Rasters and folders.
        out: Map or folder.
        given: Map options that were set.
        verify: Verify the checksums of the run's files.
        skip_broken: Skip chips that cannot be read.
        quiet: No progress bars and no table.
        json: Print the summary as JSON.
    """
    from tailora.inference.map_scenes import MapOptions, map_scenes
    from tailora.inference.map_targets import MapTargets
    from tailora.inference.scene_inputs import SceneOptions
    from tailora.runs.run import load_run

    def chosen(names: Sequence[str]) -> dict[str, Any]:
        return {name: given[name] for name in names if name in given}

    reading = chosen(_FOR_READING)
    if "band_names" in reading:
        reading["band_names"] = tuple(name.strip() for name in reading["band_names"].split(","))
    loaded = load_run(run, verify=verify, views=given.get("views"))
    tell_notes(loaded.notes)
    found, notes = map_scenes(
        loaded,
        scenes,
        MapTargets(out, **chosen(_FOR_FILES)),
        options=MapOptions(**chosen(_FOR_MAPPING)),
        reading=SceneOptions(**reading),
        skip_broken=skip_broken,
        resume=given.get("resume", False),
        progress=bars(quiet=quiet),
    )
    if json:
        print_json([{"map": str(one.files.labels), **one.to_json()} for one in found])
    if not quiet:
        show = screen(stderr=json)
        for one in found:
            show.print(_table(one))
            show.print(escape(_left_out(one)))
        for note in notes:
            show.print(escape(note))


def _table(found: Any) -> Table:
    table = Table(title=escape(str(found.files.labels)), title_justify="left")
    table.add_column("class")
    table.add_column("cells", justify="right")
    table.add_column("share of the map", justify="right")
    table.add_column("verdict")
    total = sum(found.cells.values())
    for name, count in sorted(found.cells.items(), key=lambda item: -item[1]):
        share = f"{count / total:.1%}"
        table.add_row(escape(name), str(count), share, found.verdicts[name])
    return table


def _left_out(found: Any) -> str:
    rows, columns = found.shape
    doubtful = sum(n for name, n in found.cells.items() if found.verdicts[name] != "trusted")
    parts = [
        f"{rows} x {columns} cells of {counted(found.cell, 'pixel')} from "
        f"{counted(found.chips, 'chip')}",
        f"{doubtful / sum(found.cells.values()):.0%} of the map is in classes that are not trusted",
    ]
    if found.no_class:
        parts.append(f"no class: {counted(found.no_class, 'cell')}")
    if found.left_out:
        parts.append(f"too few pixels with data: {counted(found.left_out, 'chip')}")
    if found.broken:
        parts.append(f"unreadable: {counted(found.broken, 'chip')}")
    if found.sieved is not None:
        parts.append(f"in areas too small for --sieve: {counted(found.sieved, 'cell')}")
    if found.polygons is not None:
        parts.append(counted(found.polygons, "polygon"))
    return "; ".join(parts)
