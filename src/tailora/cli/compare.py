"""`tailora compare`."""

from pathlib import Path
from typing import Annotated, Any

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
    screen,
    task_for,
)


def compare(
    data: Data,
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder to create.", show_default="comparisons/DATA"),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Rows, comma-separated: {compared methods}; an oracle leaks the label. Also "
            "lora+LOSS and lora+SAMPLER, e.g. lora+seesaw; lora+reweight, lora+ecm.",
            show_default="zero-shot,lora,deblora",
        ),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(help="Rows of one of the paper's tables: {tables}."),
    ] = None,
    probes: Annotated[
        str | None,
        typer.Option(
            help="Heads to evaluate every adapter with, comma-separated: `all`, or names from "
            "`tailora methods probes`, with options as in logit-adjusted:tau=1.5.",
            show_default="the recipe's probe",
        ),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE,VALUE", help="Recipe key and the values to try; repeatable."
        ),
    ] = None,
    tune: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=LOW..HIGH[,log]",
            help="Tune a recipe key on the validation split for each row; also KEY=VALUE,VALUE; "
            "repeatable.",
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(help="Trials of --tune per row.", min=2, show_default="20"),
    ] = None,
    tune_by: Annotated[
        str | None,
        typer.Option(
            help="Validation macro-F1 that --tune maximises: {measures}.",
            show_default="all",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds, starting at --seed.", min=1)] = 3,
    resplit: Annotated[
        bool,
        typer.Option("--resplit", help="Draw a new split for each seed instead of sharing one."),
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Processes, one seed each; with --ray, concurrent work items.",
            min=1,
            show_default="one per two cores",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Run on a Ray cluster (auto, HOST:PORT, local) whose nodes all share --out.",
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
    seed: Seed = None,
    preset: Preset = None,
    recipe: RecipeFile = None,
    set_: Set = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted comparison, or add rows.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing comparison.")] = False,
    skip_broken: SkipBroken = False,
    quiet: Quiet = False,
    json: Json = False,
    allow_remote: AllowRemote = False,
    debug: Debug = False,
) -> None:
    """Train several methods on DATA over several seeds and compare them.

    Each adapter is trained once per seed and evaluated with each head; nothing is computed twice.
    Writes comparison.json, comparison.html and one metrics.json per row and seed.

    [dim]tailora compare chips/ --methods lora,deblora --probes logit-adjusted,cross-entropy[/]
    """
    from tailora.errors import ConfigError

    if resume and force:
        raise ConfigError("--resume continues a comparison and --force replaces it: choose one")
    chosen = chosen_recipe(
        recipe, set_, start=preset, backbone=backbone, tuner=tuner, rank=rank, clusters=clusters,
        image_size=image_size, epochs=epochs, seed=seed, skip_broken=skip_broken,
        task=task_for(data, task),
    )  # fmt: skip
    # only now, since the imports take seconds
    from tailora.experiments.compare import compare as run_compare
    from tailora.experiments.plan import (
        check_plan_choices,
        every_combination,
        make_plan,
        parse_vary,
        rows_of,
        split_names,
    )

    tuning = _tuning(tune, trials, tune_by)
    names, values = rows_of(split_names(methods or ""), table)
    values |= dict(parse_vary(text) for text in vary or [])
    asked = {
        "methods": names,
        "probes": split_names(probes or ""),
        "variants": every_combination(values),
        "seeds": seeds,
    }
    check_plan_choices(make_plan(chosen, **asked))
    drawn = range(chosen.seed, chosen.seed + (seeds if resplit else 1))
    how = {
        "labels": labels, "class_field": class_field, "rater_field": rater_field,
        "chip": chip, "classes": classes, "ignore": ignore, "outside": outside, "task": chosen.task,
    }  # fmt: skip
    sets = [opened(data, seed=one, imbalance=imbalance, **how) for one in drawn]
    folder = out or Path("comparisons") / sets[0].name
    found = run_compare(
        sets if resplit else sets[0],
        **asked,
        out=folder,
        recipe=chosen,
        tuning=tuning,
        jobs=jobs,
        ray=ray,
        resume=resume,
        force=force,
        progress=bars(quiet=quiet),
    )
    if json:
        print_json(found.to_json())
    elif not quiet:
        show: Any = screen()
        show.print(found.table())
        show.print(f"comparison: {listed([str(folder / 'comparison.html')])}", soft_wrap=True)


def _tuning(tune: list[str] | None, trials: int | None, by: str | None) -> Any:
    """The tuning requested by --tune, --trials and --tune-by; None without --tune."""
    from tailora.errors import ConfigError
    from tailora.experiments.tuning_space import DEFAULT_TRIALS, Tuning, parse_tune

    for name, value in (("--trials", trials), ("--tune-by", by)):
        if value is not None and not tune:
            raise ConfigError(f"{name} has no effect without --tune KEY=LOW..HIGH")
    if not tune:
        return None
    return Tuning(tuple(map(parse_tune, tune)), trials or DEFAULT_TRIALS, by or "all")
