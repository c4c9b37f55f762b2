"""`tailora report`."""

from pathlib import Path
from typing import Annotated

import typer

from tailora.cli.options import (
    Debug,
    Json,
    Quiet,
    Unverified,
    check_ending,
    listed,
    print_json,
    screen,
    tell_notes,
)


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUNS", help="One run folder or comparison folder, or several run folders."
        ),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="File to write.",
            show_default="report.html in the run; comparison.html for several",
        ),
    ] = None,
    unverified: Unverified = False,
    quiet: Quiet = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Rewrite the report of a run or comparison, or compare several runs."""
    check_ending(out, ".html", ".htm", what="an HTML page")
    from tailora.report import write_comparison, write_method_comparison, write_report
    from tailora.runs.comparison_folder import ComparisonFolder
    from tailora.runs.result import read_run
    from tailora.tasks.task import find_task

    folder = ComparisonFolder(runs[0])
    if len(runs) == 1 and folder.record.is_file():
        comparison = folder.read()
        written = write_method_comparison(comparison, out or folder.page)
        if json:
            print_json(comparison.to_json())
        elif not quiet:
            screen().print(f"report: {listed([str(written)])}", soft_wrap=True)
        return
    found = [read_run(run, verify=not unverified) for run in runs]
    for run in found:
        tell_notes(run.notes)
    if len(found) == 1:
        written = write_report(found[0], out=out, more=find_task(found[0].recipe.task).sections())
    else:
        written = write_comparison(found, out or Path("comparison.html"))
    if json:
        print_json([run.metrics.to_json() for run in found])
    elif not quiet:
        screen().print(f"report: {listed([str(written)])}", soft_wrap=True)
