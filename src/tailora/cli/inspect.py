"""`tailora inspect`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tailora.cli.options import (
    AllowRemote,
    Chip,
    Classes,
    ClassField,
    Debug,
    Ignore,
    Imbalance,
    Json,
    Labels,
    Outside,
    Quiet,
    RaterField,
    Seed,
    Task,
    check_ending,
    listed,
    opened,
    print_json,
    screen,
    task_for,
)


def inspect(
    data: Annotated[str, typer.Argument(metavar="DATA", help="As for `tailora fit`.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="HTML page to write, with counts and thumbnails."),
    ] = None,
    task: Task = None,
    imbalance: Imbalance = None,
    labels: Labels = None,
    class_field: ClassField = None,
    rater_field: RaterField = None,
    classes: Classes = None,
    ignore: Ignore = None,
    outside: Outside = None,
    chip: Chip = None,
    wavelengths: Annotated[
        str | None,
        typer.Option(
            help="Wavelength of each band in µm, e.g. 0.49,0.56,0.665: shows how an RGB "
            "stem would map them."
        ),
    ] = None,
    new_bands: Annotated[
        str, typer.Option(help="Initial kernels of the other bands: {starts}.")
    ] = "zero",
    seed: Seed = None,
    quiet: Quiet = False,
    json: Json = False,
    allow_remote: AllowRemote = False,
    debug: Debug = False,
) -> None:
    """Summarise DATA: classes, splits, imbalance, duplicates across splits, bands.

    A raster without --labels is summarised on its own.
    """
    check_ending(out, ".html", ".htm", what="an HTML page")
    from tailora.data.scenes.manifest import open_unlabelled

    # report a wrong path before the slow imports
    labelled = labels or class_field or imbalance or chip or task_for(data, task)
    scene = None if labelled else open_unlabelled(data)
    given: dict[str, Any] = {"wavelengths": _numbers(wavelengths), "new_bands": new_bands}
    if scene is not None:
        found_there = _inspect_scene(scene, given, out)
        if json:
            print_json(found_there.to_json())
        elif not quiet:
            _show_scene(found_there)
        return
    dataset = opened(
        data, seed=seed or 0, imbalance=imbalance, labels=labels, class_field=class_field,
        rater_field=rater_field, chip=chip, classes=classes, ignore=ignore, outside=outside,
        task=task_for(data, task) or "classify",
    )  # fmt: skip
    from tailora.curation.inspect import inspect_dataset, write_page

    found = inspect_dataset(dataset, **given)
    if out:
        write_page(dataset, found, out)
    if json:
        print_json(found.to_json())
    elif not quiet:
        _show(found)


def _inspect_scene(scene: Any, given: dict[str, Any], out: Path | None) -> Any:
    from tailora.curation.inspect_scene import inspect_scene, write_scene_inspection

    found = inspect_scene(scene, **given)
    if out:
        write_scene_inspection(found, out)
    return found


def _show_scene(found: Any) -> None:
    from rich.table import Table

    from tailora.numbers import magnitude

    show = screen()
    show.print(listed([found.look.name]))
    for name, text in found.look.facts:
        show.print(f"  {name}: {listed([text])}", soft_wrap=True)
    table = Table("band", "µm", "min", "2 %", "median", "98 %", "max", "mean")
    for band in found.values.bands:
        wave = "-" if band.wavelength is None else f"{band.wavelength:.3f}"
        numbers = (band.low, *band.percentiles, band.high, band.mean)
        table.add_row(listed([band.name]), wave, *(magnitude(value) for value in numbers))
    show.print(table)
    _show_values(found.values, show)


def _show_values(values: Any, show: Any) -> None:
    names = ", ".join(band.name for band in values.bands)
    show.print(f"values look like {values.units}; bands: {listed([names])}", soft_wrap=True)
    for text in values.warnings:
        show.print(f"warning: {listed([text])}", soft_wrap=True)
    if values.stem:
        _show_stem(values.stem)


def _numbers(text: str | None) -> list[float] | None:
    from tailora.errors import ConfigError

    if text is None:
        return None
    try:
        return [float(value) for value in text.split(",")]
    except ValueError as error:
        raise ConfigError(
            f"--wavelengths takes comma-separated numbers in µm, 0 for radar, got {text!r}"
        ) from error


def _show_stem(rows: Any) -> None:
    from rich.table import Table

    table = Table("band", "µm", "kernel", "times", "learns", title="by-wavelength stem")
    for row in rows:
        centre = "-" if row.wavelength is None else f"{row.wavelength:g}"
        table.add_row(
            str(row.band), centre, row.kernel, f"{row.scale:.3g}", "yes" if row.learns else "no"
        )
    screen().print(table)


def _show(found: Any) -> None:
    from rich.table import Table

    from tailora.numbers import counted

    show = screen()
    pixels = any(row.pixels is not None for row in found.rows)
    objects = any(row.objects is not None for row in found.rows)
    columns = [("class", "group", "train", "val", "test")]
    columns += [("pixels",)] * pixels + [("objects train / val / test",)] * objects
    columns += [("median sides, px",)] * (found.sizes is not None)
    table = Table(*sum(columns, ()), title=listed([found.name]))
    for row in found.rows:
        counts = [str(row.counts[s]) for s in ("train", "val", "test")]
        more = [str(row.pixels)] * pixels + [row.objects_text()] * objects
        more += [] if found.sizes is None else [found.sizes.text(row.name)]
        table.add_row(listed([row.name]), row.group, *counts, *more)
    show.print(table)
    if found.sizes is not None:
        show.print(found.sizes.summary(), soft_wrap=True)
    image, dates = found.image, found.image["dates"]
    show.print(
        f"imbalance {found.imbalance:.1f} : 1; first {'pair' if dates > 1 else 'image'} "
        f"{counted(image['bands'], 'band')}{f' at {dates} dates' if dates > 1 else ''}, "
        f"{image['height']} x {image['width']}, {image['dtype']}"
    )
    _show_values(found.values, show)
    if found.small:
        show.print(f"too few test samples to judge: {listed(found.small)}", soft_wrap=True)
    leaks = [d for d in found.duplicates if d.leaks]
    conflicts = [d for d in found.duplicates if d.conflicts]
    show.print(
        f"exact duplicates: {len(found.duplicates)}; across splits {len(leaks)}, with "
        f"conflicting labels {len(conflicts)}"
    )
    for copy in [*leaks, *conflicts][:5]:
        show.print(f"  {listed(copy.ids)}", soft_wrap=True)
    for note in found.notes:
        show.print(f"note: {listed([note])}", soft_wrap=True)
