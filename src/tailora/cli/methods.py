"""`tailora methods`."""

from typing import Annotated, Any

import typer

from tailora.cli.options import Debug, Json, Quiet, listed, print_json, screen


def methods(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="A method, loss, tuner or `recipe`; lists all by default."
        ),
    ] = None,
    *,
    quiet: Quiet = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List methods, losses, adapters and other parts, and every recipe key with its default."""
    from tailora.cli.describe import describe, listing

    found: dict[str, Any] = listing() if name is None else describe(name)
    if json:
        print_json(found)
    elif not quiet:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    from rich.table import Table

    show = screen()
    for family, entries in found.items():
        column = "default" if family == "recipe" else "description"
        table = Table("name", column, title=family, title_justify="left", expand=True)
        for entry, text in entries.items():
            table.add_row(entry, listed([str(text)]))
        show.print(table)
