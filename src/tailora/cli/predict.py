"""`tailora predict`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tailora.cli.options import Debug, Json, Quiet, SkipBroken, bars, listed, print_json, screen


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `tailora fit` made.")],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGES", help="Image files, or folders of them.")
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="CSV file to write.", show_default="standard output"),
    ] = None,
    skip_broken: SkipBroken = False,
    quiet: Quiet = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Predict IMAGES: class, probability of every class, and whether that class can be trusted.

    `trusted` is no where the run's own test found the class weak or too small to judge.
    """
    from tailora.pipeline import predict as prediction
    from tailora.runs.run import load_run
    from tailora.storage import write_text

    loaded = load_run(run)
    found = prediction.predict(loaded, images, skip_broken=skip_broken, progress=bars(quiet=quiet))
    text = prediction.predictions_csv(loaded, found)
    if out:
        write_text(out, text)
    if json:
        print_json(prediction.predictions_json(loaded, found))
    elif not out:
        sys.stdout.write(text)
    if found.broken and not quiet:
        screen(stderr=True).print(
            f"left out {len(found.broken)} unreadable images: {listed(found.broken[:5])}"
        )
