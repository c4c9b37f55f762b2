"""`tailora map`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tailora.cli.change import change
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
    task_of,
    tell_notes,
)
from tailora.numbers import counted

_FOR_READING = ("sensor", "band_names", "nodata")
_FOR_MAPPING = ("chip", "step", "dense", "most_nodata", "raw", "sieve")
_FOR_FILES = ("probabilities", "confidence", "polygons", "doubt")
_FOR_OBJECTS = ("chip", "step", "most_nodata", "score")
_NOT_FOR_CHANGE = ("probabilities", "confidence", "dense", "resume", "doubt", "sieve", "score")
_DATES = 2
_VECTORS = (".gpkg", ".geojson")


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
            "--out",
            "-o",
            help="GeoTIFF to write, for a detection run .gpkg or .geojson; or a folder for several "
            "scenes.",
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
    chip: SceneChip = None,
    step: Annotated[
        int | None,
        typer.Option(
            help="Stride between chips in pixels, and the cell size of the map.",
            show_default="half a chip; four fifths of a tile for objects",
        ),
    ] = None,
    dense: Annotated[bool, typer.Option("--dense", help="One cell per encoder patch.")] = False,
    most_nodata: Annotated[
        float | None,
        typer.Option(
            help="Skip chips with a larger share of no-data pixels.",
            show_default="0.5; for objects those without any data",
        ),
    ] = None,
    score: Annotated[
        float | None,
        typer.Option(
            help="Of a detection run: leave out objects of a lower score.", show_default="0.3"
        ),
    ] = None,
    sensor: Sensor = None,
    band_names: BandNames = None,
    nodata: Nodata = None,
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

    Each class on a map has a verdict: whether the run's test split supports trusting it. A
    detection run writes the objects of each scene as oriented polygons.

    [dim]tailora map runs/land scene.tif --out map.tif --polygons map.gpkg[/]

    [dim]tailora map runs/ships scene.tif --out ships.gpkg[/]

    A run of change takes two SCENES, before and after, and does what `tailora change` does.
    """
    given = {
        "probabilities": probabilities, "confidence": confidence, "polygons": polygons,
        "chip": chip, "step": step, "dense": dense or None, "most_nodata": most_nodata,
        "sensor": sensor, "band_names": band_names, "nodata": nodata, "resume": resume or None,
        "raw": raw or None, "views": views, "doubt": doubt, "sieve": sieve, "score": score,
    }  # fmt: skip
    task = task_of(run)
    if task is not None and task.name == "change" and len(scenes) == _DATES:
        _refuse_options(given, _NOT_FOR_CHANGE)
        change(
            run, *scenes, out=out, polygons=polygons, chip=chip, step=step, raw=raw, views=views,
            most_nodata=most_nodata, sensor=sensor, band_names=band_names, nodata=nodata,
            skip_broken=skip_broken, unverified=unverified, quiet=quiet, json=json,
        )  # fmt: skip
        return
    finds = task is not None and task.detects
    if not finds and not out.is_dir():
        check_ending(out, ".tif", ".tiff", what="maps of scenes")
    (draw_objects if finds else draw_maps)(
        run, scenes, out, {name: value for name, value in given.items() if value is not None},
        verify=not unverified, skip_broken=skip_broken, quiet=quiet, json=json,
    )  # fmt: skip


def _refuse_options(given: Mapping[str, Any], names: Sequence[str]) -> None:
    """Reject options that maps of changes do not have."""
    from tailora.errors import ConfigError

    wrong = [f"--{name}" for name in names if given[name] is not None]
    if wrong:
        raise ConfigError(
            f"maps of changes have no {', '.join(wrong)}; see `tailora change --help`"
        )


def is_vector(path: Path) -> bool:
    """Whether a file of objects has this name."""
    return path.suffix.lower() in _VECTORS


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
    from tailora.errors import ConfigError
    from tailora.inference.map_scenes import MapOptions, map_scenes
    from tailora.inference.map_targets import MapTargets
    from tailora.runs.run import load_run

    if "score" in given:
        raise ConfigError("--score is an option of detection runs, which find objects")
    loaded = load_run(run, verify=verify, views=given.get("views"))
    tell_notes(loaded.notes)
    found, notes = map_scenes(
        loaded,
        scenes,
        MapTargets(out, **_chosen(given, _FOR_FILES)),
        options=MapOptions(**_chosen(given, _FOR_MAPPING)),
        reading=scene_options(**_chosen(given, _FOR_READING)),
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


def draw_objects(
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
    """Write the objects of scenes and summarise them; see `draw_maps`."""
    from tailora.errors import ConfigError
    from tailora.inference.map_objects import ObjectOptions, map_objects
    from tailora.runs.run import load_run

    other = sorted(given.keys() - {*_FOR_OBJECTS, *_FOR_READING, "resume"})
    if other:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in other)
        raise ConfigError(f"{names}: only for maps of classes; a detection run writes objects")
    loaded = load_run(run, verify=verify)
    tell_notes(loaded.notes)
    found, notes = map_objects(
        loaded, scenes, out, options=ObjectOptions(**_chosen(given, _FOR_OBJECTS)),
        reading=scene_options(**_chosen(given, _FOR_READING)), skip_broken=skip_broken,
        resume=given.get("resume", False), progress=bars(quiet=quiet),
    )  # fmt: skip
    if json:
        print_json([{"file": str(one.file), **one.to_json()} for one in found])
    if not quiet:
        show = screen(stderr=json)
        for one in found:
            show.print(_object_table(one))
            show.print(escape(_windows(one)))
        for note in notes:
            show.print(escape(note))


def _chosen(given: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: given[name] for name in names if name in given}


def _object_table(found: Any) -> Table:
    table = Table(title=escape(str(found.file)), title_justify="left")
    table.add_column("class")
    table.add_column("objects", justify="right")
    table.add_column("verdict")
    for name, count in sorted(found.objects.items(), key=lambda item: -item[1]):
        table.add_row(escape(name), str(count), found.verdicts[name])
    return table


def _windows(found: Any) -> str:
    parts = [
        f"{counted(sum(found.objects.values()), 'object')} in {counted(found.windows, 'window')}"
    ]
    if found.left_out:
        parts.append(f"too few pixels with data: {counted(found.left_out, 'window')}")
    if found.broken:
        parts.append(f"unreadable: {counted(found.broken, 'window')}")
    return "; ".join(parts)


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
