"""Options that several commands share, and how results are printed."""

import copy
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperCommand

from tailora import registry, source
from tailora.adapters import tuner_names
from tailora.cli.streams import write_data
from tailora.config.presets import PRESETS
from tailora.errors import ConfigError
from tailora.progress import Progress, rich_progress, silent

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars and no tables.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Unverified = Annotated[
    bool,
    typer.Option("--unverified", help="Use a run even if its files have changed since training."),
]
SkipBroken = Annotated[
    bool,
    typer.Option("--skip-broken", help="Skip and list unreadable images instead of stopping."),
]


Views = Annotated[
    int | None,
    typer.Option(
        help="Flips and quarter turns of each image to predict from, 1 or 8: one is eight times as "
        "fast as eight, and less accurate.",
        show_default="the run's",
    ),
]
Raw = Annotated[
    bool,
    typer.Option(
        "--raw",
        help="Probabilities without temperature scaling, even where it improved calibration on "
        "validation.",
    ),
]


def _trust(allowed: bool) -> bool:  # noqa: FBT001 - typer calls it so
    from tailora.data.rasters.files import ALLOW_REMOTE

    if allowed:
        os.environ[ALLOW_REMOTE] = "1"  # child processes read the same files
    return allowed


AllowRemote = Annotated[
    bool,
    typer.Option(
        "--allow-remote",
        help="Let VRTs read any source they name: files outside their folder, the network, code.",
        callback=_trust,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        min=0,
        help="Seeds splits, weights, sampling order and intervals.",
        show_default="0",
    ),
]
Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Folder with one subfolder per class, CSV or Parquet table (path, label, optional "
        "split and group); with --task segment a folder with images/ and masks/ or a table (image, "
        "mask), with --task detect dota:PATH, yolo:PATH or coco:PATH; a scene (raster or folder of "
        "bands with --labels, or a .toml that lists scenes), a public dataset as NAME:PATH "
        "({public datasets}), or a built-in dataset: {built-in datasets}.",
    ),
]
Imbalance = Annotated[
    str | None,
    typer.Option(
        metavar="PROFILE:ratio=N",
        help="Subsample the training split to a synthetic long tail: {profiles}; step also takes "
        "minority=SHARE, e.g. step:ratio=50:minority=0.5.",
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        "--labels",
        help="Labels of a scene: polygons or points (GeoPackage, GeoJSON, Shapefile), or a "
        "raster of class values.",
    ),
]
ClassField = Annotated[
    str | None,
    typer.Option(
        "--class-field",
        metavar="NAME[,NAME...]",
        help="Attribute with the class name, or several: each combination of their values is a "
        "class (for a raster, an optional column of its attribute table).",
    ),
]
RaterField = Annotated[
    str | None,
    typer.Option(
        "--rater-field",
        metavar="NAME",
        help="With --task segment or change: attribute with the name of who drew a polygon or "
        "point, where several people did; each has masks of their own.",
    ),
]
Classes = Annotated[
    Path | None,
    typer.Option(
        "--classes",
        help="Class table of masks or of a label raster, a line VALUE,NAME for each class; the "
        "name ignore marks pixels without a class.",
        show_default="classes.csv or classes.txt beside the images; what a raster declares",
    ),
]
Ignore = Annotated[
    int | None,
    typer.Option(
        "--ignore",
        help="Value of pixels of masks or of a label raster without a class, besides those that "
        "the class table ignores.",
    ),
]
Outside = Annotated[
    str | None,
    typer.Option(
        "--outside",
        metavar="NAME",
        help="With --task segment: class of the pixels of a scene outside all polygons, e.g. "
        "background.",
        show_default="no class",
    ),
]
Chip = Annotated[
    int | None,
    typer.Option(
        "--chip",
        help="Size in pixels of the chips cut from a scene.",
        show_default="64; 128 for segment, 448 for detect",
    ),
]
SceneChip = Annotated[
    int | None,
    typer.Option("--chip", help="Chip size in pixels of a scene.", show_default="that of the run"),
]
WindowSide = Annotated[
    int | None,
    typer.Option(
        "--chip",
        help="Size in pixels of the windows of a scene.",
        show_default="that of the run, or 64",
    ),
]
SideBySide = Annotated[
    int | None,
    typer.Option("--step", help="Stride between windows in pixels.", show_default="side by side"),
]
EncoderRun = Annotated[
    Path | None,
    typer.Option(
        "--run", help="Use the adapted encoder of this run.", show_default="a pretrained one"
    ),
]
Sensor = Annotated[
    str | None,
    typer.Option(help="Sensor whose bands a scene has, in its order: {sensors}."),
]
BandNames = Annotated[
    str | None,
    typer.Option(help="Bands of a scene in file order, comma-separated."),
]
Nodata = Annotated[
    float | None,
    typer.Option(help="No-data value of a scene.", show_default="what the files declare"),
]
Backbone = Annotated[
    str | None,
    typer.Option(help="Hub id, local folder, or dinov2-small.", show_default="dinov2-small"),
]
Task = Annotated[
    str | None,
    typer.Option(
        "--task",
        help="What is decided about an image: {tasks}.",
        show_default="classify; segment for bluemarble-dense, detect for shapes-dota, tree-crowns, "
        "yolo:, coco:",
    ),
]
Tuner = Annotated[
    str | None,
    typer.Option(help="PEFT adapter: {tuners}.", show_default="lora"),
]
Probe = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[:OPTION=VALUE]",
        help="Head trained on the features, from `tailora methods probes`: crt, focal:gamma=1, ...",
        show_default="logit-adjusted",
    ),
]
Rank = Annotated[
    int | None,
    typer.Option(help="Adapter rank.", show_default="32 where Muon is the default, else 8"),
]
Clusters = Annotated[int | None, typer.Option(help="K of debLoRA's K-means.", show_default="32")]
ImageSize = Annotated[
    int | None,
    typer.Option(
        help="Input size in pixels; must be a multiple of the encoder's patch size.",
        show_default="five patches, 70 for DINOv2",
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        help="Training epochs of the base adapter.", show_default="3; 8 for --task detect"
    ),
]
RecipeFile = Annotated[Path | None, typer.Option(help="TOML recipe; flags override it.")]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Preset to start from ({presets}; `fast` trains only a head on pretrained features, "
        "`paper` is debLoRA as published); other options "
        "override it."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any recipe key, e.g. deblora.balance=2 (`tailora methods recipe`).",
    ),
]


