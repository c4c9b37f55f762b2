"""Put sessions of several people about the same images together, and show how far they agree."""

import itertools
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from tailora.errors import ConfigError, DataError, RunError
from tailora.frames import Rows
from tailora.labelling.inputs import START
from tailora.labelling.journal import DRAWN, Answered, Asked, Journal, Line, PageShown, read_journal
from tailora.labelling.replay import Replay, replay
from tailora.labelling.settings import Settings, read_settings
from tailora.methods.scoring import csv_text
from tailora.metrics.confusion import confusion_matrix
from tailora.runs.one_at_a_time import one_at_a_time
from tailora.storage import write_text

DIFFERENCES: Final = "differences.csv"


@final
@dataclass(frozen=True)
class Agreement:
    """How far two people agree about one class, or about all.

    Args:
        first: Folder of a session.
        second: Of another.
        name: Class; None for all.
        images: That both gave a class; for one class, that one of them called so.
        agreed: Of these, those with the same class.
        kappa: Cohen's kappa; None where chance alone would agree on all.
    """

    first: str
    second: str
    name: str | None
    images: int
    agreed: int
    kappa: float | None


@final
@dataclass(frozen=True)
class Merged:
    """Sessions that were put together.

    Args:
        labels: Images with a class in the new session.
        differ: Images that people gave different classes.
        decided: Of these, those that more than half of the people agree about.
        agreement: Of each two people.
    """

    labels: int
    differ: int
    decided: int
    agreement: Rows[Agreement]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def merge_sessions(folders: Sequence[str | Path], out: str | Path) -> Merged:
    """Make a session of the labels of several.

    An image has the class that more than half of those gave who gave one. Others stay without an
    answer, and are the first page of the new session; `differences.csv` lists all that differ.

    Args:
        folders: Sessions about the same images with the same classes; the first gives the order of
            the classes and everything else.
        out: New or empty folder.

    Raises:
        ConfigError: There is only one.
        RunError: They are of different images or classes, or `out` is in use.
        DataError: None has a label.
        StorageError: The disk is full.

    Reference: Cohen, A Coefficient of Agreement for Nominal Scales, Educational and Psychological
    Measurement 1960.
    """
    paths, out = [Path(folder) for folder in folders], Path(out)
    if len(paths) < 2:
        raise ConfigError("merging takes two sessions or more")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{str(out)!r} is there already: choose another --out")
    settings = [read_settings(path) for path in paths]
    _check_alike(paths, settings)
    states = [replay(read_journal(path)) for path in paths]
    given = [state.labels(settings[0].classes) for state in states]
    items = sorted(set().union(*given))
    if not items:
        raise DataError("none of the sessions has a label")
    votes = {item: [one[item] for one in given if item in one] for item in items}
    decided = {item: c for item in items if (c := _majority(votes[item])) is not None}
    differ = [item for item in items if len(set(votes[item])) > 1]
    with one_at_a_time(out):
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(paths[0] / START, out / START)
        settings[0].write(out)
        journal = Journal(out)
        journal.append(_journal(settings, states, decided, [i for i in differ if i not in decided]))
        journal.close()
        _write_differences(out / DIFFERENCES, paths, states, differ)
    return Merged(
        labels=len(decided), differ=len(differ), decided=sum(item in decided for item in differ),
        agreement=agreement([str(path) for path in paths], given, settings[0].classes),
    )  # fmt: skip


def agreement(
    names: Sequence[str], given: Sequence[Mapping[int, int]], classes: Sequence[str]
) -> Rows[Agreement]:
    """Compare each two people over the images that both gave a class.

    Args:
        names: Of the people.
        given: Class index of each image by each of them.
        classes: Class names.
    """
    rows: list[Agreement] = []
    for (first, one), (second, other) in itertools.combinations(zip(names, given, strict=True), 2):
        both = sorted(one.keys() & other.keys())
        if not both:
            rows.append(Agreement(first, second, None, 0, 0, None))
            continue
        a = np.array([one[item] for item in both])
        b = np.array([other[item] for item in both])
        rows.append(Agreement(first, second, None, len(both), int((a == b).sum()), kappa(a, b)))
        for c, name in enumerate(classes):
            named = (a == c) | (b == c)
            if named.any():
                agreed, own = int(((a == c) & (b == c)).sum()), kappa(a == c, b == c)
                rows.append(Agreement(first, second, name, int(named.sum()), agreed, own))
    return Rows(rows)


def kappa(first: Any, second: Any) -> float | None:
    """Return Cohen's kappa of two vectors of class indices; None if both have one class alone.

    Example:
        >>> kappa([0, 0, 1, 1], [0, 0, 1, 0])
        0.5
    """
    a, b = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    table = confusion_matrix(a, b, int(max(a.max(), b.max())) + 1) / len(a)
    chance = float(table.sum(axis=0) @ table.sum(axis=1))
    return None if chance == 1 else (float(np.trace(table)) - chance) / (1 - chance)


def _check_alike(paths: Sequence[Path], settings: Sequence[Settings]) -> None:
    for path, one in zip(paths[1:], settings[1:], strict=True):
        if one.mark != settings[0].mark or one.images != settings[0].images:
            raise RunError(f"{str(path)!r} is about other images than {str(paths[0])!r}")
        if set(one.classes) != set(settings[0].classes):
            odd = sorted(set(one.classes) ^ set(settings[0].classes))
            raise RunError(
                f"{str(path)!r} has other classes than {str(paths[0])!r}: {', '.join(odd)}"
            )


def _majority(votes: Sequence[int]) -> int | None:
    """Return the class of more than half."""
    [(best, count)] = Counter(votes).most_common(1)
    return best if 2 * count > len(votes) else None


def _journal(
    settings: Sequence[Settings],
    states: Sequence[Replay],
    decided: Mapping[int, int],
    open_: Sequence[int],
) -> list[Line]:
    """Return a page with what was decided, its answers, and a page with what was not.

    Images that were drawn evenly count as such if everybody drew in the same order.
    """
    classes = settings[0].classes
    same = len({one.seed for one in settings}) == 1
    asked: list[Asked] = []
    answers: list[Line] = []
    for item, c in decided.items():
        shown = [state.asked[item] for state in states if item in state.asked]
        drawn = next((one for one in shown if one.acquisition in DRAWN), None) if same else None
        of = drawn or Asked(item, "import")
        who = next(
            state.answers[item]
            for state in states
            if item in state.answers and state.answers[item].answer == classes[c]
        )
        asked.append(Asked(item, of.acquisition))
        answers.append(replace(who, acquisition=of.acquisition, batch=None))
    answers.sort(key=lambda one: one.time)
    now = max(one.time for one in answers) if answers else 0.0
    pages: list[Line] = [PageShown(now, "refine", 0, 0, tuple(asked))] if asked else []
    last = tuple(Asked(item, "refine") for item in open_)
    return [*pages, *answers, *([PageShown(now, "refine", 0, 0, last)] if last else [])]


def _write_differences(
    path: Path, folders: Sequence[Path], states: Sequence[Replay], items: Sequence[int]
) -> None:
    rows: list[Sequence[object]] = [["id", *map(str, folders)]]
    for item in items:
        given: list[Answered | None] = [state.answers.get(item) for state in states]
        name = next(one.id for one in given if one is not None)
        rows.append([name, *("" if one is None else one.answer for one in given)])
    write_text(path, csv_text(rows))
