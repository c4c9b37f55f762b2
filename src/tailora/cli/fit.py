"""`tailora fit`."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tailora.cli.options import (
    AllowRemote,
    Backbone,
    Chip,
    Classes,
    ClassField,
    Clusters,
    Data,
    Debug,
    Epochs,
    Ignore,
    ImageSize,
    Imbalance,
    Json,
    Labels,
    Outside,
    Preset,
    Probe,
    Quiet,
    Rank,
    RaterField,
    RecipeFile,
    Seed,
    Set,
    SkipBroken,
    Task,
    Tuner,
    bars,
    chosen_recipe,
    listed,
    opened,
    print_json,
    print_of_task,
    screen,
    task_for,
    tell_notes,
)
from tailora.launcher import is_first
from tailora.numbers import counted, duration
from tailora.progress import Progress

_LONGEST: Final = 4  # stages whose time is told one by one


def fit(
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Run folder to create.", show_default="runs/DATA"),
    ] = None,
    *,
    method: Annotated[
        str | None,
        typer.Option(
            help="{fitted methods}; deblora also evaluates zero-shot and lora.",
            show_default="lora",
        ),
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
    backbone: Backbone = None,
    tuner: Tuner = None,
    rank: Rank = None,
    clusters: Clusters = None,
    image_size: ImageSize = None,
    epochs: Epochs = None,
    probe: Probe = None,
    seed: Seed = None,
    preset: Preset = None,
    recipe: RecipeFile = None,
    set_: Set = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing run.")] = False,
    skip_broken: SkipBroken = False,
    tracker: Annotated[
        list[str] | None,
        typer.Option(
            "--tracker",
            metavar="NAME",
            help="Also log training to a tracker: {trackers}; may be repeated.",
        ),
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
    allow_remote: AllowRemote = False,
    debug: Debug = False,
) -> None:
    """Adapt an encoder to DATA, evaluate it per class, and write a run folder with a report.

    The test split is never used for selection. Continue an interrupted run with --resume.

    [dim]tailora fit chips/ --out runs/chips --image-size 98 --probe crt[/]
    """
    from tailora.errors import ConfigError

    if not is_first():  # only the first process prints
        quiet, json = True, False
    if resume and force:
        raise ConfigError("--resume continues a run and --force replaces it: choose one")
    chosen = chosen_recipe(
        recipe, set_, start=preset, method=method, backbone=backbone, tuner=tuner, rank=rank,
        clusters=clusters, image_size=image_size, epochs=epochs, probe=probe, seed=seed,
        skip_broken=skip_broken, trackers=tracker, task=task_for(data, task),
    )  # fmt: skip
    # only now, since the imports take seconds
    from tailora.methods.checks import check_choices
    from tailora.methods.fit import fit as run_fit
    from tailora.processes import leave
    from tailora.runs.folder import RunFolder

    check_choices(chosen)
    flags = {
        "adapter.tuner": tuner, "adapter.rank": rank, "deblora.clusters": clusters,
        "train.epochs": epochs, "train.trackers": tracker,
    }  # fmt: skip
    _tell_ignored(chosen, flags, set_ or [], quiet=quiet)
    if out:
        RunFolder(out).check_use(resume=resume, force=force)
    dataset = opened(
        data, seed=chosen.seed, imbalance=imbalance, labels=labels, class_field=class_field,
        rater_field=rater_field, chip=chip, classes=classes, ignore=ignore, outside=outside,
        task=chosen.task,
    )  # fmt: skip
    folder = out or Path("runs") / dataset.name
    show = screen()
    progress = bars(quiet=quiet)
    if not quiet and not json:
        progress = _announcing(progress, dataset, chosen)
    run = run_fit(dataset, recipe=chosen, out=folder, resume=resume, force=force, progress=progress)
    if not quiet:
        tell_notes(_warnings(run))
    if json:
        print_json(run.metrics.to_json())
    elif not quiet:
        _conclude(run, show, folder)
    leave()


def _tell_ignored(
    chosen: Any, flags: Mapping[str, object], assignments: list[str], *, quiet: bool
) -> None:
    """Note which of the options that were given the method does not use."""
    from tailora.config.recipe import parse_assignment
    from tailora.methods.checks import ignored

    given = [key for key, value in flags.items() if value is not None]
    given += [parse_assignment(text)[0] for text in assignments]
    if not quiet and (idle := ignored(chosen, given)):
        tell_notes([f"method {chosen.method!r} does not use {', '.join(idle)}"])


def _announcing(progress: Progress, dataset: Any, recipe: Any) -> Progress:
    """Print a summary when the first step begins, since all checks have passed by then."""
    told = False

    def step(title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        nonlocal told
        if not told:
            told = True
            _announce(dataset, recipe)
        return progress(title, total)

    return step


def _announce(dataset: Any, recipe: Any) -> None:
    from tailora.methods.auto_training import with_training
    from tailora.methods.method import find_method

    counts, train = dataset.counts("train"), with_training(recipe).train
    how = (
        f" ({train.optimizer}, augmentation {train.augment})"
        if find_method(recipe.method).trains
        else ""
    )
    screen(stderr=True).print(
        f"{listed([dataset.name])}: {len(dataset.indices('train'))} training, "
        f"{len(dataset.indices('val'))} validation, {len(dataset.indices('test'))} test images, "
        f"{counted(len(dataset.classes), 'class')}, {max(counts.values)} to {min(counts.values)} "
        f"per class; {recipe.method}{how} on {listed([recipe.backbone.name])}",
        soft_wrap=True,
    )


def _warnings(run: Any) -> list[str]:
    """What may make the scores misleading."""
    facts = run.record.dataset
    copies = [d for d in facts.duplicates if len(set(d.splits)) > 1]
    leak = (
        f"in more than one split, inflating test scores: {counted(len(copies), 'image')}; see the "
        "report"
    )
    told = [note for note in facts.notes if "range check: " in note or "several labels" in note]
    return ([leak] if copies else []) + told


def _times(stages: Sequence[Any]) -> str:
    """Say where the time went, the longest stage first; the short ones together."""
    ordered = sorted(stages, key=lambda stage: -stage.seconds)
    told = [f"{stage.name} {duration(stage.seconds)}" for stage in ordered[:_LONGEST]]
    rest = sum(stage.seconds for stage in ordered[_LONGEST:])
    return "time: " + ", ".join([*told, *([f"all else {duration(rest)}"] if rest else [])])


def _conclude(run: Any, show: Any, folder: Path) -> None:
    from rich.markup import escape
    from rich.table import Table

    from tailora.report.score_sections import deciding_pairs
    from tailora.report.sentences import compare_scores

    if run.record.adapted:
        table = Table("adapted layers", "count", "shape", "parameters")
        for row in run.record.adapted:
            table.add_row(row.module, str(row.count), row.shape, f"{row.parameters:,}")
        screen(stderr=True).print(table)
    broken = run.record.dataset.broken
    if broken:
        show.print(f"left out {counted(len(broken), 'unreadable image')}: {listed(broken[:5])}")
    show.print(run.metrics.table())
    print_of_task(run, show)
    last = run.metrics.methods[-1]
    if last.head_options:
        chosen = ", ".join(f"{key} = {value}" for key, value in last.head_options.items())
        show.print(escape(f"chosen on validation for {last.head}: {chosen}"), soft_wrap=True)
    for pair in deciding_pairs(run):
        said = compare_scores(pair, "tail", confidence=run.metrics.bootstrap.confidence)
        show.print(escape(said.text), soft_wrap=True)
    if run.metrics.alarm():
        show.print(listed([run.metrics.alarm()]), soft_wrap=True)
    weak = [one.name for one in run.classes if one.verdict != "trusted"]
    show.print(f"not trusted yet: {listed(weak) or 'none'}", soft_wrap=True)
    show.print(escape(_times(run.record.stages)), soft_wrap=True)
    show.print(f"report: {listed([str(folder / 'report.html')])}", soft_wrap=True)
