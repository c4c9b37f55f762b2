"""`tailora label` and what is done with the labels: `export`, `import`, `merge`."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from tailora.cli.options import (
    AllowRemote,
    Backbone,
    ChoicesInHelp,
    Debug,
    Json,
    Quiet,
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
from tailora.numbers import counted, percent

_START: Final = "start"


class _DataOrVerb(TyperGroup):
    """A group whose first word is a verb, or else the DATA of `start`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `start` before anything that is no verb."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = [_START, *args]
        return super().parse_args(ctx, args)


label = typer.Typer(
    cls=_DataOrVerb,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Label DATA in the browser, rare classes first: `tailora label DATA --classes a,b,c`, in "
    "full `tailora label start`.",
)

Session = Annotated[Path, typer.Argument(metavar="SESSION", help="Folder of a session.")]
Moved = Annotated[
    str | None,
    typer.Option("--data", help="Where the images are now.", show_default="where they were"),
]


@label.command(_START, cls=ChoicesInHelp)
def start(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A folder of images, data as for `tailora fit` (labels are not looked at), or a "
            "scene.",
        ),
    ],
    *,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Names a,b,c, or a file with one in each line. A session that is there has its "
            "own.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder of the session, which is continued if there is one.",
            show_default="labels-DATA",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Use the encoder of this classification run and, if its classes are among these, "
            "its first suggestions.",
            show_default="a pretrained one",
        ),
    ] = None,
    backbone: Backbone = None,
    like: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS=EXAMPLES",
            help="Examples of a class to search with, as for `tailora search`; may be repeated.",
        ),
    ] = None,
    target: Annotated[
        int | None, typer.Option(help="Labels wanted of each class.", show_default="20")
    ] = None,
    random_share: Annotated[
        float | None,
        typer.Option(
            help="Share of the images that is drawn evenly, to estimate accuracy and shares.",
            show_default="0.15",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of what is drawn.", show_default="0")
    ] = None,
    chip: WindowSide = None,
    step: SideBySide = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder that keeps features.", show_default="tailora-features beside --out"
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="Of the page; 0 takes any that is free.")] = 8765,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address, open no browser.")
    ] = False,
    set_: Set = None,
    skip_broken: SkipBroken = False,
    unverified: Unverified = False,
    quiet: Quiet = False,
    allow_remote: AllowRemote = False,
    debug: Debug = False,
) -> None:
    """Label DATA in the browser, rare classes first; Ctrl-C ends, the same command continues.

    Every answer is kept at once.

    A share of the images is drawn evenly, and shown without a suggestion.

    [dim]tailora label pool/ --classes classes.txt --like quarry=a.png,b.png[/]

    [dim]tailora label scene.tif --classes quarry,other --run runs/land --chip 64[/]

    [dim]tailora label export labels-pool --out labels.csv[/]
    """
    from tailora.labelling.serve import require_server

    require_server(port)  # before minutes of features
    folder = out or Path("labels-" + re.sub(r"[^\w.-]+", "-", Path(data).stem).strip("-."))
    made = {
        "--run": run, "--backbone": backbone, "--like": like, "--target": target,
        "--random-share": random_share, "--seed": seed, "--chip": chip, "--step": step,
        "--set": set_, "--skip-broken": skip_broken or None, "--cache": cache,
    }  # fmt: skip
    from tailora.labelling.settings import SETTINGS

    if (folder / SETTINGS).exists():
        session = _continued(folder, data, classes, made, quiet=quiet)
    else:
        if classes is None:
            raise ConfigError("a new session needs its classes: --classes a,b,c or a file of names")
        source = encoder_source(run, backbone, set_, unverified=unverified)
        from tailora.labelling.session import LabellingSession
        from tailora.labelling.settings import read_classes, read_examples

        names = read_classes(classes)
        given = {"target": target, "random_share": random_share, "seed": seed}
        session = LabellingSession.create(
            data, folder, classes=classes, like=read_examples(like or (), names), **source,
            chip=chip, step=step, cache=cache, skip_broken=skip_broken,
            progress=bars(quiet=quiet), **{k: v for k, v in given.items() if v is not None},
        )  # fmt: skip
    _serve(session, folder, port, browser=not no_browser, quiet=quiet)


def _continued(
    folder: Path, data: str, classes: str | None, made: dict[str, Any], *, quiet: bool
) -> Any:
    from tailora.labelling.session import LabellingSession
    from tailora.labelling.settings import read_classes, read_settings

    for option, value in made.items():
        if value is not None:
            raise ConfigError(
                f"the session {str(folder)!r} is there and has its own {option}: leave it out to "
                "continue, or choose another --out"
            )
    settings = read_settings(folder)
    if classes is not None and read_classes(classes) != settings.classes:
        raise ConfigError(
            f"the session {str(folder)!r} has the classes {', '.join(settings.classes)}: leave out "
            "--classes to continue, or choose another --out"
        )
    return LabellingSession.open(folder, data=data, progress=bars(quiet=quiet))


