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
    from tailora.runs.folder import RunFolder
    from tailora.runs.run_files import notes_on, read_facts
    from tailora.storage import read_json
    from tailora.tasks.task import find_task

    folder = ComparisonFolder(runs[0])
    if len(runs) == 1 and folder.record.is_file():
        content = folder.read()
        written = write_method_comparison(content, out or folder.page)
        if json:
            print_json(content)
        elif not quiet:
            screen().print(f"report: {listed([str(written)])}", soft_wrap=True)
        return
    for run in map(RunFolder, runs):
        record = run.read_run(verify=not unverified)
        read_facts(run.path, record, run.read_recipe())
        tell_notes(notes_on(run.path, record, verify=not unverified))
    if len(runs) == 1:
        task = find_task(RunFolder(runs[0]).read_recipe().task)
        written = write_report(runs[0], out=out, more=task.sections())
    else:
        written = write_comparison(runs, out or Path("comparison.html"))
    if json:
        print_json([read_json(run / "metrics.json") for run in runs])
    elif not quiet:
        screen().print(f"report: {listed([str(written)])}", soft_wrap=True)
