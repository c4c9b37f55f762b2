"""Options that several verbs share, and how results reach the screen."""

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from tailora.progress import Progress, rich_progress, silent

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars and no tables.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
SkipBroken = Annotated[
    bool,
    typer.Option(
        "--skip-broken", help="Leave unreadable images out (counted, listed) instead of stopping."
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
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
