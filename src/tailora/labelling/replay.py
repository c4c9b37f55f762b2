"""The state of a session: what its journal says when it is replayed."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from tailora.labelling.journal import (
    DRAWN,
    SKIP,
    UNSURE,
    Answered,
    Asked,
    Line,
    PageShown,
    Phase,
    PhaseChosen,
    TakenBack,
)

_PAUSE: Final = 120.0  # seconds between answers that count as a break
_BLOCK: Final = 50
_PACE: Final = 20  # answers before which a pace would say little


@final
@dataclass
class Replay:
    """State of a session.

    Args:
        lines: Lines replayed.
        history: Answers that were given and not taken back, oldest first.
        answers: The last answer of each image, by its number.
        asked: How each image was last shown, by its number, in that order.
        page: The page that is shown; None before the first, and after a change of phase.
        pages: Pages shown so far.
        phase: The phase that was chosen; None if phases switch by themselves.
        version: Of the last head that chose a page.
        random: Images shown that were drawn evenly.
        queries: Images shown, again or not.
        orders: Number of the last order of each tab of the browser that gave or took an answer.
    """

    lines: int = 0
    history: list[Answered] = field(default_factory=list)
    answers: dict[int, Answered] = field(default_factory=dict)
    asked: dict[int, Asked] = field(default_factory=dict)
    page: PageShown | None = None
    pages: int = 0
    phase: Phase | None = None
    version: int = 0
    random: int = 0
    queries: int = 0
    orders: dict[str, int] = field(default_factory=dict)

    def add(self, line: Line) -> None:
        """Replay a line."""
        self.lines += 1
        if isinstance(line, Answered):
            self.history.append(line)
            self.answers[line.item] = line
            self._note_order(line.tab)
        elif isinstance(line, TakenBack):
            self._take_back(line.item)
            self._note_order(line.tab)
        elif isinstance(line, PhaseChosen):
            self.phase, self.page = line.phase, None
        else:
            self._show(line)

    def labels(self, classes: Sequence[str]) -> dict[int, int]:
        """Return the class index of each labelled image."""
        index = {name: i for i, name in enumerate(classes)}
        return {
            item: index[one.answer] for item, one in self.answers.items() if one.answer in index
        }

    def count(self, answer: str) -> int:
        """Return how many images have an answer."""
        return sum(one.answer == answer for one in self.answers.values())

    def last_given(self) -> list[Answered]:
        """Return the last answer, or all that were given at once with it, the last first."""
        last = self.history[-1:]
        if not last or last[0].batch is None:
            return last
        together = itertools.takewhile(
            lambda one: one.batch == last[0].batch, reversed(self.history)
        )
        return list(together)

    def labels_per_hour(self) -> float | None:
        """Return answers in an hour without breaks; None before the twentieth."""
        times = [one.time for one in self.history if one.acquisition != "import"]
        if len(times) < _PACE:
            return None
        gaps = [after - before for before, after in itertools.pairwise(times)]
        gaps = [gap for gap in gaps if 0 <= gap <= _PAUSE]
        return 3600 * len(gaps) / sum(gaps) if sum(gaps) > 0 else None

    def new_classes(self) -> tuple[int, ...]:
        """Return how many classes each 50 labels brought that were not seen before."""
        seen: set[str] = set()
        found: list[int] = []
        labels = [one.answer for one in self.answers.values() if one.answer not in (UNSURE, SKIP)]
        for start in range(0, len(labels), _BLOCK):
            block = set(labels[start : start + _BLOCK])
            found.append(len(block - seen))
            seen |= block
        return tuple(found)

    def _note_order(self, tab: str) -> None:
        name, _, number = tab.rpartition("-")
        if name and number.isdecimal():
            self.orders[name] = max(int(number), self.orders.get(name, 0))

    def _take_back(self, item: int) -> None:
        if not self.history or self.history[-1].item != item:
            return  # of a journal that was put together from others
        self.history.pop()
        earlier = [one for one in self.history if one.item == item]
        if earlier:
            self.answers[item] = earlier[-1]
        else:
            del self.answers[item]

    def _show(self, page: PageShown) -> None:
        kept = set() if self.page is None else {one.item for one in self.page.queries}
        fresh = [one for one in page.queries if one.item not in kept]
        for one in page.queries:
            self.asked.pop(one.item, None)
            self.asked[one.item] = one
        self.page, self.pages, self.version = page, self.pages + 1, page.version
        self.queries += len(fresh)
        self.random += sum(one.acquisition in DRAWN for one in fresh)


def replay(lines: Iterable[Line]) -> Replay:
    """Return the state that lines lead to."""
    found = Replay()
    for line in lines:
        found.add(line)
    return found
