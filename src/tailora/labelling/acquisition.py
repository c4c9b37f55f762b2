"""Which images are shown next: find rare classes, refine between classes, check at random.

A page is a function of the state of the session, the features and what the head says, and of
nothing else: the same journal gives the same page to the bit.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.labelling.journal import Acquisition, Phase
from tailora.labelling.replay import Replay
from tailora.labelling.settings import Settings
from tailora.labelling.space import Space
from tailora.labelling.suggestions import Suggestions

PHASES: Final[tuple[Phase, ...]] = ("find", "refine", "check")
DRAWN: Final = ("random", "check")
"""Acquisitions that draw evenly, and show no suggestion."""
FOUND: Final = 5
"""Labels of a class from which it need not be searched for."""
GIVE_UP: Final = 20
"""Images shown in a row in search of a class without one of it, after which it is left alone."""
RECENT: Final = 200
"""Images shown last, of which near copies are not shown."""


@final
@dataclass(frozen=True)
class Chosen:
    """An image to show.

    Args:
        item: Its number.
        acquisition: Why.
        wanted: Class index that is looked for.
    """

    item: int
    acquisition: Acquisition
    wanted: int | None = None


@final
class Chooser:
    """Chooses pages.

    Args:
        settings: Of the session.
        space: Features of all images.
        examples: Directions (examples, width) of the examples of each class, by its index.
    """

    def __init__(
        self, settings: Settings, space: Space, examples: Mapping[int, NDArray[np.floating]]
    ) -> None:
        self.settings, self.space, self.examples = settings, space, dict(examples)
        usable = np.flatnonzero(space.usable)
        self.order: list[int] = np.random.default_rng(settings.seed).permutation(usable).tolist()
        """All images in the order in which they are drawn evenly."""

    def phase(self, state: Replay) -> Phase:
        """Return the phase of the next page: that chosen, or where the session stands."""
        if state.phase is not None:
            return state.phase
        needs = _Needs(state, self.settings.classes)
        if any(needs.counts[c] < FOUND for c in needs.open):
            return "find"
        return (
            "refine"
            if any(needs.counts[c] < self.settings.target for c in needs.open)
            else ("check")
        )

    def page(
        self, state: Replay, suggestions: Suggestions | None, count: int, kept: Sequence[int] = ()
    ) -> list[Chosen]:
        """Choose images.

        Args:
            state: Of the session.
            suggestions: By the head; None before the first.
            count: How many; fewer are left at the end of the data.
            kept: Images that stay on the page.
        """
        phase = self.phase(state)
        drawn = self._draw(state, phase, count, kept)
        if phase == "check":
            return drawn
        free = self.space.usable.copy()
        free[[*state.answers, *kept, *(one.item for one in drawn)]] = False
        recent = [*list(state.asked)[-RECENT:], *kept, *(one.item for one in drawn)]
        sought = _Search(self, state, suggestions, free, recent).images(phase, count - len(drawn))
        return self._mixed(state, drawn, sought)

    def drawn(self, state: Replay) -> list[int]:
        """Return the random sample so far.

        It is the beginning of the order in which images are drawn, up to the last that was shown
        for it: with those that were shown for another reason before, without which it would lack
        what is searched for.
        """
        shown = {item for item, one in state.asked.items() if one.acquisition in DRAWN}
        last = max((i for i, item in enumerate(self.order) if item in shown), default=-1)
        return self.order[: last + 1]

    def _draw(self, state: Replay, phase: Phase, count: int, kept: Sequence[int]) -> list[Chosen]:
        wanted = int(self.settings.random_share * (state.queries + count)) - state.random
        wanted = count if phase == "check" else min(max(wanted, 0), count)
        done = {*state.answers, *kept}
        done |= {item for item, one in state.asked.items() if one.acquisition in DRAWN}
        left = (item for item in self.order if item not in done)
        kind: Acquisition = "check" if phase == "check" else "random"
        return [Chosen(item, kind) for item in itertools.islice(left, wanted)]

    def _mixed(
        self, state: Replay, drawn: Sequence[Chosen], sought: Sequence[Chosen]
    ) -> list[Chosen]:
        """Put what was drawn anywhere among the others, which keep their order."""
        rng = np.random.default_rng([self.settings.seed, state.pages])
        places = rng.permutation(len(drawn) + len(sought))[: len(drawn)].tolist()
        at, rest = dict(zip(sorted(places), drawn, strict=True)), iter(sought)
        return [at.get(i) or next(rest) for i in range(len(drawn) + len(sought))]


@final
class _Needs:
    """Labels of each class, and classes that are worth searching."""

    def __init__(self, state: Replay, classes: Sequence[str]) -> None:
        self.labels = state.labels(classes)
        found = np.array(list(self.labels.values()), dtype=np.int64)
        self.counts: list[int] = np.bincount(found, minlength=len(classes)).tolist()
        vain, index = [0] * len(classes), {name: c for c, name in enumerate(classes)}
        for item, one in state.asked.items():
            if item in state.answers and one.wanted is not None:
                c = index[one.wanted]
                vain[c] = 0 if self.labels.get(item) == c else vain[c] + 1
        self.open = [c for c, misses in enumerate(vain) if misses < GIVE_UP]


@final
class _Search:
    """Chooses the images of one page one after the other."""

    def __init__(
        self,
        chooser: Chooser,
        state: Replay,
        suggestions: Suggestions | None,
        free: NDArray[np.bool_],
        recent: Sequence[int],
    ) -> None:
        self.space, self.examples = chooser.space, chooser.examples
        self.p = None if suggestions is None else suggestions.probabilities
        self.needs = _Needs(state, chooser.settings.classes)
        self.free = free
        self.held = self.space.near(recent)
        self.seen = [*state.asked]
        self.turns = list(self.needs.counts)
        self.scores: dict[int, NDArray[np.floating]] = {}

    def images(self, phase: Phase, count: int) -> list[Chosen]:
        """Return up to `count` images."""
        margins = None if phase == "find" or self.p is None else _margins(self.p)
        found: list[Chosen] = []
        while len(found) < count and self.free.any():
            c = min(self.needs.open or range(len(self.turns)), key=lambda c: (self.turns[c], c))
            self.turns[c] += 1
            if c not in self.scores:
                self.scores[c] = self._of(c) if margins is None else self._between(c, *margins)
            free = self.free & ~self.held
            scores = np.where(free if free.any() else self.free, self.scores[c], -np.inf)
            item = int(scores.argmax())
            self.free[item] = False
            self.held |= self.space.near([item])
            found.append(Chosen(item, "find" if margins is None else "refine", c))
        return found

    def _of(self, c: int) -> NDArray[np.floating]:
        """Return how much each image is like a class (images,)."""
        items = np.array(list(self.needs.labels), dtype=np.int64)
        own = np.array(list(self.needs.labels.values()), dtype=np.int64) == c
        of = self.space.directions[items[own]]
        if c in self.examples:
            of = np.concatenate([of, self.examples[c]])
        if not len(of):
            return -self.space.likeness(self.seen)
        query = 2 * of.mean(axis=0, dtype=np.float64)
        if not own.all():
            query -= self.space.directions[items[~own]].mean(axis=0, dtype=np.float64)
        return self.space.similar(query)

    def _between(
        self, c: int, first: NDArray[np.int64], second: NDArray[np.int64], margin: Any
    ) -> NDArray[np.floating]:
        """Return images by the margin of their two likeliest classes, those with `c` first."""
        return -margin - 2 * ((first != c) & (second != c))


def _margins(p: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.int64], Any]:
    two = np.argsort(-p, axis=1, kind="stable")[:, :2]
    likeliest = np.take_along_axis(p, two, axis=1)
    return two[:, 0], two[:, 1], likeliest[:, 0] - likeliest[:, 1]
