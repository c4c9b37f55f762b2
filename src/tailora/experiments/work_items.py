"""A comparison cut into work items that machines can do side by side, nothing done twice.

Seeds share nothing but what no seed changes. Within a seed, rows share the stages they stand on:
debLoRA's variants share a LoRA. A work item is one row, or several where a stage they share is no
row of its own; it begins when the items that make its stages have ended.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from tailora.backbones import LoadedBackbone, load_backbone
from tailora.experiments.plan import SEEDLESS, Adaptation
from tailora.experiments.rows import (
    SeedWork,
    do_row,
    do_seedless,
    missing_probes,
    stage_folders,
)
from tailora.progress import silent


def use_threads(count: int) -> None:
    """Keep this process to some cores, so that others have theirs."""
    torch.set_num_threads(count)
    os.environ["OMP_NUM_THREADS"] = str(count)  # of what is not torch's, such as the clustering


class WorkItem(Protocol):
    """What an executor can do: a `RowItem`, or the trials of a tuning."""

    @property
    def name(self) -> str:
        """As told to the user."""
        ...

    @property
    def stages(self) -> tuple[Path, ...]:
        """Folders of all stages it stands on, as the machine that planned sees them."""
        ...

    @property
    def after(self) -> frozenset[str]:
        """Names of the items that must have ended."""
        ...

    def do(self) -> None:
        """Do it; results lie in the comparison's folder."""
        ...

    def stages_here(self) -> tuple[Path, ...]:
        """`stages` as this machine sees them; they differ where encoder or data do."""
        ...


@dataclass(frozen=True)
class RowItem:
    """Some rows of a seed, one after the other.

    Args:
        name: As told to the user.
        work: The seed.
        rows: Names of the rows; none is what no seed changes.
        stages: Folders of all stages that the rows stand on, as the machine that planned sees them.
        after: Names of the items that must have ended.
    """

    name: str
    work: SeedWork
    rows: tuple[str, ...]
    stages: tuple[Path, ...]
    after: frozenset[str]

    def do(self) -> None:
        """Do the rows."""
        if not self.rows:
            do_seedless(self.work, silent)
        for row in self.work.adaptations():
            if row.name in self.rows:
                do_row(self.work, row, silent)

    def stages_here(self) -> tuple[Path, ...]:
        """`stages` as this machine sees them; they differ where encoder or data do."""
        encoders: dict[str, LoadedBackbone] = {}
        rows = [row for row in self.work.adaptations() if row.name in self.rows]
        return _all_stages([_folders(self.work, row, encoders) for row in rows])


class Executor(Protocol):
    """Whoever does work items: starts them, and waits until one of several has ended."""

    def start(self, item: WorkItem) -> Any:
        """Begin a work item, or queue it, and come back at once."""
        ...

    def wait(self, running: Sequence[Any]) -> Any:
        """Return one task that has ended.

        Raises:
            TailoraError: It failed.
        """
        ...


def cut(works: Sequence[SeedWork]) -> list[RowItem]:
    """Cut a comparison into items; rows that are done are in none.

    Args:
        works: One per seed.

    Returns:
        Items, each after those it needs.
    """
    encoders: dict[str, LoadedBackbone] = {}
    items: list[RowItem] = []
    first: dict[str, str] = {}  # by dataset: the item that no seed changes
    for work in works:
        rows = [row for row in work.adaptations() if missing_probes(work, row)]
        if not rows:
            continue
        data = work.data.fingerprint
        if data not in first:
            first[data] = f"what seed {work.seed} shares"
            items.append(RowItem(first[data], work, (), (), frozenset()))
        folders = {row.name: _folders(work, row, encoders) for row in rows}
        items += _items_of(work, folders, first[data])
    return items


def run_items(
    items: Sequence[WorkItem], executor: Executor, *, at_once: int, ended: Callable[[], None]
) -> None:
    """Let an executor do all work items, each when those it needs have ended.

    Args:
        items: What `cut` gives.
        executor: Does them.
        at_once: Most items running at once.
        ended: Called after each.

    Raises:
        TailoraError: A work item failed; no further one is started.
    """
    waiting, running, done = list(items), dict[Any, WorkItem](), set[str]()
    while waiting or running:
        for item in [p for p in waiting if p.after <= done][: at_once - len(running)]:
            waiting.remove(item)
            running[executor.start(item)] = item
        task = executor.wait(list(running))
        done.add(running.pop(task).name)
        ended()


def _items_of(
    work: SeedWork, folders: Mapping[str, Mapping[str, Path]], first: str
) -> list[RowItem]:
    """Rows whose shared stage is no row's own stay together; all others stand alone."""
    stages = {row: _own_stages(found) for row, found in folders.items()}
    owner: dict[Path, str] = {}
    for row, found in stages.items():
        owner.setdefault(found[-1], row)
    together: dict[Path, list[str]] = {}
    for row, found in stages.items():
        together.setdefault(_shared(found, owner), []).append(row)
    name = {key: f"seed {work.seed}, {' and '.join(rows)}" for key, rows in together.items()}
    items = [
        RowItem(
            name[key],
            work,
            tuple(rows),
            _all_stages([folders[row] for row in rows]),
            frozenset({first, *_needed(rows, stages, owner, name)} - {name[key]}),
        )
        for key, rows in together.items()
    ]
    return sorted(items, key=lambda item: len(item.after))  # those that others wait for


def _needed(
    rows: Sequence[str],
    stages: Mapping[str, Sequence[Path]],
    owner: Mapping[Path, str],
    name: Mapping[Path, str],
) -> list[str]:
    bases = [stage for row in rows for stage in stages[row][:-1] if stage in owner]
    return [name[_shared(stages[owner[stage]], owner)] for stage in bases]


def _shared(stages: Sequence[Path], owner: Mapping[Path, str]) -> Path:
    """The first stage that is no row's own, or else the row's own."""
    return next((stage for stage in stages if stage not in owner), stages[-1])


def _own_stages(folders: Mapping[str, Path]) -> list[Path]:
    """Stages in order, without the one that is done before."""
    return [path for name, path in folders.items() if name != SEEDLESS] or list(folders.values())


def _all_stages(found: Sequence[Mapping[str, Path]]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(path for folders in found for path in folders.values()))


def _folders(
    work: SeedWork, row: Adaptation, encoders: dict[str, LoadedBackbone]
) -> dict[str, Path]:
    options = row.recipe.backbone
    key = f"{options.name} {options.options}"
    if key not in encoders:
        encoders[key] = load_backbone(options.name, options=options.options)
    return stage_folders(work, row, encoders[key])
