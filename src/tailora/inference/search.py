"""Search images, or windows of a scene, by examples of what is wanted."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailora.config.recipe import Recipe
from tailora.data import Dataset
from tailora.data.sources import file_path
from tailora.errors import ConfigError, DataError, unknown_name
from tailora.features.similar import COMBINATIONS, COPY, similarities
from tailora.frames import Rows
from tailora.inference.maps.vector_files import VECTOR_DRIVERS
from tailora.inference.search_encoder import encoder_and_bank, kept_features
from tailora.inference.search_examples import (
    Example,
    features_of,
    find_examples,
    other_scale,
    prepared,
)
from tailora.inference.search_page import write_search
from tailora.inference.search_pool import FEATURES, Pool, SceneWindows, open_pool
from tailora.inference.search_result import FIRST, Hit, SearchQuality, SearchResult, write_hits
from tailora.metrics.retrieval import average_precision
from tailora.progress import Progress, silent
from tailora.runs.run import Run, load_run
from tailora.tasks.task import require_per_image


def search(
    data: str | Path | Dataset,
    like: Sequence[str | Path],
    *,
    unlike: Sequence[str | Path] = (),
    run: Run | str | Path | None = None,
    recipe: Recipe | None = None,
    top: int = 50,
    combine: str = "mean",
    relevant: str | None = None,
    keep_examples: bool = False,
    views: int = 1,
    chip: int | None = None,
    step: int | None = None,
    out: str | Path | None = None,
    html: str | Path | None = None,
    cache: str | Path | None = None,
    skip_broken: bool = False,
    progress: Progress = silent,
) -> SearchResult:
    """Find the images, or the windows of a scene, that resemble examples.

    Features are computed once and kept, so that further searches of the same data are quick. Of
    windows that overlap, only the best is a hit.

    Args:
        data: A dataset, or what `open_dataset` takes; a folder of images; a scene.
        like: Examples: image files, ids of images (or of windows) in the data, or boxes
            `"west,south,east,north"` in the CRS of the scene.
        unlike: Counter-examples: images that resemble these rank lower.
        run: Finished classification run, or its folder: its encoder, with its adapter, is used.
        recipe: Pretrained encoder (`backbone.name`) and how images are read (`data`), used without
            `run`.
        top: Number of hits.
        combine: How several examples are compared: `"mean"`, by their mean direction, or `"max"`,
            by the nearest, for examples that look different from each other.
        relevant: Class of the examples, to measure how well it is found; None takes the label of
            examples that are images of the data.
        keep_examples: Keep the examples and copies of them among the hits, marked.
        views: 8 averages features over flips and quarter turns, at eight times the cost.
        chip: Pixels per side of the windows of a scene; None uses the chips of the run, else 64.
        step: Stride between windows in pixels; None means half a window.
        out: Table of hits to write, `.csv`, or `.gpkg` or `.geojson` for windows of a scene.
        html: Page with thumbnails of examples and hits to write.
        cache: Folder for features; None uses `tailora-features` beside `out`, and without `out`
            they are not kept.
        skip_broken: Leave out unreadable images, instead of stopping.
        progress: Shows images done.

    Raises:
        ConfigError: An option, or the task of the run, does not fit.
        DataError: There is nothing to search, or an image or example cannot be used.
        RunError: The run cannot be loaded.
        BackboneError: The encoder cannot be loaded, or does not fit the images.
        StorageError: A file cannot be written.

    Example:
        >>> found = tailora.search("chips/", ["quarry.png"], out="hits.csv")  # doctest: +SKIP
        >>> found.hits.to_frame()  # doctest: +SKIP
    """
    out, html = (None if path is None else Path(path) for path in (out, html))
    _check(like, top, combine, out, html)
    if run is not None and recipe is not None:
        raise ConfigError("the encoder is that of the run: leave out the recipe")
    loaded = load_run(run) if isinstance(run, str | Path) else run
    how = loaded.recipe if loaded else recipe or Recipe()
    require_per_image(how.task, "search")
    pool = open_pool(data, loaded, how.data, seed=how.seed, chip=chip, step=step)
    _check_out(out, pool)
    _check_class(relevant, pool)
    wanted = find_examples(like, pool)
    examples = [*wanted, *find_examples(unlike, pool)]
    with ExitStack() as stack:
        kept = _cache(cache, out)
        folder = kept or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        encoder, bank = encoder_and_bank(
            pool, loaded, how, folder, views=views, skip_broken=skip_broken
        )
        # examples are refused before features take minutes
        examples = [one.read(pool, how.data, encoder.stored) for one in examples]
        inputs = prepared(examples, encoder)
        features, reused = kept_features(
            pool, encoder, bank, skip_broken=skip_broken, progress=progress
        )
        usable = ~np.isnan(features[:, 0])
        if not usable.any():
            raise DataError(f"{pool.name!r} has nothing to search: all of it is without data")
        rows = features_of(examples, inputs, encoder, features)
        found = similarities(features, rows[: len(wanted)], rows[len(wanted) :], combine=combine)
        del features  # a temporary file
    copies = np.nan_to_num(found.nearest, nan=-1.0) >= COPY
    copies[[one.row for one in examples if one.row is not None]] = True
    order = np.flatnonzero(usable)[np.argsort(-found.scores[usable], kind="stable")]
    if pool.windows is None:
        ranked = (order if keep_examples else order[~copies[order]])[:top].tolist()
    else:
        taken = [pool.windows.box(row) for row in np.flatnonzero(copies).tolist()]
        taken += [one.box for one in examples if one.box is not None]
        ranked = _apart(order, pool.windows, [] if keep_examples else taken, top)
    quality, unknown = _quality(pool, wanted, found.scores, usable & ~copies, relevant)
    result = SearchResult(
        data=pool.name,
        hits=_hits(ranked, found.scores, copies, pool),
        searched=int(usable.sum()),
        left_out=int((~usable).sum()),
        copies=int(copies.sum()),
        quality=quality,
        reused=reused,
        features=None if kept is None else str(bank.folder),
        notes=(*pool.notes, *unknown, *other_scale(examples, pool)),
    )
    if out is not None:
        crs = None if pool.windows is None else pool.windows.scene.grid.crs
        write_hits(result.hits, out, crs, marked=keep_examples)
    if html is not None:
        write_search(result, pool, examples, len(wanted), ranked, html)
    return result


def _check(
    like: Sequence[str | Path], top: int, combine: str, out: Path | None, html: Path | None
) -> None:
    if isinstance(like, str | Path) or not any(str(one).strip() for one in like):
        raise ConfigError("a search needs examples: list at least one with --like")
    if top < 1:
        raise ConfigError(f"--top must be at least 1, got {top}")
    if combine not in COMBINATIONS:
        raise ConfigError(f"--combine must be {' or '.join(COMBINATIONS)}, got {combine!r}")
    endings = (".csv", *VECTOR_DRIVERS)
    if out is not None and out.suffix.lower() not in endings:
        raise ConfigError(f"--out must end in {', '.join(endings)}, got {out.name!r}")
    if html is not None and html.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--html writes a page: its name must end in .html, got {html.name!r}")


def _check_out(out: Path | None, pool: Pool) -> None:
    if out is not None and out.suffix.lower() in VECTOR_DRIVERS and pool.windows is None:
        raise ConfigError(f"{out.name!r} is for windows of a scene; hits among images are a .csv")


def _cache(cache: str | Path | None, out: Path | None) -> Path | None:
    if cache is not None:
        return Path(cache)
    return None if out is None else out.parent / FEATURES


def _apart(
    order: NDArray[np.int64],
    windows: SceneWindows,
    taken: Sequence[tuple[int, int, int, int]],
    top: int,
) -> list[int]:
    """Return the first windows that overlap neither boxes that are taken nor an earlier one."""
    free = np.ones((len(windows.grid.rows.starts), len(windows.grid.columns.starts)), dtype=bool)
    for box in taken:
        free[windows.overlapping(box)] = False
    chosen: list[int] = []
    for row in order.tolist():
        if len(chosen) == top:
            break
        if free.flat[row]:
            free[windows.overlapping(windows.box(row))] = False
            chosen.append(row)
    return chosen


def _hits(
    ranked: Sequence[int], scores: NDArray[np.float64], copies: NDArray[np.bool_], pool: Pool
) -> Rows[Hit]:
    paths = [file_path(pool.source, row) for row in ranked]
    return Rows(
        Hit(
            rank=rank,
            id=pool.source.id(row),
            score=float(scores[row]),
            path=None if path is None else str(path),
            label=pool.label(row),
            example=bool(copies[row]),
            bounds=None if pool.windows is None else pool.windows.bounds(row),
        )
        for rank, (row, path) in enumerate(zip(ranked, paths, strict=True), 1)
    )


def _check_class(name: str | None, pool: Pool) -> None:
    if name is None:
        return
    if pool.labels is None:
        raise ConfigError(f"--class needs labels, and {pool.name!r} has none: leave it out")
    if name not in pool.classes:
        raise unknown_name("class", name, pool.classes)


def _quality(
    pool: Pool,
    wanted: Sequence[Example],
    scores: NDArray[np.float64],
    searched: NDArray[np.bool_],
    name: str | None,
) -> tuple[SearchQuality | None, list[str]]:
    """Measure the ranking of the class of the examples, or say why not."""
    if pool.labels is None:
        return None, []
    own = {None if one.row is None else pool.label(one.row) for one in wanted}
    if name is None and (len(own) > 1 or None in own):
        which = "examples are of several classes" if len(own) > 1 else "their class is not known"
        return None, [f"hits are not measured: {which}; state one with --class"]
    name = name or str(own.pop())
    rows = np.flatnonzero(searched & (pool.labels >= 0))
    right = pool.labels[rows] == pool.classes.index(name)
    if not right.any():
        return None, [f"hits are not measured: the examples are the only images of {name!r}"]
    first = right[np.argsort(-scores[rows], kind="stable")][:FIRST]
    average = average_precision(scores[rows][None], right)[0]
    return SearchQuality(
        name=name,
        images=int(right.sum()),
        searched=len(rows),
        precision=float(first.mean()),
        average_precision=float(average),
    ), []
