"""A session of labelling: a folder that knows which image comes next."""

import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, cast, final

import numpy as np
from numpy.typing import NDArray

from tailora.clustering.block_threads import one_thread_of_linear_algebra
from tailora.config.recipe import Recipe
from tailora.errors import ConfigError, RunError, unknown_name
from tailora.inference.search_pool import FEATURES, Pool, open_pool
from tailora.labelling import estimates
from tailora.labelling.acquisition import PHASES, Chooser, Chosen
from tailora.labelling.inputs import (
    Start,
    features_again,
    kept_again,
    make_inputs,
    open_again,
    read_start,
    spec_of,
)
from tailora.labelling.journal import (
    DRAWN,
    FAILURES,
    SKIP,
    UNSURE,
    Answered,
    Asked,
    Journal,
    Line,
    PageShown,
    Phase,
    PhaseChosen,
    TakenBack,
    mend_journal,
    note_failure,
    read_journal,
)
from tailora.labelling.replay import Replay, replay
from tailora.labelling.settings import (
    Settings,
    changed_keys,
    check_examples,
    read_classes,
    read_keys,
    read_settings,
)
from tailora.labelling.space import Space
from tailora.labelling.suggestions import Suggestions, learn
from tailora.metrics.confusion import present_macro_f1
from tailora.progress import Progress, silent
from tailora.runs.one_at_a_time import one_at_a_time
from tailora.tasks.task import require_per_image

if TYPE_CHECKING:  # a session that goes on need not wait for it
    from tailora.runs.run import Run

_REFIT: Final = 10  # answers after which a head is fitted again


@final
@dataclass(frozen=True)
class Query:
    """An image to be answered.

    Args:
        item: Its number in the pool.
        name: Its name there.
        suggestion: Likeliest class; None if it is shown blind, and before there is a head.
        probability: Of the suggestion.
        acquisition: `"find"`, `"refine"`, `"diverse"`, `"check"` or `"random"`.
        answer: Given in this session: a class, `"unsure"`, `"skip"`, or None.
        wanted: Class that is looked for.
    """

    item: int
    name: str
    suggestion: str | None
    probability: float | None
    acquisition: str
    answer: str | None
    wanted: str | None = None


@final
@dataclass(frozen=True)
class Status:
    """How far a session is.

    Args:
        phase: Of the page that is shown.
        automatic: Whether phases switch by themselves.
        version: Of the head; 0 without one that has learnt answers.
        counts: Labels of each class.
        target: Labels wanted of each.
        unsure: Images answered so.
        skipped: Images answered so.
        answered: Images with any answer.
        pool: Images that can be shown.
        left: Those of them without an answer.
        rare_f1: Mean F1 of rare classes over labels that the head has not seen, with the ends of
            its interval. The images were chosen: it says whether the head gets better.
        drawn: Labels of the random sample.
        accuracy: Share of the random sample that is predicted right unseen, with its interval.
        prevalence: Share of each class in the data, from the random sample, with its interval.
        labels_per_hour: Without breaks; None before the twentieth.
        new_classes_per_50: Classes that each 50 labels brought and none before.
        failed: Why the last head could not be fitted; None if it could. Answers are kept, and the
            next page tries again.
    """

    phase: str
    automatic: bool
    version: int
    counts: dict[str, int]
    target: int
    unsure: int
    skipped: int
    answered: int
    pool: int
    left: int
    rare_f1: estimates.Measured | None
    drawn: int
    accuracy: estimates.Measured | None
    prevalence: dict[str, estimates.Measured]
    labels_per_hour: float | None
    new_classes_per_50: tuple[int, ...]
    failed: str | None


