"""`tailora predict`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tailora.cli.map import draw_maps, draw_objects, is_vector
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
    listed,
    print_json,
    screen,
    task_of,
    tell_notes,
)
from tailora.cli.streams import write_data
from tailora.numbers import counted

_OF_MAPS: Any = typer.Option(hidden=True)  # options of `tailora map`, once part of this command


def predict(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder written by `tailora fit`.")
    ],
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGES", help="Image files, or folders of images."),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="CSV file to write; a folder of masks or of DOTA's Task1 files for runs of those "
            "tasks, for the latter also .gpkg or .geojson as `tailora map` writes them.",
            show_default="CSV on standard output",
        ),
    ] = None,
    draws: Annotated[
        int,
        typer.Option(
            "--draws",
            help="Masks that a head which draws some (--probe pulaski) draws of each image, into "
            "folders draw_1 and so on beside --out's masks.",
        ),
    ] = 0,
    skip_broken: SkipBroken = False,
    raw: Raw = False,
    views: Views = None,
    probabilities: Annotated[Path | None, _OF_MAPS] = None,
    confidence: Annotated[Path | None, _OF_MAPS] = None,
    polygons: Annotated[Path | None, _OF_MAPS] = None,
    chip: Annotated[int | None, _OF_MAPS] = None,
    step: Annotated[int | None, _OF_MAPS] = None,
    dense: Annotated[bool, typer.Option("--dense", hidden=True)] = False,
    most_nodata: Annotated[float | None, _OF_MAPS] = None,
    sensor: Annotated[str | None, _OF_MAPS] = None,
    band_names: Annotated[str | None, _OF_MAPS] = None,
    nodata: Annotated[float | None, _OF_MAPS] = None,
    resume: Annotated[bool, typer.Option("--resume", hidden=True)] = False,
    unverified: Unverified = False,
    quiet: Quiet = False,
    json: Json = False,
    allow_remote: AllowRemote = False,
    debug: Debug = False,
) -> None:
    """Predict IMAGES: class, probability of each class, and whether the class can be trusted.

    `trusted` is no if the run's test found the class weak or too small to judge. Probabilities are
    temperature-scaled where that helped on validation. For maps of whole scenes, use `tailora map`.
    """
    of_maps = {
        "probabilities": probabilities, "confidence": confidence, "polygons": polygons,
        "chip": chip, "step": step, "dense": dense or None, "most_nodata": most_nodata,
        "sensor": sensor, "band_names": band_names, "nodata": nodata, "resume": resume or None,
    }  # fmt: skip
    given = {name: value for name, value in of_maps.items() if value is not None}
    task = task_of(run)
    if draws and task is not None and not task.per_pixel:
        from tailora.errors import ConfigError

        raise ConfigError("--draws is for runs of --task segment with --probe pulaski")
    if task is not None and task.name == "change":
        _refuse_map_options(given)
        _predict_changes(run, images, out, verify=not unverified, quiet=quiet, json=json)
        return
    if task is not None and task.detects:
        if out is not None and is_vector(out):
            given |= {name: 1 for name, value in {"raw": raw, "views": views}.items() if value}
            draw_objects(
                run, images, out, given, verify=not unverified, skip_broken=skip_broken,
                quiet=quiet, json=json,
            )  # fmt: skip
            return
        _refuse_map_options(given)
        _predict_objects(
            run, images, out, verify=not unverified, skip_broken=skip_broken, quiet=quiet, json=json
        )
        return
    if task is not None and task.per_pixel:
        _refuse_map_options(given)
        _predict_masks(
            run, images, out, draws=draws, views=views, verify=not unverified,
            skip_broken=skip_broken, quiet=quiet, json=json,
        )  # fmt: skip
        return
    show = {"verify": not unverified, "skip_broken": skip_broken, "quiet": quiet, "json": json}
    if out is not None and _is_map(out):
        if task is not None:  # else there is no run, which is what has to be said
            tell_notes(
                ["use `tailora map RUN SCENES --out MAP.tif` for maps; `predict` will no longer "
                    "write them in the next version"]
            )  # fmt: skip
        given |= {"raw": True} if raw else {}
        given |= {} if views is None else {"views": views}
        draw_maps(run, images, out, given, **show)
    else:
        check_ending(out, ".csv", what="a table (`tailora map` writes maps, .tif)")
        _refuse_map_options(given)
        _predict_table(run, images, out, raw=raw, views=views, **show)


def _predict_objects(
    run: Path,
    images: list[Path],
    out: Path | None,
    *,
    verify: bool,
    skip_broken: bool,
    quiet: bool,
    json: bool,
) -> None:
    from tailora.inference.predict_objects import predict_objects
    from tailora.runs.run import load_run

    out = _folder(
        out,
        "a detection run writes DOTA's files, one for each class: give a folder with --out DIR, or "
        "OBJECTS.gpkg or .geojson for the objects of a scene",
    )
    loaded = load_run(run, verify=verify)
    tell_notes(loaded.notes)
    found = predict_objects(
        loaded, images, out, skip_broken=skip_broken, progress=bars(quiet=quiet)
    )
    if json:
        files = [str(path) for path in found.files]
        print_json({"files": files, "objects": found.objects, "broken": found.broken})
    elif not quiet:
        title = f"{counted(len(found.files), 'file')} in {listed([str(out)])}"
        screen().print(_count_table(title, "objects", found.objects))
    _tell_broken(found.broken, quiet=quiet)


def _folder(out: Path | None, otherwise: str) -> Path:
    """Return the folder to write, or refuse what is none with the sentence given."""
    from tailora.errors import ConfigError

    if out is None or out.is_file() or out.suffix:
        raise ConfigError(otherwise)
    return out


def _tell_broken(broken: list[str], *, quiet: bool) -> None:
    if broken and not quiet:
        screen(stderr=True).print(
            f"left out {counted(len(broken), 'unreadable image')}: {listed(broken[:5])}"
        )


def _predict_masks(
    run: Path,
    images: list[Path],
    out: Path | None,
    *,
    draws: int,
    views: int | None,
    verify: bool,
    skip_broken: bool,
    quiet: bool,
    json: bool,
) -> None:
    from tailora.inference.predict_masks import predict_masks
    from tailora.runs.run import load_run

    out = _folder(
        out,
        "a segmentation run predicts a mask for each image: give a folder with --out DIR "
        "(`tailora map` writes GeoTIFFs of scenes)",
    )
    loaded = load_run(run, verify=verify, views=views)
    tell_notes(loaded.notes)
    found = predict_masks(
        loaded, images, out, draws=draws, skip_broken=skip_broken, progress=bars(quiet=quiet)
    )
    if json:
        files = [str(path) for path in found.files]
        print_json({"masks": files, "pixels": found.pixels, "broken": found.broken})
    elif not quiet:
        title = f"{counted(len(found.files), 'mask')} in {listed([str(out)])}"
        screen().print(_count_table(title, "pixels", found.pixels))
    _tell_broken(found.broken, quiet=quiet)


def _predict_changes(
    run: Path, images: list[Path], out: Path | None, *, verify: bool, quiet: bool, json: bool
) -> None:
    from tailora.inference.predict_changes import predict_changes
    from tailora.runs.run import load_run

    out = _folder(out, "a run of change predicts masks of pairs: give a folder with --out DIR")
    loaded = load_run(run, verify=verify)
    tell_notes(loaded.notes)
    found = predict_changes(loaded, images, out, progress=bars(quiet=quiet))
    if json:
        print_json(
            {
                "pairs": found.pairs, "pixels": found.pixels, "warped": found.warped,
                "uncovered": found.uncovered,
            }
        )  # fmt: skip
    elif not quiet:
        if found.warped:
            tell_notes([
                f"second dates warped onto the grid of the first: {counted(found.warped, 'pair')}; "
                f"not covered, so without a class: {counted(found.uncovered, 'pixel')}"
            ])  # fmt: skip
        title = f"masks of {counted(found.pairs, 'pair')} in {listed([str(out)])}"
        screen().print(_count_table(title, "pixels", found.pixels))


def _count_table(title: str, column: str, counts: dict[str, int]) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("class")
    table.add_column(column, justify="right")
    for name, count in sorted(counts.items(), key=lambda item: -item[1]):
        table.add_row(listed([name]), f"{count:,}")
    return table


def _is_map(out: Path) -> bool:
    """A raster, or a folder; an existing file without an extension is CSV."""
    is_new_folder = not out.suffix and not out.exists()
    return out.suffix.lower() in (".tif", ".tiff") or out.is_dir() or is_new_folder


def _refuse_map_options(given: dict[str, Any]) -> None:
    from tailora.errors import ConfigError

    if given:
        flag = "--" + next(iter(given)).replace("_", "-")
        raise ConfigError(
            f"{flag} applies to maps of scenes: use `tailora map RUN SCENES --out MAP.tif`, or "
            "leave it out"
        )


def _predict_table(
    run: Path,
    images: list[Path],
    out: Path | None,
    *,
    raw: bool,
    views: int | None,
    verify: bool,
    skip_broken: bool,
    quiet: bool,
    json: bool,
) -> None:
    import numpy as np

    from tailora.inference import predict as prediction
    from tailora.runs.run import load_run
    from tailora.storage import write_text

    loaded = load_run(run, verify=verify, views=views)
    tell_notes(loaded.notes)
    found = prediction.predict(
        loaded, images, skip_broken=skip_broken, raw=raw, progress=bars(quiet=quiet)
    )
    text = prediction.predictions_csv(loaded, found)
    if out:
        write_text(out, text)
    if json:
        print_json(prediction.predictions_json(loaded, found))
    elif not out:
        write_data(text)
    elif not quiet:
        title = f"{counted(len(found.paths), 'image')} in {listed([str(out)])}"
        chosen = np.bincount(found.probabilities.argmax(axis=1), minlength=len(loaded.classes))
        counts = dict(zip(loaded.class_names, chosen.tolist(), strict=True))
        screen().print(_count_table(title, "images", counts))
    _tell_broken(found.broken, quiet=quiet)
