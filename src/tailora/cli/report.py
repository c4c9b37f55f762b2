"""`tailora report`."""

from pathlib import Path
from typing import Annotated

import typer

from tailora.cli.options import Debug, Json, Quiet, check_ending, listed, print_json, screen


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
    quiet: Quiet = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the report of a run or of a comparison again, or set several runs side by side."""
    check_ending(out, ".html", ".htm", what="an HTML page")
    from tailora.report import write_comparison, write_method_comparison, write_report
    from tailora.runs.comparison_folder import ComparisonFolder
    from tailora.runs.folder import RunFolder
    from tailora.storage import read_json

    folder = ComparisonFolder(runs[0])
    if len(runs) == 1 and folder.record.is_file():
        content = folder.read()
        written = write_method_comparison(content, out or folder.page)
        if json:
            print_json(content)
        elif not quiet:
            screen().print(f"report: {listed([str(written)])}", soft_wrap=True)
        return
    for run in runs:
        RunFolder(run).read_run()
    if len(runs) == 1:
        written = write_report(runs[0], out=out)
    else:
        written = write_comparison(runs, out or Path("comparison.html"))
    if json:
        print_json([read_json(run / "metrics.json") for run in runs])
    elif not quiet:
        screen().print(f"report: {listed([str(written)])}", soft_wrap=True)