def _serve(session: Any, folder: Path, port: int, *, browser: bool, quiet: bool) -> None:
    from tailora.labelling.serve import serve

    show = screen(stderr=True)
    with session:
        if not quiet:
            for note in session.notes:
                show.print(f"note: {listed([note])}", soft_wrap=True)
        serve(session, port=port, browser=browser)
        status = session.status()
        if status.failed:
            show.print(
                f"note: {listed([f'suggestions could not be renewed: {status.failed}'])}",
                soft_wrap=True,
            )
        if not quiet:
            answered = counted(status.answered, "answer")
            show.print(
                f"{answered} in {listed([str(folder)])}; `tailora label export "
                f"{listed([shlex.quote(str(folder))])} --out labels.csv` writes the labels",
                soft_wrap=True,
            )


@label.command("export")
def export(
    session: Session,
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Table .csv for `tailora fit`; of a scene .gpkg or .geojson; .json with --format.",
        ),
    ],
    form: Annotated[
        str | None, typer.Option("--format", help="Of a .json: coco or label-studio.")
    ] = None,
    data: Moved = None,
    quiet: Quiet = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the labels of SESSION, which may be open.

    [dim]tailora label export labels-pool --out labels.csv[/]

    [dim]tailora fit labels.csv --out runs/a[/]

    [dim]tailora label export labels-scene --out labels.gpkg[/]

    [dim]tailora fit scene.tif --labels labels.gpkg --class-field class[/]
    """
    from dataclasses import asdict

    from tailora.labelling.export import export_labels

    found = export_labels(session, out, form=form, data=data)
    if json:
        print_json(asdict(found))
    if not quiet:
        show = screen(stderr=json)
        counts = [f"{name} {count:,}" for name, count in found.counts.items()]
        show.print(f"{counted(found.labels, 'label')} in {listed([str(out)])}", soft_wrap=True)
        show.print(listed(counts), soft_wrap=True)
        if found.unlabelled:
            show.print(f"left out, unsure or skipped: {found.unlabelled:,}")
        for note in found.notes:
            show.print(f"note: {listed([note])}", soft_wrap=True)


@label.command("import")
def import_(
    session: Session,
    labels: Annotated[
        Path,
        typer.Argument(
            metavar="LABELS",
            help="Table with label and path or id; COCO or Label Studio .json; polygons or points "
            "of a scene.",
        ),
    ],
    *,
    class_field: Annotated[
        str, typer.Option(help="Attribute of polygons or points with the class name.")
    ] = "class",
    data: Moved = None,
    quiet: Quiet = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Add LABELS from elsewhere to SESSION; what was answered there stays."""
    from dataclasses import asdict

    from tailora.labelling.take_in import import_labels

    found = import_labels(session, labels, class_field=class_field, data=data)
    if json:
        print_json(asdict(found))
    if not quiet:
        parts = [f"{counted(found.labels, 'label')} added"]
        if found.answered:
            differ = f", of which {found.differ:,} differently" if found.differ else ""
            parts.append(f"answered before: {found.answered:,}{differ}")
        parts += ["the answers of the session are kept"] if found.differ else []
        parts += [f"of other images: {found.elsewhere:,}"] if found.elsewhere else []
        screen(stderr=json).print("; ".join(parts), soft_wrap=True)


@label.command("merge")
def merge(
    sessions: Annotated[
        list[Path], typer.Argument(metavar="SESSION...", help="Sessions about the same images.")
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new session.")],
    quiet: Quiet = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Put sessions of several people together, and show how far they agree.

    An image has the class that more than half gave it.

    The others are the first page of the new session; all that differ are in differences.csv.
    """
    from tailora.labelling.merge import merge_sessions

    found = merge_sessions(sessions, out)
    if json:
        print_json(found.to_json())
    if not quiet:
        _show_agreement(found.agreement, screen(stderr=json))
        screen(stderr=json).print(
            f"{counted(found.labels, 'label')} in {listed([str(out)])}; different: "
            f"{found.differ:,}, of which {found.decided:,} decided by more than half",
            soft_wrap=True,
        )


def _show_agreement(rows: Sequence[Any], show: Any) -> None:
    from rich.table import Table

    table = Table(title="agreement", title_justify="left")
    for name in ("sessions", "class"):
        table.add_column(name)
    for name in ("images", "agreed", "kappa"):
        table.add_column(name, justify="right")
    for one in rows:
        share = f"{percent(one.agreed / one.images)} %" if one.images else "–"
        kappa = "–" if one.kappa is None else f"{one.kappa:.2f}"
        pair = listed([f"{one.first}, {one.second}"])
        table.add_row(pair, listed([one.name or "all"]), f"{one.images:,}", share, kappa)
    show.print(table)
