"""`tailora assess`."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from tailora.cli.options import (
    AllowRemote,
    Debug,
    Json,
    Quiet,
    bars,
    check_ending,
    listed,
    print_json,
    screen,
)
from tailora.errors import ConfigError
from tailora.numbers import counted, percent

_FOR_SAMPLE = ("per_class", "seed", "show_map_class")
_FOR_LABELS = ("class_field", "layer", "html")


def assess(
    map_: Annotated[
        Path, typer.Argument(metavar="MAP", help="A finished map: one band of class values.")
    ],
    *,
    sample: Annotated[
        int | None,
        typer.Option(help="Draw this many points for a labeller, stratified by map class."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Points with their true class: assess the map by them."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="With --sample the points to write, .gpkg or .geojson; with --labels the "
            "assessment as JSON.",
        ),
    ] = None,
    per_class: Annotated[
        int | None,
        typer.Option(help="Fewest points of a class, as far as it has pixels.", show_default="30"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the draw.", show_default="0")
    ] = None,
    show_map_class: Annotated[
        bool,
        typer.Option(
            "--show-map-class",
            help="Write the class on the map beside each point; it biases the labeller.",
        ),
    ] = False,
    class_field: Annotated[
        str | None,
        typer.Option(help="Field of the true class, by name or value.", show_default="reference"),
    ] = None,
    label_field: Annotated[str | None, typer.Option(hidden=True)] = None,  # its earlier name
    layer: Annotated[
        str | None, typer.Option(help="Layer of the points.", show_default="the only one")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Also write the assessment as a page, .html.")
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            help="CSV file of class names, lines VALUE,NAME.", show_default="names in the map"
        ),
    ] = None,
    nodata: Annotated[
        int | None,
        typer.Option(help="Value without a class, besides the no-data value of the file."),
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
    allow_remote: AllowRemote = False,
    debug: Debug = False,
) -> None:
    """How accurate is a finished MAP, and how large is each class really?

    First draw a stratified random sample, then have the field `reference` filled in, from imagery
    or in the field, without looking at the map. The second call estimates overall, user's and
    producer's accuracy and error-adjusted areas (Olofsson et al. 2014).

    [dim]tailora assess map.tif --sample 300 --out points.gpkg[/]

    [dim]tailora assess map.tif --labels points.gpkg[/]
    """
    if (sample is None) == (labels is None):
        raise ConfigError("use either --sample N --out points.gpkg, or --labels points.gpkg")
    given = {
        "per_class": per_class, "seed": seed, "show_map_class": show_map_class or None,
        "class_field": class_field or label_field, "layer": layer, "html": html,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    for name in _FOR_SAMPLE if sample is None else _FOR_LABELS:
        if name in given:
            option, other = name.replace("_", "-"), "--sample" if sample is None else "--labels"
            raise ConfigError(f"--{option} goes with {other}; leave it out")
    about: dict[str, Any] = {"names": classes, "nodata": nodata, "progress": bars(quiet=quiet)}
    if sample is not None:
        if out is None:
            raise ConfigError("--sample needs --out points.gpkg, the file to write")
        _draw(map_, sample, out, given, about, quiet=quiet, json=json)
    elif labels is not None:
        _assess(map_, labels, out, given, about, quiet=quiet, json=json)


def _draw(
    path: Path,
    points: int,
    out: Path,
    given: dict[str, Any],
    about: dict[str, Any],
    *,
    quiet: bool,
    json: bool,
) -> None:
    from rich.table import Table

    from tailora.inference.map_sample import sample_map

    found = sample_map(path, out, points=points, **given, **about)
    if json:
        print_json(found.to_json())
    if quiet:
        return
    show = screen(stderr=json)
    table = Table(title=listed([found.points]), title_justify="left")
    table.add_column("class")
    for name in ("pixels", "share of the map", "points"):
        table.add_column(name, justify="right")
    for one in found.classes:
        table.add_row(
            listed([one.name]), f"{one.pixels:,}", f"{percent(one.map_share)} %", str(one.points)
        )
    show.print(table)
    _tell(found.notes, show)
    words = ["tailora", "assess", found.map, "--labels", found.points]
    for option, value in (("--classes", about["names"]), ("--nodata", about["nodata"])):
        words += [] if value is None else [option, str(value)]
    show.print(
        f"fill in the field 'reference' without looking at the map, then: "
        f"{listed([shlex.join(words)])}",
        soft_wrap=True,
    )


def _assess(
    path: Path,
    labels: Path,
    out: Path | None,
    given: dict[str, Any],
    about: dict[str, Any],
    *,
    quiet: bool,
    json: bool,
) -> None:
    check_ending(out, ".json", what="the assessment as JSON")
    html = given.get("html")
    if html is not None and html.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--html writes a page: its name must end in .html, got {html.name!r}")
    from tailora.inference.assess_map import assess_map
    from tailora.inference.map_sample import REFERENCE
    from tailora.storage import write_json

    field = given.get("class_field", REFERENCE)
    found = assess_map(path, labels, field=field, layer=given.get("layer"), **about)
    if out is not None:
        write_json(out, found.to_json())
    if html is not None:
        from tailora.inference.map_assessment_page import write_assessment

        write_assessment(found, html)
    if json:
        print_json(found.to_json())
    if not quiet:
        _show(found, screen(stderr=json))


def _show(found: Any, show: Any) -> None:
    show.print(found.table())
    left = [f"{counted(n, 'point')} {reason}" for reason, n in found.skipped.items() if n]
    others = f"; left out: {', '.join(left)}" if left else ""
    show.print(f"{counted(found.points, 'point')} used{others}", soft_wrap=True)
    _tell(found.notes, show)


def _tell(notes: Any, show: Any) -> None:
    for note in notes:
        show.print(f"note: {listed([note])}", soft_wrap=True)
