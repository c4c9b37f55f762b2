"""Look for what is wrong with a dataset of images: copies, doubtful labels, outliers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, final

import numpy as np
from numpy.typing import NDArray

from tailora.config.recipe import Recipe
from tailora.counts import ClassCounts, make_groups
from tailora.curation.curation_page import write_curation
from tailora.curation.forgetting import Forgetting, forgetting
from tailora.curation.influence import Influence, influence, within_class
from tailora.curation.label_doubts import FOLDS, LabelDoubts, label_doubts, out_of_fold
from tailora.curation.near_duplicates import COSINE, joined, near_duplicates
from tailora.curation.noise_and_imbalance import class_to_do, noise_by_group
from tailora.curation.outliers import class_distances, far_out
from tailora.curation.pool_features import pool_features
from tailora.curation.result import CuratedClass, CuratedImage, Curation, NearCopies
from tailora.data import Dataset, open_dataset
from tailora.data.sources import file_path
from tailora.errors import ConfigError, DataError, TailoraError
from tailora.frames import Rows
from tailora.inference.search_pool import FEATURES, Pool, open_pool
from tailora.losses.class_weights import effective_number
from tailora.numbers import named_list
from tailora.progress import Progress, silent
from tailora.runs.image_history import TrainedImage
from tailora.runs.run import Run, load_run
from tailora.tasks.task import require_per_image


def curate(
    data: str | Path | Dataset,
    *,
    run: Run | str | Path | None = None,
    recipe: Recipe | None = None,
    out: str | Path | None = None,
    cosine: float = COSINE,
    folds: int = FOLDS,
    cache: str | Path | None = None,
    skip_broken: bool = False,
    progress: Progress = silent,
) -> Curation:
    """Find near duplicates, doubtful labels and outliers of a dataset of images.

    Nothing is removed: rare classes look wrong to any such score, so each finding is for a person
    to look at, and those of tail classes stand apart on the page.

    Args:
        data: A dataset, or what `open_dataset` takes; or a folder of images without labels, of
            which only duplicates and outliers are found.
        run: Finished classification run, or its folder, whose encoder is used; if it has learnt
            these labels it believes them, and fewer doubts are found.
        recipe: Pretrained encoder and how images are read, used without `run`.
        out: Folder for `index.html`, `images.csv`, `copies.csv` and `curation.json`.
        cosine: From which images are candidates for duplicates.
        folds: Of the probabilities that labels are judged by, at least 3.
        cache: Folder for features; None uses `tailora-features` in `out`, and without `out` they
            are not kept.
        skip_broken: Leave out unreadable images, instead of stopping.
        progress: Shows images and folds done.

    Raises:
        ConfigError: An option, or the task of the run, does not fit.
        DataError: There are no images, or one cannot be read.
        RunError: The run cannot be loaded.
        BackboneError: The encoder cannot be loaded, or does not fit the images.
        StorageError: A file cannot be written.

    Example:
        >>> found = tailora.curate("chips/", out="runs/curation")  # doctest: +SKIP
        >>> found.images.to_frame()  # doctest: +SKIP
    """
    out = None if out is None else Path(out)
    _check(run, recipe, out, cosine, folds)
    loaded = load_run(run) if isinstance(run, str | Path) else run
    how = loaded.recipe if loaded else recipe or Recipe()
    require_per_image(how.task, "curate")
    pool = open_pool(_divided(data, how.seed), loaded, how.data, seed=how.seed)
    if pool.data is None:
        raise DataError(
            f"{pool.name!r} is a scene; curate takes images (tailora search finds places in scenes)"
        )
    kept = cache if cache is not None else None if out is None else out / FEATURES
    features = pool_features(pool, loaded, how, kept, skip_broken=skip_broken, progress=progress)
    unread = np.isnan(features[:, 0])
    broken = [pool.source.id(int(row)) for row in np.flatnonzero(unread)]
    usable = np.flatnonzero(~unread)
    if len(usable) < 2:
        raise DataError(f"{pool.name!r} has fewer than two images that can be read")
    history = () if loaded is None else loaded.image_history
    trained = {(one.id, one.label): one for one in history}
    seen = _Seen(pool, pool.data, usable, features[usable], trained)
    with progress("near duplicates", 1) as advance:
        copies = near_duplicates(seen.features, seen.read, cosine=cosine)
        advance(1)
    judged = None
    if pool.labels is not None:
        judged = _judge(seen, _independent(seen, copies), folds, how.seed, progress)
    found = _curation(seen, copies, judged, _caveats(loaded, broken))
    if out is not None:
        write_curation(found, seen.read, pool.bands, out)
    return found


@final
@dataclass(frozen=True, eq=False)
class _Seen:
    """Images that can be read, with their features; numbered as in the result.

    `trained` has what the training of a run saw of them, by id and label.
    """

    pool: Pool
    data: Dataset
    usable: NDArray[np.int64]
    features: NDArray[np.float32]
    trained: Mapping[tuple[str, str], TrainedImage]

    def __len__(self) -> int:
        return len(self.usable)

    def read(self, row: int) -> NDArray[np.generic]:
        """Return an image (bands, height, width)."""
        return self.pool.source.read(int(self.usable[row]))

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class index of each image; 0 without labels."""
        if self.pool.labels is None:
            return np.zeros(len(self), dtype=np.int64)
        return self.pool.labels[self.usable]

    @property
    def counts(self) -> ClassCounts:
        return ClassCounts.from_labels(self.labels, names=self.pool.classes)

    def ids(self) -> list[str]:
        return [self.pool.source.id(int(row)) for row in self.usable]

    def trained_images(self) -> list[TrainedImage | None]:
        """Each image as the run's training saw it; None where that learnt nothing from it."""
        if not self.pool.classes:
            return [None] * len(self)
        names = [self.pool.classes[label] for label in self.labels]
        return [self.trained.get(key) for key in zip(self.ids(), names, strict=True)]


