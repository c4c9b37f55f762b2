"""`tailora`: one verb a file; this one wires them up and turns errors into one line."""

import io
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated, Any

import typer
from rich.console import Console

from tailora.cli import compare, evaluate, fit, inspect, methods, predict, report
from tailora.errors import ConfigError, TailoraError
from tailora.launcher import launched, rank

BAD_INPUT, INTERRUPTED, BUG = 2, 130, 70
# of click, which older versions of typer import and newer ones carry inside
UsageError: Any = typer.BadParameter.__base__

app = typer.Typer(
    name="tailora",
    help="Adapt a pretrained vision model to long-tailed imagery, so that rare classes count.\n\n"
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
            help="Say which tailora this is.",
            callback=lambda asked: _print_version(asked=asked),
            is_eager=True,
        ),
    ] = False,
) -> None: ...


app.command("inspect")(inspect.inspect)
app.command("fit")(fit.fit)
app.command("compare")(compare.compare)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("report")(report.report)
app.command("methods")(methods.methods)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code.

    0 is success, 2 a mistake the user can mend (one line on standard error), 130 an interruption,
    70 a fault of tailora. `--debug` shows the traceback of any of them.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    _let_streams_take_any_name()
    try:
        _check_launch(words)
        code = app(args=words, prog_name="tailora", standalone_mode=False)
    except (TailoraError, UsageError) as error:
        if "--debug" in words:
            Console(stderr=True).print_exception()
        _say(_advice(error))
        code = BAD_INPUT
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if "--debug" in words:
            raise
        _say(
            f"{type(error).__name__}: {_one_line(error)} (a fault of tailora; --debug shows where)"
        )
        code = BUG
    if code == INTERRUPTED:
        _say(
            "interrupted; go on with --resume" if {"fit", "compare"} & set(words) else "interrupted"
        )
    sys.exit(code if isinstance(code, int) else 0)


def _check_launch(words: Sequence[str]) -> None:
    """Refuse several processes for what one does: each would write the same files."""
    verb = next((word for word in words if not word.startswith("-")), "fit")
    if launched() > 1 and verb != "fit":
        raise ConfigError(
            f"`tailora {verb}` works in one process: run it without `accelerate launch`"
            + (verb == "compare") * " and give it --jobs"
        )


def _let_streams_take_any_name() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # else a test's or a notebook's
            stream.reconfigure(errors="backslashreplace")


def _advice(error: Exception) -> str:
    if isinstance(error, TailoraError):
        return _one_line(error)
    usage: Any = error
    message = _one_line(usage.format_message()).rstrip(".")
    command = usage.ctx.command_path if usage.ctx else "tailora"
    return message and f"{message} (see `{command} --help`)"


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


def _say(message: str) -> None:
    if not message:  # no arguments at all: the help has been shown
        return
    who = f"process {rank()}: " if launched() > 1 else ""
    screen = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    screen.print(f"{who}error: {message}")