@final
class LabellingSession:
    """An open session; `create` or `open` gives one.

    Its methods may be called from several threads. NumPy's linear algebra has one thread while it
    is open.

    Args:
        folder: Of the session, with its `session.json`.
        settings: What that says.
        pool: The images.
        features: Of all images (images, width).
        start: What there is before the first answer.
        background: Whether heads are fitted in a thread; otherwise as soon as they are due, so
            that the same answers give the same session.

    Raises:
        RunError: Somebody else has it open, or the journal is damaged.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        pool: Pool,
        features: NDArray[np.floating],
        start: Start,
        *,
        background: bool = True,
    ) -> None:
        self.folder, self.settings, self.pool = folder, settings, pool
        self.classes, self.target = settings.classes, settings.target
        self.notes: list[str] = list(pool.notes)
        self._background = background
        self._space = Space(features)
        examples = {c: self._space.of(rows) for c, rows in start.examples.items()}
        self._chooser = Chooser(settings, self._space, examples)
        self._first = None if start.first is None else Suggestions(0, 0, start.first)
        self._head: Suggestions | None = None
        self._rare_f1: estimates.Measured | None = None  # of that head
        self._fitting: threading.Thread | None = None
        self._failed: BaseException | None = None  # for whoever waits
        self._why: str | None = None  # the last head could not be fitted
        self._new = 0  # answers that no head has learnt yet
        self._lock = threading.RLock()
        with ExitStack() as stack:
            stack.enter_context(one_at_a_time(folder))
            # products of a page take milliseconds; threads that wait for a busy core take far more
            stack.enter_context(one_thread_of_linear_algebra())
            cut = mend_journal(folder)
            self.notes += [cut] if cut else []
            self._state = replay(read_journal(folder))
            _check_items(self._state, len(features), folder)
            self._version = self._state.version
            self._journal = Journal(folder)
            stack.callback(self._journal.close)
            if self._state.answers:
                self.start_refit()
            self._held = stack.pop_all()

    @classmethod
    def create(
        cls,
        data: str | Path,
        folder: str | Path,
        *,
        classes: str | Path | Sequence[str],
        run: "Run | str | Path | None" = None,
        recipe: Recipe | None = None,
        like: Mapping[str, Sequence[str | Path]] | None = None,
        seed: int = 0,
        random_share: float = 0.15,
        target: int = 20,
        chip: int | None = None,
        step: int | None = None,
        cache: str | Path | None = None,
        skip_broken: bool = False,
        background: bool = True,
        progress: Progress = silent,
    ) -> "LabellingSession":
        """Make a session and open it.

        Args:
            data: What `open_dataset` takes; a folder of images; a scene.
            folder: Of the session, new or empty.
            classes: Names in the order of their keys, or a file with one in each line, each with
                a key of its own after a tab where it has one.
            run: Finished classification run, or its folder: its encoder and, if its classes are
                among these, its first suggestions.
            recipe: Pretrained encoder and how images are read, used without `run`.
            like: Examples of classes to start from, as `tailora.search` takes them.
            seed: Of what is drawn.
            random_share: Share of what is shown that is drawn evenly and shown blind.
            target: Labels wanted of each class.
            chip: Pixels per side of the windows of a scene; None uses those of the run, else 64.
            step: Stride between windows in pixels; None puts them side by side.
            cache: Folder for features; None uses `tailora-features` beside the session.
            skip_broken: Leave out unreadable images, instead of stopping.
            background: See `LabellingSession`.
            progress: Shows images done.

        Raises:
            ConfigError: An option, a class or the task of the run does not fit.
            DataError: There is nothing to label, or an image or example cannot be used.
            RunError: The run cannot be loaded, or the folder is in use.
            BackboneError: The encoder cannot be loaded, or does not fit the images.
            StorageError: A file cannot be written.
        """
        folder, like = Path(folder), like or {}
        names, keys = read_classes(classes), read_keys(classes)
        check_examples(like, names)
        _check_options(run, recipe, random_share, target)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunError(f"{str(folder)!r} is there already: choose another --out")
        from tailora.runs.run import load_run

        loaded = load_run(run) if isinstance(run, str | Path) else run
        how = loaded.recipe if loaded else recipe or Recipe()
        require_per_image(how.task, "label")
        pool = open_pool(data, loaded, how.data, seed=seed, chip=chip, step=step, overlap=False)
        features, bank, start = make_inputs(
            pool, loaded, how, Path(cache or folder.parent / FEATURES), classes=names, like=like,
            skip_broken=skip_broken, progress=progress,
        )  # fmt: skip
        settings = Settings(
            data=spec_of(data), name=pool.name, mark=pool.mark, images=len(pool.source),
            classes=names, keys=keys, seed=seed, random_share=random_share,
            target=target, run=None if loaded is None else str(loaded.folder.path.resolve()),
            recipe={} if loaded else changed_keys(how),
            chip=None if pool.windows is None else pool.windows.grid.chip,
            step=None if pool.windows is None else pool.windows.grid.step,
            skip_broken=skip_broken, features=str(bank.folder.resolve()),
            width=features.shape[1], manifest=bank.manifest,
        )  # fmt: skip
        start.write(folder)
        settings.write(folder)
        return cls(folder, settings, pool, features, start, background=background)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        data: str | Path | None = None,
        background: bool = True,
        progress: Progress = silent,
    ) -> "LabellingSession":
        """Continue a session; the features that were kept are used without an encoder.

        Args:
            folder: Of the session.
            data: Where the same images are now, if they have moved.
            background: See `LabellingSession`.
            progress: Shows images done, if features must be computed again.

        Raises:
            RunError: There is none, it is of another version, of other data, or open elsewhere.
            DataError: The data cannot be opened.
        """
        folder = Path(folder)
        settings = read_settings(folder)
        pool = open_again(settings, data)
        features = kept_again(settings)
        if features is None:
            features = features_again(settings, pool, progress=progress)
        return cls(folder, settings, pool, features, read_start(folder), background=background)

    def close(self) -> None:
        """Wait for a head that is being fitted, and give the session free."""
        if self._fitting is not None:
            self._fitting.join()
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def queries(self, count: int) -> list[Query]:
        """Return the page that is shown; it stays until `advance` or another phase is chosen.

        Args:
            count: Images on it; with another count it is shortened, or images are added.
        """
        _check_count(count)
        with self._lock:
            page = self._state.page
            if page is None or len(page.queries) != count:
                shown = () if page is None else page.queries[:count]
                self._show(count, shown)
            return self._page()

    def advance(self, count: int) -> list[Query]:
        """Return the next page, of fewer images at the end of the data."""
        _check_count(count)
        if self._new:
            self.start_refit()
        with self._lock:
            self._show(count, ())
            return self._page()

    def upcoming(self, count: int) -> list[int]:
        """Return the images that `advance` would show now, so that they can be read ahead."""
        _check_count(count)
        with self._lock:
            page = self._state.page
            kept = [] if page is None else [one.item for one in page.queries]
            found = self._chooser.page(self._state, self._suggestions(), count, kept)
            return [one.item for one in found]

    def answer(
        self, item: int, answer: str, *, seconds: float | None = None, tab: str = ""
    ) -> None:
        """Answer an image; answering again overwrites. On the disk when this returns.

        Args:
            item: Its number in the pool.
            answer: A class, `"unsure"` or `"skip"`.
            seconds: How long it took.
            tab: Tab of the browser.

        Raises:
            ConfigError: There is no such class or image.
            StorageError: It cannot be written.
        """
        self._answer({item: answer}, seconds, tab, at_once=False)

    def answer_at_once(self, answers: Mapping[int, str], *, tab: str = "") -> None:
        """Answer several images; `undo` takes all of them back.

        Args:
            answers: Of each image, as for `answer`.
            tab: Tab of the browser.

        Raises:
            ConfigError: There is no such class or image; then none is answered.
            StorageError: It cannot be written; nothing of it is kept.
        """
        self._answer(answers, None, tab, at_once=True)

    def undo(self, *, tab: str = "") -> list[int]:
        """Take back the last answer, or all that were given at once with it.

        Args:
            tab: Tab of the browser.

        Returns:
            The images they were about, the last first.
        """
        with self._lock:
            items = [one.item for one in self._state.last_given()]
            self._append(*(TakenBack(time.time(), item, tab) for item in items))
            self._new += len(items)
            return items

    def orders(self) -> dict[str, int]:
        """Return the last order of each tab that is in the journal, so that none is done twice."""
        with self._lock:
            return dict(self._state.orders)

    def choose_phase(self, phase: str | None) -> None:
        """Choose what is shown from the next page on; None lets phases switch by themselves.

        Raises:
            ConfigError: There is no such phase.
        """
        if phase is not None and phase not in PHASES:
            raise unknown_name("phase", phase, PHASES)
        with self._lock:
            self._append(PhaseChosen(time.time(), cast("Phase | None", phase)))

    def neighbours(self, item: int, count: int = 4) -> list[tuple[int, str]]:
        """Return the labelled images most like one, with their classes."""
        with self._lock:
            self._check_item(item)
            labels = self._state.labels(self.classes)
            near = self._space.nearest(item, list(labels), count)
            return [(one, self.classes[labels[one]]) for one in near]

    def status(self) -> Status:
        """Return how far the session is."""
        with self._lock:
            state, head = self._state, self._head
            labels = state.labels(self.classes)
            drawn = {i: labels[i] for i in self._chooser.drawn(state) if i in labels}
            unseen = {} if head is None else head.unseen
            counts = np.bincount(list(labels.values()), minlength=len(self.classes)).tolist()
            page, usable = state.page, self._space.usable
            return Status(
                phase=self._chooser.phase(state) if page is None else page.phase,
                automatic=state.phase is None, version=self._version if head else 0,
                counts=dict(zip(self.classes, counts, strict=True)), target=self.target,
                unsure=state.count(UNSURE), skipped=state.count(SKIP),
                answered=len(state.answers), pool=int(usable.sum()),
                left=int(usable.sum() - usable[list(state.answers)].sum()),
                rare_f1=self._rare_f1, drawn=len(drawn),
                accuracy=estimates.accuracy(drawn, unseen),
                prevalence=estimates.prevalence(list(drawn.values()), self.classes),
                labels_per_hour=state.labels_per_hour(),
                new_classes_per_50=state.new_classes(), failed=self._why,
            )  # fmt: skip

    def start_refit(self) -> None:
        """Fit a head to the answers so far, in a thread; nothing happens while one is fitted."""
        with self._lock:
            if self._fitting is not None and self._fitting.is_alive():
                return
            labels, known = self._state.labels(self.classes), self._state.lines
            drawn = [labels[i] for i in self._chooser.drawn(self._state) if i in labels]
            self._new = 0
            self._fitting = threading.Thread(
                target=self._fit, args=(labels, drawn, known), name="tailora-refit", daemon=True
            )
            self._fitting.start()
        if not self._background:
            self.wait()

    def wait(self) -> None:
        """Wait for a head that is being fitted.

        Raises:
            Exception: Fitting failed.
        """
        if self._fitting is not None:
            self._fitting.join()
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed

    def _fit(self, labels: Mapping[int, int], drawn: Sequence[int], known: int) -> None:
        try:
            found = learn(
                self._space.features, labels, self.classes, version=self._version + 1, known=known
            )
            rare_f1 = None
            if found is not None:
                of = list(labels.values())
                rare = estimates.rare_classes(drawn, found.probabilities, of)
                rare_f1 = estimates.rare_f1(labels, found.unseen, rare, len(self.classes))
        except BaseException as error:  # told by the page and by whoever waits
            self._tell_failure(error)
            return
        with self._lock:
            self._head, self._rare_f1, self._why = found, rare_f1, None
            self._version += found is not None

    def _tell_failure(self, error: BaseException) -> None:
        lines = "".join(traceback.format_exception(error))
        kept = note_failure(self.folder, lines)
        with self._lock:
            self._failed, self._new = error, max(self._new, 1)  # so that the next page tries again
            said = " ".join(f"{type(error).__name__}: {error}".rstrip(": ").split())
            self._why = f"{said} (see {FAILURES} in the session)" if kept else said

    def _suggestions(self) -> Suggestions | None:
        """Return the head of the session, or what the run says while that is more often right."""
        if self._first is None or self._head is None:
            return self._head or self._first
        labels = self._state.labels(self.classes)
        judged = [item for item in labels if item in self._head.unseen]
        if not judged:
            return self._first
        true = np.array([labels[item] for item in judged])
        own = np.array([self._head.unseen[item] for item in judged])
        of_run = self._first.probabilities[judged].argmax(axis=1)
        better = present_macro_f1(true, own, num_classes=len(self.classes)) > present_macro_f1(
            true, of_run, num_classes=len(self.classes)
        )
        return self._head if better else self._first

    def _show(self, count: int, kept: Sequence[Asked]) -> None:
        suggestions = self._suggestions()
        items = [one.item for one in kept]
        fresh = self._chooser.page(self._state, suggestions, count - len(kept), items)
        if (
            self._state.page is not None
            and not fresh
            and len(kept) == len(self._state.page.queries)
        ):
            return
        page = PageShown(
            time.time(), self._chooser.phase(self._state),
            0 if suggestions is None else suggestions.version,
            0 if suggestions is None else suggestions.known,
            (*kept, *(self._ask(one, suggestions) for one in fresh)),
        )  # fmt: skip
        self._append(page)

    def _ask(self, one: Chosen, suggestions: Suggestions | None) -> Asked:
        wanted = None if one.wanted is None else self.classes[one.wanted]
        if suggestions is None or one.acquisition in DRAWN:
            return Asked(one.item, one.acquisition, wanted)
        p = suggestions.probabilities[one.item]
        likeliest = int(p.argmax())
        return Asked(
            one.item, one.acquisition, wanted, self.classes[likeliest], float(p[likeliest])
        )

    def _page(self) -> list[Query]:
        page, answers = self._state.page, self._state.answers
        return [
            Query(
                one.item, self.pool.source.id(one.item), one.suggestion, one.probability,
                one.acquisition, answers[one.item].answer if one.item in answers else None,
                one.wanted,
            )
            for one in (() if page is None else page.queries)
        ]  # fmt: skip

    def _answer(
        self, answers: Mapping[int, str], seconds: float | None, tab: str, *, at_once: bool
    ) -> None:
        for answer in answers.values():
            if answer not in (*self.classes, UNSURE, SKIP):
                raise unknown_name("class", answer, self.classes)
        with self._lock:
            for item in answers:
                self._check_item(item)
            batch, now = self._state.lines if at_once else None, time.time()
            given: list[Line] = []
            for item, answer in answers.items():
                asked = self._state.asked.get(item, Asked(item, "import"))
                given.append(
                    Answered(
                        now, item, self.pool.source.id(item), answer, asked.acquisition,
                        asked.suggestion, asked.probability, seconds, tab, batch,
                    )
                )  # fmt: skip
            self._append(*given)
            self._new += len(given)
            due = self._background and self._new >= _REFIT
        if due:
            self.start_refit()

    def _append(self, *lines: Line) -> None:
        self._journal.append(lines)
        for line in lines:
            self._state.add(line)

    def _check_item(self, item: int) -> None:
        if not 0 <= item < self.settings.images:
            raise ConfigError(
                f"there is no image {item}: they are numbered 0 to {self.settings.images - 1}"
            )


def _check_count(count: int) -> None:
    if count < 1:
        raise ConfigError(f"a page has at least 1 image, got {count}")


def _check_options(run: object, recipe: object, random_share: float, target: int) -> None:
    if run is not None and recipe is not None:
        raise ConfigError("the encoder is that of the run: leave out the recipe")
    if not 0 <= random_share <= 1:
        raise ConfigError(f"--random-share must lie in [0, 1], got {random_share}")
    if target < 1:
        raise ConfigError(f"--target must be at least 1, got {target}")


def _check_items(state: Replay, images: int, folder: Path) -> None:
    items = [*state.asked, *state.answers]
    if items and not 0 <= min(items) <= max(items) < images:
        raise RunError(f"the journal of {str(folder)!r} is of other data: an image is out of range")
