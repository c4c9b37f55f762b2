"""Which images are shown next: find rare classes, refine between classes, check at random.

Images that are looked for are for the most part such as no shown one is like: a head learns more
from labels of all there is than from many of the same kind, rare classes included. The rest is
searched for by class, as large a part as searches succeed.

A page is a function of the state of the session, the features and what the head says, and of
nothing else: the same journal gives the same page to the bit.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.labelling.journal import DRAWN, Acquisition, Phase
from tailora.labelling.replay import Replay
from tailora.labelling.settings import Settings
from tailora.labelling.space import Space
from tailora.labelling.suggestions import Suggestions
from tailora.metrics.margin import two_likeliest

PHASES: Final[tuple[Phase, ...]] = ("find", "refine", "check")
FOUND: Final = 5
"""Labels of a class from which it need not be searched for."""
GIVE_UP: Final = 20
"""Images shown in a row in search of a class without one of it, after which it is left alone."""
ENOUGH: Final = 3
"""Labels of a class from which its probability by the head finds more of it than similarity."""
SEARCHED: Final = (0.25, 0.75)
"""Least and largest part of the images looked for that is searched for by class."""
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
        examples: Whitened directions (examples, width) of the examples of each class, by its index.
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
        if any(needs.counts[c] < self.settings.target for c in needs.open):
            return "refine"
        return "check"

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
        others = [*kept, *(one.item for one in drawn)]
        sought = _Search(self, state, suggestions, free, others).images(phase, count - len(drawn))
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
    """Labels of each class, and what the search for it has brought.

    Args:
        state: Of the session.
        classes: Names.
    """

    def __init__(self, state: Replay, classes: Sequence[str]) -> None:
        self.labels = state.labels(classes)
        found = np.array(list(self.labels.values()), dtype=np.int64)
        self.counts: list[int] = np.bincount(found, minlength=len(classes)).tolist()
        index = {name: c for c, name in enumerate(classes)}
        self.shown, self.hits, self.vain = ([0] * len(classes) for _ in range(3))
        for item, one in state.asked.items():
            of = self.labels.get(item)
            if one.wanted is not None and item in state.answers:
                c = index[one.wanted]
                self.shown[c] += 1
                self.hits[c] += of == c
                self.vain[c] = 0 if of == c else self.vain[c] + 1
        self.open = [c for c, misses in enumerate(self.vain) if misses < GIVE_UP]

    @property
    def share(self) -> float:
        """Part of the images looked for that is searched for: the share of searches with a hit.

        The mean of a Beta distribution that expects one hit in four before the first.
        """
        rate = (sum(self.hits) + 1) / (sum(self.shown) + 4)
        return min(max(rate, SEARCHED[0]), SEARCHED[1])


@final
class _Search:
    """Chooses the images of one page one after the other."""

    def __init__(
        self,
        chooser: Chooser,
        state: Replay,
        suggestions: Suggestions | None,
        free: NDArray[np.bool_],
        others: Sequence[int],  # on the page already
    ) -> None:
        self.space, self.examples = chooser.space, chooser.examples
        self.p = None if suggestions is None else suggestions.probabilities
        self.needs = _Needs(state, chooser.settings.classes)
        self.free, self.asked, self.page = free, state.asked, list(others)
        self.recent = [*list(state.asked)[-RECENT:], *others]
        self.held = np.zeros(len(free), dtype=bool)
        self.held[self.recent] = True
        self.random = np.random.default_rng([chooser.settings.seed, state.pages, 1])
        self.target = chooser.settings.target
        self.scores: dict[int, NDArray[np.floating]] = {}

    def images(self, phase: Phase, count: int) -> list[Chosen]:
        """Return up to `count` images: some of classes, the rest unlike all before."""
        found = self._of_classes(phase, round(self.needs.share * count))
        return [*found, *self._diverse(count - len(found))]

    def _diverse(self, count: int) -> list[Chosen]:
        """Return images that are far from all shown and from each other.

        Always the farthest, as in k-centre greedy (Sener and Savarese, ICLR 2018, algorithm 1).
        """
        closest = self.space.closeness(self.asked).copy()
        for item in self.page:
            np.maximum(closest, self.space.to(item), out=closest)
        found: list[Chosen] = []
        while len(found) < count and self.free.any():
            item = int(np.where(self.free, -closest, -np.inf).argmax())
            if not self.recent:  # nothing was shown yet
                item = int(self.random.choice(np.flatnonzero(self.free)))
            np.maximum(closest, self.space.to(item), out=closest)
            self._take(item)
            found.append(Chosen(item, "diverse"))
        return found

    def _take(self, item: int) -> None:
        self.free[item] = False
        self.recent.append(item)
        self.page.append(item)

    def _of_classes(self, phase: Phase, count: int) -> list[Chosen]:
        """Return images that may be of the classes that lack labels, or lie beside them."""
        margins = None if phase == "find" or self.p is None else two_likeliest(self.p)
        worth = self._worth(unknown=margins is None)
        found: list[Chosen] = []
        while worth and len(found) < count and self.free.any():
            c = max(worth, key=lambda c: worth[c].now)
            worth[c].take()
            if c not in self.scores:
                self.scores[c] = self._like(c) if margins is None else self._between(c, *margins)
            item = self._best(self.scores[c])
            self._take(item)
            found.append(Chosen(item, "find" if margins is None else "refine", c))
        return found

    def _best(self, scores: NDArray[np.floating]) -> int:
        """Return the free image with the highest score, no copy of others as long as one is left.

        To compare all images with those shown last would take most of the time of a page;
        compared is what would come next, which is seldom a copy.
        """
        while (free := self.free & ~self.held).any():
            item = int(np.where(free, scores, -np.inf).argmax())
            copied = self.space.copied(item, self.recent)
            if copied is None:
                return item
            self.held[self.space.copies(copied)] = True
            self.held[item] = True  # also where the two products differ in the last bit
        return int(np.where(self.free, scores, -np.inf).argmax())

    def _worth(self, *, unknown: bool) -> dict[int, "_Worth"]:
        """Return what showing an image is worth for each class with a label or an example."""
        needs = self.needs
        known = [c for c, n in enumerate(needs.counts) if n or (unknown and c in self.examples)]
        left = [c for c in known if needs.counts[c] < self.target] or known
        return {c: _Worth(needs.counts[c], needs.hits[c], needs.shown[c]) for c in left}

    def _like(self, c: int) -> NDArray[np.floating]:
        """Return how much each image is like a class (images,)."""
        if self.p is not None and self.needs.counts[c] >= ENOUGH and self.p[:, c].any():
            return self.p[:, c]
        items = np.array(list(self.needs.labels), dtype=np.int64)
        own = np.array(list(self.needs.labels.values()), dtype=np.int64) == c
        of = self.space.whitened[items[own]]
        if c in self.examples:
            of = np.concatenate([of, self.examples[c]])
        query = 2 * of.mean(axis=0, dtype=np.float64)
        if not own.all():
            query -= self.space.whitened[items[~own]].mean(axis=0, dtype=np.float64)
        return self.space.similar(query)

    def _between(
        self, c: int, two: NDArray[np.int64], margin: NDArray[np.floating]
    ) -> NDArray[np.floating]:
        """Return images by the margin of their two likeliest classes, those with `c` first."""
        return -margin - 2 * (two != c).all(axis=1)


@final
@dataclass
class _Worth:
    """What one more image shown for a class is worth: chance of a label over labels there are.

    Args:
        labels: Of the class; rises by the chance with each image on the page.
        hits: Images shown for it that were of it.
        shown: Images shown for it.
    """

    labels: float
    hits: int
    shown: int

    @property
    def chance(self) -> float:
        """Of a hit: the mean of a Beta distribution that was even before the first."""
        return (self.hits + 1) / (self.shown + 2)

    @property
    def now(self) -> float:
        """The worth."""
        return self.chance / (self.labels + 1)

    def take(self) -> None:
        """Put an image on the page."""
        self.labels += self.chance