@final
@dataclass(frozen=True, eq=False)
class _Judged:
    """What heads say of each image: such as have not seen it, and one that learns it."""

    doubts: LabelDoubts
    influence: Influence
    forgetting: Forgetting


def _check(run: object, recipe: object, out: Path | None, cosine: float, folds: int) -> None:
    if run is not None and recipe is not None:
        raise ConfigError("the encoder is that of the run: leave out the recipe")
    if folds < 3:
        raise ConfigError(f"--folds must be at least 3, got {folds}")
    if not 0 < cosine <= 1:
        raise ConfigError(f"--cosine must lie in (0, 1], got {cosine}")
    if out is not None and out.exists() and not out.is_dir():
        raise ConfigError(f"--out is a folder for the page and tables; {str(out)!r} is a file")


def _divided(data: str | Path | Dataset, seed: int) -> str | Path | Dataset:
    """Open data as `fit` does, whose splits copies must not cross; as given if it cannot."""
    if isinstance(data, Dataset):
        return data
    try:
        opened = open_dataset(data, seed=seed)
    except TailoraError:  # too few images of a class, no labels, or a mistake that comes up again
        return data
    return data if opened.targets is not None else opened


def _independent(seen: _Seen, copies: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Number the groups of images that are not independent: those of the data, and copies."""
    pairs = [np.stack([group[:-1], group[1:]], axis=1) for group in copies]
    if seen.data.groups is not None:
        names = np.unique(seen.data.groups[seen.usable], return_inverse=True)[1]
        order = np.argsort(names, kind="stable")
        same = names[order[1:]] == names[order[:-1]]
        pairs.append(np.stack([order[:-1][same], order[1:][same]], axis=1))
    every = np.concatenate(pairs) if pairs else np.zeros((0, 2), dtype=np.int64)
    return joined(every, len(seen))


def _judge(
    seen: _Seen, groups: NDArray[np.int64], folds: int, seed: int, progress: Progress
) -> _Judged:
    if len(np.unique(groups)) < folds:
        raise DataError(
            f"{seen.pool.name!r} has fewer than {folds} independent images (copies and groups "
            "count once), so labels cannot be judged by others"
        )
    probabilities = out_of_fold(
        seen.features, seen.labels, seen.counts, groups=groups, folds=folds, seed=seed,
        progress=progress,
    )  # fmt: skip
    return _Judged(
        label_doubts(probabilities, seen.labels),
        influence(probabilities, seen.labels, seen.features),
        forgetting(seen.features, seen.labels, seed=seed),
    )


def _curation(
    seen: _Seen,
    copies: Sequence[NDArray[np.int64]],
    judged: _Judged | None,
    caveats: Sequence[str],
) -> Curation:
    distances = class_distances(seen.features, seen.labels)
    far = far_out(distances)
    others = np.zeros(len(seen), dtype=np.int64)
    for group in copies:
        others[group] = len(group) - 1
    images = _images(seen, judged, distances, far, others)
    classes = () if judged is None else _classes(seen, judged, far, others)
    few = [one.name for one in classes if one.judged < one.images]
    notes = [*seen.pool.notes, *caveats]
    if few:
        notes.append(
            f"labels that cannot be judged, because all images of the class are in one fold: "
            f"{named_list(few)}"
        )
    return Curation(
        data=seen.pool.name,
        images=images,
        classes=Rows(classes),
        groups=Rows(noise_by_group(classes)) if classes else Rows(()),
        copies=_copies(copies, images),
        doubts=() if judged is None else tuple(judged.doubts.ranked().tolist()),
        notes=tuple(notes),
    )


def _images(
    seen: _Seen,
    judged: _Judged | None,
    distances: NDArray[np.float64],
    far: NDArray[np.bool_],
    others: NDArray[np.int64],
) -> Rows[CuratedImage]:
    classes, labels = seen.pool.classes, seen.labels
    paths = [file_path(seen.pool.source, int(row)) for row in seen.usable]
    splits, groups = seen.data.splits[seen.usable], seen.data.groups
    nothing = np.full(len(seen), np.nan)
    columns = dict.fromkeys(
        ("support", "el2n", "el2n_z", "self_influence", "self_influence_z", "pvi", "forgotten"),
        nothing,
    )
    trained, suggested = seen.trained_images(), cast("list[str | None]", [None] * len(seen))
    vog = np.array([getattr(one, "vog", None) for one in trained], dtype=np.float64)
    spread = within_class(vog, labels)
    if judged is not None:
        of = judged.influence
        columns = {
            "support": judged.doubts.support,
            "el2n": of.el2n,
            "el2n_z": within_class(of.el2n, labels),
            "self_influence": of.self_influence,
            "self_influence_z": within_class(of.self_influence, labels),
            "pvi": of.pvi,
            "forgotten": judged.forgetting.forgotten,
        }
        for row in judged.doubts.ranked().tolist():
            suggested[row] = classes[judged.doubts.suggested[row]]
    return Rows(
        CuratedImage(
            id=name,
            path=None if paths[i] is None else str(paths[i]),
            label=classes[labels[i]] if classes else None,
            split=str(splits[i]),
            group=None if groups is None else str(groups[seen.usable[i]]),
            suggested=suggested[i],
            **{key: _known(values[i]) for key, values in columns.items()},
            learnt=None if judged is None else bool(judged.forgetting.learnt[i]),
            **_in_training(trained[i], _known(spread[i])),
            distance=_known(distances[i]),
            outlier=bool(far[i]),
            copies=int(others[i]),
        )
        for i, name in enumerate(seen.ids())
    )


def _in_training(image: TrainedImage | None, spread: float | None) -> dict[str, Any]:
    names = (
        "confidence", "variability", "el2n", "self_influence", "forgotten", "learnt", "vog",
    )  # fmt: skip
    found = {f"training_{name}": getattr(image, name, None) for name in names}
    return found | {"training_vog_z": spread}


def _classes(
    seen: _Seen, judged: _Judged, far: NDArray[np.bool_], others: NDArray[np.int64]
) -> list[CuratedClass]:
    counts, labels, doubts = seen.counts, seen.labels, judged.doubts
    present = [c for c, count in enumerate(counts.values) if count]
    kept = ClassCounts(
        tuple(counts.names[c] for c in present), tuple(counts.values[c] for c in present)
    )
    group_of = {present[c]: name for name, own in make_groups(kept).items() for c in own}
    labelled, true = doubts.joint.sum(axis=1), doubts.joint.sum(axis=0)
    right = doubts.joint.diagonal()
    judges = ~np.isnan(doubts.support)
    imbalance, effective = counts.imbalance(), effective_number(counts.array())
    found = []
    for c in sorted(present, key=lambda c: (-counts.values[c], c)):
        own = labels == c
        wrong = np.bincount(doubts.suggested[own & doubts.doubted], minlength=len(labelled))
        mislabelled = float(1 - right[c] / labelled[c]) if labelled[c] else None
        missed = float(1 - right[c] / true[c]) if true[c] else None
        confused = counts.names[int(wrong.argmax())] if wrong.any() else None
        found.append(
            CuratedClass(
                name=counts.names[c],
                group=group_of[c],
                images=counts.values[c],
                judged=int((own & judges).sum()),
                doubted=int(wrong.sum()),
                mislabelled=mislabelled,
                missed=missed,
                confused=confused,
                forgotten=float(judged.forgetting.forgotten[own].mean()),
                unlearnt=int((~judged.forgetting.learnt[own]).sum()),
                outliers=int(far[own].sum()),
                copies=int((others[own] > 0).sum()),
                imbalance=float(imbalance[c]),
                effective=float(effective[c]),
                estimated=float(true[c] * judges.sum() + (own & ~judges).sum()),
                to_do=class_to_do(
                    int(wrong.sum()), mislabelled, missed, float(imbalance[c]), confused=confused
                ),
            )
        )
    return found


def _copies(groups: Sequence[NDArray[np.int64]], images: Rows[CuratedImage]) -> Rows[NearCopies]:
    found = [
        NearCopies(
            ids=tuple(images[row].id for row in group),
            splits=tuple(images[row].split for row in group),
            labels=tuple(images[row].label or "" for row in group),
            rows=tuple(group.tolist()),
        )
        for group in groups
    ]
    return Rows(sorted(found, key=lambda one: (not one.conflicts, not one.leaks)))  # stable


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _caveats(run: Run | None, broken: Sequence[str]) -> list[str]:
    notes = []
    if run is not None:
        notes.append(
            "the encoder is that of a run: if it has learnt these labels it believes them, and "
            "fewer doubts are found; without --run the encoder has seen no label"
        )
    if broken:
        notes.append(f"left out because they cannot be read: {named_list(broken)}")
    return notes
