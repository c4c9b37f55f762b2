"""`tailora fit`."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import typer

from tailora.cli.options import (
    Debug,
    Json,
    Quiet,
    Seed,
    SkipBroken,
    bars,
    listed,
    print_json,
    screen,
)
from tailora.progress import Progress


def fit(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Folder of class folders, CSV or Parquet table (path, label, optional split and "
            "group), or the built-in `bluemarble`.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Run folder to make.", show_default="runs/DATA"),
    ] = None,
    *,
    method: Annotated[
        str | None,
        typer.Option(
            help="deblora (evaluates zero-shot and lora too), lora, fine-tune, zero-shot.",
            show_default="deblora",
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="Hub id, local folder, or dinov2-small.", show_default="dinov2-small"),
    ] = None,
    tuner: Annotated[
        str | None,
        typer.Option(
            help="PEFT adapter: lora, dora, loha, ... (`tailora methods`).", show_default="lora"
        ),
    ] = None,
    rank: Annotated[int | None, typer.Option(help="Adapter rank.", show_default="8")] = None,
    clusters: Annotated[int | None, typer.Option(help="debLoRA's K.", show_default="32")] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            help="Side in pixels the encoder sees; its patch size must divide it.",
            show_default="five patches, 70 for DINOv2",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes of the base adaptation.", show_default="3")
    ] = None,
    seed: Seed = None,
    recipe: Annotated[
        Path | None, typer.Option(help="TOML file of choices; the flags here override it.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any recipe key, e.g. deblora.balance=2 (`tailora methods recipe`).",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a run that is there.")] = False,
    skip_broken: SkipBroken = False,
    quiet: Quiet = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Adapt an encoder to DATA, measure it class by class, and write a run folder with a report.

    Nothing is selected on the test split. An interrupted run goes on with --resume.

    [dim]tailora fit chips/ --out runs/chips --image-size 98 --set probe.loss=cross-entropy[/]
    """
    from tailora.data import open_dataset
    from tailora.errors import ConfigError
    from tailora.pipeline.fit import fit as run_fit
    from tailora.runs.recipe import Recipe, parse_assignment, read_recipe

    if resume and force:
        raise ConfigError("--resume goes on with a run and --force replaces it: choose one")
    values: dict[str, Any] = read_recipe(recipe) if recipe else {}
    flags = {
        "method": method, "backbone.name": backbone, "adapter.tuner": tuner, "adapter.rank": rank,
        "deblora.clusters": clusters, "data.image_size": image_size, "train.epochs": epochs,
        "seed": seed, "data.skip_broken": skip_broken or None,
    }  # fmt: skip
    values |= {key: value for key, value in flags.items() if value is not None}
    values |= dict(parse_assignment(text) for text in set_ or [])
    chosen = Recipe().override(values)
    dataset = open_dataset(data, seed=chosen.seed)
    folder = out or Path("runs") / dataset.name
    show = screen()
    progress = bars(quiet=quiet)
    if not quiet and not json:
        progress = _announcing(progress, dataset, chosen)
    run = run_fit(dataset, recipe=chosen, out=folder, resume=resume, force=force, progress=progress)
    if json:
        print_json(run.metrics.to_json())
    elif not quiet:
        _conclude(run, show, folder)


def _announcing(progress: Progress, dataset: Any, recipe: Any) -> Progress:
    """Say what is about to be done when the first step begins: all checks have passed then."""
    told = False

    def step(title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        nonlocal told
        if not told:
            told = True
            _announce(dataset, recipe)
        return progress(title, total)

    return step


def _announce(dataset: Any, recipe: Any) -> None:
    counts = dataset.counts("train")
    screen(stderr=True).print(
        f"{listed([dataset.name])}: {len(dataset.indices('train'))} training, "
        f"{len(dataset.indices('val'))} validation, {len(dataset.indices('test'))} test images, "
        f"{len(dataset.classes)} classes, {max(counts.values)} to {min(counts.values)} a class; "
        f"{recipe.method} on {listed([recipe.backbone.name])}",
        soft_wrap=True,
    )


def _conclude(run: Any, show: Any, folder: Path) -> None:
    from rich.table import Table

    if run.record["adapted"]:
        table = Table("adapted layers", "count", "shape", "parameters")
        for row in run.record["adapted"]:
            table.add_row(row["module"], str(row["count"]), row["shape"], f"{row['parameters']:,}")
        screen(stderr=True).print(table)
    copies = [d for d in run.record["dataset"]["duplicates"] if len(set(d["splits"])) > 1]
    if copies:
        show.print(f"warning: {len(copies)} images stand in more than one split, see the report")
    broken = run.record["dataset"]["broken"]
    if broken:
        show.print(f"left out {len(broken)} unreadable images: {listed(broken[:5])}")
    show.print(run.metrics.table())
    weak = [entry["name"] for entry in run.classes if entry["verdict"] != "trusted"]
    show.print(f"not to be trusted yet: {listed(weak) or 'none'}", soft_wrap=True)
    show.print(f"report: {listed([str(folder / 'report.html')])}", soft_wrap=True)
