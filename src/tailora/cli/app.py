"""`tailora`: one file per command; this one registers them and prints errors as one line."""

import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from tailora.cli import (
    assess,
    compare,
    curate,
    evaluate,
    fit,
    inspect,
    label,
    methods,
    predict,
    report,
    search,
    select,
)
from tailora.cli.change import change
from tailora.cli.main import INTERRUPTED
from tailora.cli.map import map_
from tailora.cli.options import ChoicesInHelp
from tailora.errors import ConfigError, TailoraError
from tailora.launcher import launched, rank

BAD_INPUT, BUG = 2, 70
# click's: older versions of typer import click, newer ones vendor it
UsageError: Any = typer.BadParameter.__base__

app = typer.Typer(
    name="tailora",
    help="Adapt a pretrained vision model to long-tailed satellite and aerial imagery.\n\n"
    "Start with [bold]tailora inspect DATA[/], then [bold]tailora fit DATA --out runs/a[/].",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(*, asked: bool) -> None:
    if asked:
        typer.echo(f"tailora {metadata.version('tailora')}")
        raise typer.Exit


@app.callback()
def _before_any_verb(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the version and exit.",
            callback=lambda asked: _print_version(asked=asked),
            is_eager=True,
        ),
    ] = False,
) -> None: ...


app.command("inspect", cls=ChoicesInHelp)(inspect.inspect)
app.command("fit", cls=ChoicesInHelp)(fit.fit)
app.command("compare", cls=ChoicesInHelp)(compare.compare)
app.command("evaluate", cls=ChoicesInHelp)(evaluate.evaluate)
app.command("predict", cls=ChoicesInHelp)(predict.predict)
app.command("map", cls=ChoicesInHelp)(map_)
app.command("change", cls=ChoicesInHelp)(change)
app.command("assess", cls=ChoicesInHelp)(assess.assess)
app.command("search", cls=ChoicesInHelp)(search.search)
app.command("select", cls=ChoicesInHelp)(select.select)
app.add_typer(label.label, name="label")
app.command("curate", cls=ChoicesInHelp)(curate.curate)
app.command("report")(report.report)
app.command("methods")(methods.methods)


def run(words: Sequence[str]) -> int:
    """Run a command and report any error in one line.

    Args:
        words: Words of the command.

    Returns:
        Exit code: 0, 2 for an error the user can fix, 70 for an internal error.

    Raises:
        KeyboardInterrupt: Also when a prompt was interrupted.
    """
    try:
        _check_launch(words)
        code = app(args=list(words), prog_name="tailora", standalone_mode=False)
        sys.stdout.flush()
    except (TailoraError, UsageError) as error:
        if "--debug" in words:
            Console(stderr=True).print_exception()
        _say(_advice(error))
        return BAD_INPUT
    except typer.Abort as error:
        if isinstance(error.__cause__, EOFError):  # raised by a file: no command prompts
            _say(f"EOFError: {_one_line(error.__cause__)} (internal error)")
            return BUG
        raise KeyboardInterrupt from error
    except Exception as error:
        if "--debug" in words:
            raise
        _say(
            f"{type(error).__name__}: {_one_line(error)} (internal error; use --debug for the "
            "traceback)"
        )
        return BUG
    if code == INTERRUPTED:  # how newer versions of typer report it
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def _check_launch(words: Sequence[str]) -> None:
    """Reject several processes where one does the work: each would write the same files."""
    verb = next((word for word in words if not word.startswith("-")), "fit")
    if launched() > 1 and verb != "fit":
        raise ConfigError(
            f"`tailora {verb}` runs in one process: run it without `accelerate launch`"
            + (verb == "compare") * " and use --jobs"
        )


def _advice(error: Exception) -> str:
    if isinstance(error, TailoraError):
        return _one_line(error)
    usage: Any = error
    if isinstance(error, typer.BadParameter) and hasattr(error.__cause__, "errors"):
        return _bad_value(usage)
    message = _one_line(usage.format_message()).rstrip(".")
    command = usage.ctx.command_path if usage.ctx else "tailora"
    return message and f"{message} (see `{command} --help`)"


_VALUES: Final = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "greater_than_equal": "a number of at least {ge}",
}
"""What an option takes, by the kind of pydantic's error, which newer versions of typer pass on."""


def _bad_value(error: Any) -> str:
    found = error.__cause__.errors()[0]
    option = max(error.param.opts, key=len)
    takes = _VALUES.get(found["type"], "another value")
    takes = takes.format(**found.get("ctx", {}))
    command = error.ctx.command_path if error.ctx else "tailora"
    return f"{option} takes {takes}, got {found['input']!r} (see `{command} --help`)"


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


def _say(message: str) -> None:
    if not message:  # no arguments: the help has been shown
        return
    who = f"process {rank()}: " if launched() > 1 else ""
    screen = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    screen.print(f"{who}error: {message}")
