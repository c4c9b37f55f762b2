"""Choose which images, or windows of a scene, to label next."""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from tailora.config.recipe import Recipe
from tailora.curation.pool_features import pool_features
from tailora.curation.strategies import STRATEGIES, Candidates
from tailora.data import Dataset
from tailora.data.sources import file_path
from tailora.errors import ConfigError, DataError, unknown_name
from tailora.frames import Rows
from tailora.heads.linear_probe import predict_logits, standardised
from tailora.inference.maps.vector_files import VECTOR_DRIVERS
from tailora.inference.search_pool import FEATURES, open_pool
from tailora.inference.search_result import Hit, write_hits
from tailora.numbers import counted
from tailora.progress import Progress, silent
from tailora.runs.run import Run, load_run
from tailora.tasks.task import require_per_image


@final
@dataclass(frozen=True)
class Selection:
    """What to label.

    Args:
        data: What it was chosen from.
        method: How.
        images: The first to label first; `label` is the class that a run predicts.
        searched: Images or windows that could be chosen.
        left_out: Those that could not be read, or are without data.
        predicted: How many of the chosen a run takes for each class, most frequent first.
        notes: What to know.
    """

    data: str
    method: str
    images: Rows[Hit]
    searched: int
    left_out: int
    predicted: dict[str, int]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def select(
    data: str | Path | Dataset,
    *,
    budget: int,
    method: str = "typical",
    run: Run | str | Path | None = None,
    recipe: Recipe | None = None,
    chip: int | None = None,
    step: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    cache: str | Path | None = None,
    skip_broken: bool = False,
    progress: Progress = silent,
) -> Selection:
    """Choose images to label.

    Args:
        data: A dataset, or what `open_dataset` takes; a folder of images; a scene. Labels are not
            looked at.
        budget: How many.
        method: One of `tailora.curation.strategies.STRATEGIES`.
        run: Finished classification run, or its folder: its encoder and, for `"margin"`,
            `"badge"` and `"objects"`, its head.
        recipe: Pretrained encoder and how images are read, used without `run`.
        chip: Pixels per side of the windows of a scene; None uses the chips of the run, else 64.
        step: Stride between windows in pixels; None puts them side by side.
        seed: Of what is drawn.
        out: Table to write, `.csv`, or `.gpkg` or `.geojson` for windows of a scene.
        cache: Folder for features; None uses `tailora-features` beside `out`, and without `out`
            they are not kept.
        skip_broken: Leave out unreadable images, instead of stopping.
        progress: Shows images done.

    Raises:
        ConfigError: An option, or the task of the run, does not fit.
        DataError: There are fewer images than asked for, or one cannot be read.
        RunError: The run cannot be loaded.
        BackboneError: The encoder cannot be loaded, or does not fit the images.
        StorageError: A file cannot be written.

    Example:
        >>> chosen = tailora.select("pool/", budget=200, out="to-label.csv")  # doctest: +SKIP
    """
    out = None if out is None else Path(out)
    _check(budget, method, run, recipe, out)
    strategy = STRATEGIES[method]
    loaded = load_run(run) if isinstance(run, str | Path) else run
    how = loaded.recipe if loaded else recipe or Recipe()
    require_per_image(how.task, "select")
    if loaded is not None and how.probe.layers:
        raise ConfigError(
            "the head of this run sees several layers of the encoder, which select does not: fit "
            "without probe.layers, or leave out --run"
        )
    pool = open_pool(data, loaded, how.data, seed=how.seed, chip=chip, step=step, overlap=False)
    is_scene = pool.windows is not None
    if out is not None and out.suffix.lower() in VECTOR_DRIVERS and not is_scene:
        raise ConfigError(f"{out.name!r} is for windows of a scene; images are listed in a .csv")
    if len(pool.source) < budget:
        what = counted(len(pool.source), "window" if is_scene else "image")
        raise DataError(f"{pool.name!r} has {what}, fewer than --budget {budget:,}")
    kept = cache if cache is not None else None if out is None else out.parent / FEATURES
    features = pool_features(pool, loaded, how, kept, skip_broken=skip_broken, progress=progress)
    usable = np.flatnonzero(~np.isnan(features[:, 0]))
    if len(usable) < budget:
        what = counted(len(usable), "window" if is_scene else "image")
        raise DataError(f"{pool.name!r} has {what} with data, fewer than --budget {budget:,}")
    found = features[usable]
    p = None if loaded is None else _probabilities(loaded, found)
    scaled = standardised(found)
    sizes = None if loaded is None else np.array([float(one.n_train) for one in loaded.classes])
    rows, scores = strategy.choose(Candidates(scaled.astype(np.float32), p, sizes, seed), budget)
    names: list[str] | None = None
    if p is not None and loaded is not None:
        names = [loaded.class_names[c] for c in p.argmax(axis=1)]
    paths = [file_path(pool.source, int(usable[row])) for row in rows]
    images = Rows(
        Hit(
            rank=rank,
            id=pool.source.id(int(usable[row])),
            score=float(score) if np.isfinite(score) else 0.0,
            path=None if path is None else str(path),
            label=None if names is None else names[row],
            example=False,
            bounds=None if pool.windows is None else pool.windows.bounds(int(usable[row])),
        )
        for rank, (row, score, path) in enumerate(zip(rows, scores, paths, strict=True), 1)
    )
    if out is not None:
        crs = None if pool.windows is None else pool.windows.scene.grid.crs
        write_hits(images, out, crs, marked=False)
    predicted = Counter(one.label for one in images if one.label is not None)
    return Selection(
        pool.name, method, images, len(usable), len(features) - len(usable),
        dict(predicted.most_common()), pool.notes,
    )  # fmt: skip


def _check(
    budget: int,
    method: str,
    run: object,
    recipe: Recipe | None,
    out: Path | None,
) -> None:
    if budget < 1:
        raise ConfigError(f"--budget must be at least 1, got {budget}")
    if method not in STRATEGIES:
        raise unknown_name("method of selection", method, STRATEGIES)
    if run is not None and recipe is not None:
        raise ConfigError("the encoder is that of the run: leave out the recipe")
    if run is None and STRATEGIES[method].needs_run:
        raise ConfigError(f"--method {method} goes by the predictions of a run: state --run")
    endings = (".csv", *VECTOR_DRIVERS)
    if out is not None and out.suffix.lower() not in endings:
        raise ConfigError(f"--out must end in {', '.join(endings)}, got {out.name!r}")


def _probabilities(run: Run, features: NDArray[np.float32]) -> NDArray[np.float64]:
    logits = torch.from_numpy(predict_logits(run.model.head, features)).double()
    return logits.softmax(dim=1).numpy()