_CHOICES: Mapping[str, Callable[[], Iterable[str]]] = {
    "built-in datasets": lambda: source.table("tailora.data.open", "_OPENERS"),
    "fitted methods": registry.fitted_methods,
    "compared methods": registry.compared_methods,
    "measures": lambda: source.constant("tailora.experiments.tuning_space", "MEASURES"),
    "presets": lambda: PRESETS,
    "profiles": lambda: source.table("tailora.data.imbalance", "_PROFILES"),
    "public datasets": lambda: source.table("tailora.data.readers.published", "_OPENERS"),
    "sensors": lambda: source.table("tailora.data.bands.names", "SENSORS"),
    "starts": lambda: source.constant("tailora.backbones.stem", "NEW_BANDS"),
    "tables": lambda: source.constant("tailora.experiments.plan", "TABLES"),
    "trackers": lambda: source.constant("tailora.train.trackers", "TRACKERS"),
    "tasks": lambda: registry.names("tasks"),
    "tuners": tuner_names,
}


class ChoicesInHelp(TyperCommand):
    """A command whose help lists the choices, as in `{tuners}`, including those of plugins."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show the help with the choices that there are now."""
        own = self.params
        self.params = [_with_choices(parameter) for parameter in own]
        try:
            super().format_help(ctx, formatter)
        finally:
            self.params = own


def _with_choices(parameter: Any) -> Any:
    shown = copy.copy(parameter)
    for name, choices in _CHOICES.items():
        if f"{{{name}}}" in (getattr(shown, "help", None) or ""):
            shown.help = shown.help.replace(f"{{{name}}}", ", ".join(choices()))
    return shown


def chosen_recipe(
    file: Path | None,
    assignments: list[str] | None,
    *,
    start: str | None = None,
    method: str | None = None,
    backbone: str | None = None,
    tuner: str | None = None,
    rank: int | None = None,
    clusters: int | None = None,
    image_size: int | None = None,
    epochs: int | None = None,
    probe: str | None = None,
    seed: int | None = None,
    skip_broken: bool = False,
    trackers: list[str] | None = None,
    task: str | None = None,
) -> Any:
    """Build the recipe from the preset, then the file, the flags and `--set`.

    Raises:
        ConfigError: An unknown key, or a value of the wrong type or range.
    """
    from tailora.config.choices import check_plain
    from tailora.config.presets import preset
    from tailora.config.probe_choice import parse_probe
    from tailora.config.recipe import Recipe, parse_assignment, read_recipe
    from tailora.tasks.task import find_task

    values: dict[str, Any] = dict(find_task(task).defaults) if task else {}
    values |= preset(start) if start else {}
    values |= read_recipe(file) if file else {}
    flags = {
        "method": method, "backbone.name": backbone, "adapter.tuner": tuner, "adapter.rank": rank,
        "deblora.clusters": clusters, "data.image_size": image_size, "train.epochs": epochs,
        "seed": seed, "data.skip_broken": skip_broken or None, "train.trackers": trackers,
        "task": task,
    }  # fmt: skip
    values |= {key: value for key, value in flags.items() if value is not None}
    if probe is not None:
        head = parse_probe(probe)
        values |= {"probe.loss": head.kind, "probe.loss_options": head.options}
        values |= head.seen
    values |= dict(parse_assignment(text) for text in assignments or [])
    chosen = Recipe().override(values)
    check_plain(chosen)  # before seconds of imports
    return chosen


