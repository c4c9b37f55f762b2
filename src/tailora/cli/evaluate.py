"""`tailora evaluate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tailora.cli.options import (
    AllowRemote,
    Chip,
    Classes,
    ClassField,
    Debug,
    Ignore,
    Json,
    Labels,
    Outside,
    Quiet,
    RaterField,
    SkipBroken,
    Unverified,
    bars,
    check_ending,
    listed,
    print_json,
    print_of_task,
    screen,
    tell_notes,
)
from tailora.numbers import counted


def evaluate(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder written by `tailora fit`.")
    ],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Labelled images, as for `tailora fit`.")
    ],
    *,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split to evaluate: test or all.",
            show_default="test for the run's own data, all for other data",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the metrics as JSON to this file.")
    ] = None,
    labels: Labels = None,
    class_field: ClassField = None,
    rater_field: RaterField = None,
    classes: Classes = None,
    ignore: Ignore = None,
    outside: Outside = None,
    chip: Chip = None,
    skip_broken: SkipBroken = False,
    unverified: Unverified = False,
    quiet: Quiet = False,
    json: Json = False,
    allow_remote: AllowRemote = False,
    debug: Debug = False,
) -> None:
    """Evaluate a finished RUN on DATA: head, middle, tail and each class, with intervals."""
    check_ending(out, ".json", what="metrics as JSON")
    from tailora.data import open_to_measure
    from tailora.inference.evaluate import evaluate_run
    from tailora.runs.run import load_run
    from tailora.storage import write_json
    from tailora.tasks.task import find_task

    loaded = load_run(run, verify=not unverified)
    tell_notes(loaded.notes)
    facts = loaded.record.dataset
    task = find_task(loaded.recipe.task)
    dataset = open_to_measure(
        data,
        opened=task.open,
        fitted_on=facts.fingerprint,
        chip=chip or facts.chip,
        seed=loaded.recipe.seed,
        labels=labels,
        class_field=class_field,
        rater_field=rater_field,
        classes=classes,
        ignore=ignore,
        outside=outside,
    )
    metrics = evaluate_run(
        loaded, dataset, split=split, skip_broken=skip_broken, progress=bars(quiet=quiet)
    )
    if out:
        write_json(out, metrics.to_json())
    if json:
        print_json(metrics.to_json())
    elif not quiet:
        show = screen()
        show.print(metrics.table())
        print_of_task(loaded, show, metrics)
        show.print(class_table(metrics))
        if metrics.alarm():
            show.print(listed([metrics.alarm()]), soft_wrap=True)
    if not quiet:
        for note in _said(dataset.notes, metrics.learnt_from):
            screen(stderr=True).print(listed([note]), soft_wrap=True)
    if metrics.left_out and not quiet:
        others = listed([f"{name} ({count})" for name, count in metrics.left_out.items()])
        count = sum(metrics.left_out.values())
        text = f"left out {count} {task.decision}s of classes the run was not trained on: {others}"
        screen(stderr=True).print(text, soft_wrap=True)


def _said(notes: Sequence[str], learnt_from: int | None) -> list[str]:
    if learnt_from is None:
        text = (
            "cannot tell whether any of these images were used for training: the run has no "
            "record of its training images"
        )
        return [*notes, text]
    if not learnt_from:
        return list(notes)
    return [
        *notes,
        f"left out {counted(learnt_from, 'image')} used for training or validation (same content, "
        "or chips that overlap the same ground)",
    ]


def class_table(metrics: Any) -> object:
    """One row per class: support, precision, recall, F1 with its interval."""
    from rich.table import Table

    learnt, tested = metrics.counted_in
    scores = ("precision", "recall", "F1", "interval")
    table = Table("class", f"training {learnt}", f"test {tested}", *scores)
    for row in sorted(metrics.methods[-1].per_class, key=lambda r: -r.n_train):
        ends = row.f1_interval
        numbers = [
            "–" if value is None else f"{value:.2f}"
            for value in (row.precision, row.recall, row.f1)
        ]
        table.add_row(
            listed([row.name]), str(row.n_train), str(row.n_test), *numbers,
            "–" if ends is None else f"{ends[0]:.2f}–{ends[1]:.2f}",
        )  # fmt: skip
    return table
