"""`tailora predict`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tailora.cli.options import (
    AllowRemote,
    Debug,
    Json,
    Quiet,
    SkipBroken,
    Unverified,
    bars,
    check_ending,
    listed,
    print_json,
    screen,
    tell_notes,
)
from tailora.cli.streams import write_data

_MAP: Any = "Maps"  # heading of the options that act on maps alone


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `tailora fit` made.")],
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGES", help="Image files or scenes, or folders of them."),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="CSV file to write; a map: `.tif`, or a folder for the maps of several scenes.",
            show_default="CSV on standard output",
        ),
    ] = None,
    skip_broken: SkipBroken = False,
    probabilities: Annotated[
        Path | None,
        typer.Option(help="GeoTIFF of a probability band a class.", rich_help_panel=_MAP),
    ] = None,
    confidence: Annotated[
        Path | None,
        typer.Option(
            help="GeoTIFF of the probability of the class on the map.", rich_help_panel=_MAP
        ),
    ] = None,
    polygons: Annotated[
        Path | None,
        typer.Option(help="GeoPackage of the map as polygons.", rich_help_panel=_MAP),
    ] = None,
    chip: Annotated[
        int | None,
        typer.Option(
            help="Side of a chip in pixels of the scene.",
            show_default="that of the run's chips",
            rich_help_panel=_MAP,
        ),
    ] = None,
    step: Annotated[
        int | None,
        typer.Option(
            help="Pixels from chip to chip, and side of a cell of the map.",
            show_default="half a chip",
            rich_help_panel=_MAP,
        ),
    ] = None,
    dense: Annotated[
        bool,
        typer.Option(
            "--dense", help="A cell for every patch of the encoder.", rich_help_panel=_MAP
        ),
    ] = False,
    most_nodata: Annotated[
        float | None,
        typer.Option(
            help="Leave out chips with a larger share without data.",
            show_default="0.5",
            rich_help_panel=_MAP,
        ),
    ] = None,
    sensor: Annotated[
        str | None,
        typer.Option(help="Whose bands the scene has, in their order.", rich_help_panel=_MAP),
    ] = None,
    band_names: Annotated[
        str | None,
        typer.Option(
            help="Bands of the scene in the order of its files, with commas.", rich_help_panel=_MAP
        ),
    ] = None,
    nodata: Annotated[
        float | None,
        typer.Option(
            help="Value that means no data.",
            show_default="what the files declare",
            rich_help_panel=_MAP,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with interrupted maps; keep those that are whole.",
            rich_help_panel=_MAP,
        ),
    ] = False,
    unverified: Unverified = False,
    quiet: Quiet = False,
    json: Json = False,
    allow_remote: AllowRemote = False,
    debug: Debug = False,
) -> None:
    """Predict IMAGES: class, probability of every class, and whether that class can be trusted.

    `trusted` is no where the run's own test found the class weak or too small to judge. With --out
    MAP.tif each image is a scene and becomes a georeferenced map of classes.
    """
    of_maps = {
        "probabilities": probabilities, "confidence": confidence, "polygons": polygons,
        "chip": chip, "step": step, "dense": dense or None, "most_nodata": most_nodata,
        "sensor": sensor, "band_names": band_names, "nodata": nodata, "resume": resume or None,
    }  # fmt: skip
    given = {name: value for name, value in of_maps.items() if value is not None}
    show = {"verify": not unverified, "skip_broken": skip_broken, "quiet": quiet, "json": json}
    if out is not None and _is_map(out):
        from tailora.cli.predict_map import predict_map

        predict_map(run, images, out, given, **show)
    else:
        check_ending(out, ".csv", ".tif", ".tiff", what="a table, or maps of scenes")
        _refuse_map_options(given)
        _predict_table(run, images, out, **show)


def _is_map(out: Path) -> bool:
    """A raster, or a folder; a file without an ending that is there already was CSV."""
    is_new_folder = not out.suffix and not out.exists()
    return out.suffix.lower() in (".tif", ".tiff") or out.is_dir() or is_new_folder


def _refuse_map_options(given: dict[str, Any]) -> None:
    from tailora.errors import ConfigError

    if given:
        flag = "--" + next(iter(given)).replace("_", "-")
        raise ConfigError(f"{flag} acts on maps of scenes: give --out MAP.tif, or leave it out")


def _predict_table(
    run: Path,
    images: list[Path],
    out: Path | None,
    *,
    verify: bool,
    skip_broken: bool,
    quiet: bool,
    json: bool,
) -> None:
    from tailora.inference import predict as prediction
    from tailora.runs.run import load_run
    from tailora.storage import write_text

    loaded = load_run(run, verify=verify)
    tell_notes(loaded.notes)
    found = prediction.predict(loaded, images, skip_broken=skip_broken, progress=bars(quiet=quiet))
    text = prediction.predictions_csv(loaded, found)
    if out:
        write_text(out, text)
    if json:
        print_json(prediction.predictions_json(loaded, found))
    elif not out:
        write_data(text)
    if found.broken and not quiet:
        screen(stderr=True).print(
            f"left out {len(found.broken)} unreadable images: {listed(found.broken[:5])}"
        )
