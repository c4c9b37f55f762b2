"""`tailora`: one verb a file; this one wires them up and turns errors into one line."""

import os
import sys
from collections.abc import Sequence

import typer
from click import exceptions as click_errors
from rich.console import Console

from tailora.cli import evaluate, fit, inspect, methods, predict, report
from tailora.errors import TailoraError

BAD_INPUT, INTERRUPTED, BUG = 2, 130, 70

app = typer.Typer(
    name="tailora",
    help="Adapt a pretrained vision model to long-tailed imagery, so that rare classes count.\n\n"
    "Start with [bold]tailora inspect DATA[/], then [bold]tailora fit DATA --out runs/a[/].",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("inspect")(inspect.inspect)
app.command("fit")(fit.fit)
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
    try:
        code = app(args=words, standalone_mode=False)
    except (TailoraError, click_errors.ClickException, typer.Exit, click_errors.Abort) as error:
        code = _explain(error, debug="--debug" in words)
    except KeyboardInterrupt:
        _say("interrupted; go on with --resume")
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        if "--debug" in words:
            raise
        _say(
            f"{type(error).__name__}: {_one_line(error)} (a fault of tailora; --debug shows where)"
        )
        code = BUG
    sys.exit(code if isinstance(code, int) else 0)


def _explain(error: Exception, *, debug: bool) -> int:
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, click_errors.Abort):
        return INTERRUPTED
    if debug:
        Console(stderr=True).print_exception()
    if isinstance(error, click_errors.ClickException):
        _say(_one_line(error.format_message()))
    else:
        _say(_one_line(error))
    return BAD_INPUT


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


def _say(message: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(f"error: {message}")