def encoder_source(
    run: Path | None, backbone: str | None, assignments: list[str] | None, *, unverified: bool
) -> dict[str, Any]:
    """Load the run whose encoder is used, or build the recipe of a pretrained one.

    Returns:
        `run` and `recipe`, one of them None.

    Raises:
        ConfigError: Both are asked for, or see `chosen_recipe`.
        RunError: The run cannot be loaded.
    """
    if run is None:
        return {"run": None, "recipe": chosen_recipe(None, assignments, backbone=backbone)}
    if backbone is not None or assignments:
        option = "--backbone" if backbone is not None else "--set"
        raise ConfigError(f"the encoder and its input are those of --run: leave out {option}")
    from tailora.runs.run import load_run

    loaded = load_run(run, verify=not unverified)
    tell_notes(loaded.notes)
    return {"run": loaded, "recipe": None}


_TASK_OF: Mapping[str, str] = {
    "bluemarble-dense": "segment",
    "coco": "detect",
    "shapes-dota": "detect",
    "tree-crowns": "detect",
    "voronoi-pairs": "change",
    "yolo": "detect",
}


def task_for(data: str, task: str | None) -> str | None:
    """Return the task that was chosen, else the one that a built-in dataset is for, if any."""
    return task or (None if Path(data).exists() else _TASK_OF.get(data.partition(":")[0]))


def opened(
    data: str, *, seed: int, imbalance: str | None, task: str = "classify", **scene: Any
) -> Any:
    """Open DATA, subsampled if requested.

    Raises:
        TailoraError: See `Task.open` and `make_imbalanced`.
    """
    from tailora.data import make_imbalanced, parse_imbalance
    from tailora.tasks.task import find_task

    wanted = parse_imbalance(imbalance) if imbalance else None
    dataset = find_task(task).open(data, seed=seed, **scene)
    return make_imbalanced(dataset, wanted, seed=seed) if wanted else dataset


def task_of(run: Path) -> Any:
    """Return the task of a run, None of one that cannot be read, which is told of later."""
    from tailora.errors import TailoraError
    from tailora.runs.folder import RunFolder
    from tailora.tasks.task import find_task

    try:
        return find_task(RunFolder(run).read_recipe().task)
    except (TailoraError, OSError):
        return None


def scene_options(
    *, sensor: str | None = None, band_names: str | None = None, nodata: float | None = None
) -> Any:
    """Return how scenes are read, from the options of that name."""
    from tailora.inference.scene_inputs import SceneOptions

    names = tuple(name.strip() for name in band_names.split(",")) if band_names else ()
    return SceneOptions(sensor=sensor, band_names=names, nodata=nodata)


def tell_notes(notes: Sequence[str]) -> None:
    """Print notes about a loaded run on standard error."""
    for note in notes:
        screen(stderr=True).print(f"note: {listed([note])}", soft_wrap=True)


def bars(*, quiet: bool) -> Progress:
    """Return progress bars on standard error, or none."""
    return silent if quiet else rich_progress()


def screen(*, stderr: bool = False) -> Console:
    """Return the console for tables and messages, wide enough for tables."""
    width = None if Console(stderr=stderr).is_terminal else 110
    return Console(stderr=stderr, highlight=False, emoji=False, width=width)


def listed(names: Sequence[str]) -> str:
    """Join names from the data in one line, with markup escaped: a class may be called "[red]"."""
    return escape("; ".join(names))


def print_of_task(run: Any, show: Console, metrics: Any = None) -> None:
    """Print the tables and sentences of a run's task, about its own metrics or others."""
    from tailora.tasks.task import find_task

    for one in find_task(run.recipe.task).shown(metrics or run.metrics):
        show.print(escape(one) if isinstance(one, str) else one, soft_wrap=isinstance(one, str))


def print_json(value: Any) -> None:
    """Print JSON alone on standard output."""
    write_data(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def check_ending(path: Path | None, *endings: str, what: str) -> None:
    """Reject an output file with the wrong extension; none is allowed.

    Raises:
        ConfigError: It has another extension.
    """
    if path is not None and path.suffix and path.suffix.lower() not in endings:
        raise ConfigError(
            f"--out writes {what}: its name must end in {' or '.join(endings)}, got {path.name!r}"
        )
