"""Stages in a run folder: trained once, saved, and read back before evaluation.

Everything that is evaluated has been read from disk first: the saved run is the evaluated run.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora import processes
from tailora.adapters import AdapterSpec, trained_parameters
from tailora.backbones.stages import folded_width
from tailora.backbones.symmetries import dihedral, over_views
from tailora.decisions import Decisions
from tailora.features import FeatureBank, extract, make_together
from tailora.features.rows import row_features
from tailora.methods.job import Job
from tailora.randomness import seeded
from tailora.runs.image_history import write_image_history
from tailora.runs.run import seen_by_heads
from tailora.runs.weights import (
    DETECTOR,
    is_saved,
    load_adapted,
    load_into,
    save_adapted,
    save_head,
    weights_fingerprint,
)
from tailora.storage import write_json
from tailora.train.adapter_spectrum import adapter_spectrum
from tailora.train.base_adaptation import AnyEncoder, with_adapter
from tailora.train.history import StageFolder
from tailora.train.image_history import SeenImages

_AT_ONCE = 64  # images


def train_once(job: Job, stage: str, make: Callable[[], AnyEncoder], *, parameters: int) -> None:
    """Train an encoder and save it with its spectrum and cost, unless already done.

    Args:
        job: The run.
        stage: Name of its folder.
        make: Trains and returns the encoder.
        parameters: Number of parameters it trains.
    """
    folder = job.folder.stage(stage)
    if not is_saved(folder):
        with job.folder.costs(stage).measure("train", trained_parameters=parameters):
            adapted = make()
        # saved weights mark a stage as done, so its cost is written before
        processes.only_first(job.accelerator, partial(_keep, adapted, folder))
    # also if a run was killed right after saving its weights
    drop_checkpoint(job, stage)


def _keep(adapted: AnyEncoder, folder: Path) -> None:
    found = adapter_spectrum(adapted.backbone)
    if found is not None:
        write_json(folder / "spectrum.json", found)
    save_adapted(adapted, folder)


def own_head_file(job: Job, stage: str) -> Path:
    """File of the head that a stage was trained with."""
    return job.folder.stage(stage) / "own-head.safetensors"


def keep_own_head(job: Job, stage: str, head: nn.Linear) -> None:
    """Save the head that a stage was trained with, to evaluate with it (head `own`)."""
    path = own_head_file(job, stage)
    processes.only_first(job.accelerator, lambda: save_head(head.cpu(), path))


def new_detector(job: Job) -> nn.Module | None:
    """Build the task's detector with initial weights from the recipe's seed; None without one."""
    if not job.task.detects:
        return None
    train = job.recipe.train
    with seeded(job.recipe.seed):
        return job.task.detector(
            job.encoder.features, job.grid, job.input.image_size, stages=job.stages,
            detector=train.detector, box_loss=train.box_loss, presence=train.presence,
        )  # fmt: skip


def starting_detector(job: Job) -> nn.Module | None:
    """Build the task's detector as training starts with it; None without one."""
    detector = new_detector(job)
    if detector is not None:
        job.task.start_detector(detector, job.dataset, job.dataset.indices("train"))
    return detector


def keep_detector(job: Job, stage: str, detector: nn.Module) -> None:
    """Save the detector that a stage was trained with."""
    path = job.folder.stage(stage) / DETECTOR
    processes.only_first(job.accelerator, lambda: save_head(detector.cpu(), path))


def keep_image_history(job: Job, stage: str, seen: SeenImages) -> None:
    """Save what a stage saw of each image it learnt from."""
    names = job.dataset.ids()
    ids = [names[sample] for sample in seen.samples.tolist()]
    labels = [job.counts.names[label] for label in job.labels[seen.samples].tolist()]
    write = partial(write_image_history, seen, ids, labels, job.folder.stage(stage))
    processes.only_first(job.accelerator, write)


def stage_detector(job: Job, stage: str) -> nn.Module | None:
    """Read the detector that a stage was trained with; None if there is none."""
    detector, path = new_detector(job), job.folder.stage(stage) / DETECTOR
    return load_into(detector, path) if detector is not None and path.is_file() else None


def stage_folder(job: Job, stage: str, *, rate: str = "train.lr") -> StageFolder:
    """Folder of a stage's checkpoint and history; `rate` is the recipe key of its learning rate."""
    return StageFolder(stage, job.folder.stage(stage), rate)


def drop_checkpoint(job: Job, stage: str) -> None:
    """Delete the checkpoint of a finished stage."""
    unlink = partial(stage_folder(job, stage).checkpoint.unlink, missing_ok=True)
    processes.only_first(job.accelerator, unlink)


def trainable(job: Job, spec: AdapterSpec | None, classes: int) -> int:
    """Count the parameters of an adapter, or of the whole encoder, plus those of a linear head."""
    adapted = with_adapter(job.encoder, spec, seed=job.recipe.seed, total_steps=1)
    return trained_parameters(adapted) + classes * (job.encoder.features + 1)


def stage_features(
    job: Job, stage: str, split: str, encoder: AnyEncoder | None = None, *, turn: int = 0
) -> NDArray[np.float32]:
    """Features (rows, features) of the labelled decisions of a split, with a stage's weights.

    They are read from the stage's feature bank, or computed and saved there.

    Args:
        job: The run.
        stage: Name of its folder.
        split: `"train"`, `"val"` or `"test"`.
        encoder: The stage's encoder, if already loaded; else it is read from the run folder.
        turn: Symmetry of the square applied to the images, 0 to 7; see `dihedral`. With 0,
            validation and test features are means over all views if the recipe asks for views.
    """
    decisions = job.decisions(split)
    view = f"{split}-turned-{turn}" if turn else split
    if job.task.per_image:
        return _encoded(job, stage, view, decisions.sample, encoder, turn=turn)
    samples, maps = job.dataset.indices(split), stage_maps(job, stage, split, encoder, turn=turn)
    return rows_of_maps(maps, samples, decisions)


def rows_of_maps(
    maps: NDArray[np.floating], samples: NDArray[np.int64], decisions: Decisions
) -> NDArray[np.float32]:
    """What maps say of decisions (rows, features), some images at a time.

    Args:
        maps: Of images (images, *grid, features); may be on disk.
        samples: Numbers of the images, ascending (images,).
        decisions: About these images.
    """
    found = np.empty((len(decisions), maps.shape[-1]), dtype=np.float32)
    for start in range(0, len(samples), _AT_ONCE):
        rows, image = decisions.of(samples[start : start + _AT_ONCE])
        if len(rows):
            part = torch.from_numpy(np.array(maps[start : start + _AT_ONCE]))
            found[rows] = row_features(part, image, decisions, rows).numpy()
    return found


def stage_maps(
    job: Job, stage: str, split: str, encoder: AnyEncoder | None = None, *, turn: int = 0
) -> NDArray[np.float16]:
    """Features (images, *grid, features) of every place of the images of a split, on disk.

    Args:
        job: The run, of a task with several decisions for each image.
        stage: See `stage_features`.
        split: See `stage_features`.
        encoder: See `stage_features`.
        turn: See `stage_features`.
    """
    found = staged_maps(job, stage, split, encoder, turn=turn)
    return found[..., : job.head_encoder.features]


def staged_maps(
    job: Job, stage: str, split: str, encoder: AnyEncoder | None = None, *, turn: int = 0
) -> NDArray[np.float16]:
    """What `Task.model` says of every place, which a detector sees: `stage_maps`, and stages.

    Args:
        job: See `stage_maps`.
        stage: See `stage_features`.
        split: See `stage_features`.
        encoder: See `stage_features`.
        turn: See `stage_features`.
    """
    view = f"{split}-turned-{turn}" if turn else split
    samples = job.dataset.indices(split)
    return _encoded(job, stage, view, samples, encoder, turn=turn, by_place=True)  # type: ignore[return-value]


def image_features(job: Job, stage: str, split: str) -> NDArray[np.float32]:
    """Features (images, features) of all images of a split, labelled or not."""
    samples = job.dataset.indices(split)
    view = split if job.task.per_image else f"{split}-images"
    return _encoded(job, stage, view, samples, None)


def _encoded(
    job: Job,
    stage: str,
    view: str,
    samples: NDArray[np.int64],
    encoder: AnyEncoder | None,
    *,
    turn: int = 0,
    by_place: bool = False,
) -> NDArray[np.float32]:
    """Features of images (images, features), or `by_place` feature maps in half precision."""
    folder = job.folder.stage(stage)
    split, grid = view.partition("-")[0], job.grid if by_place else ()
    views = (job.recipe.probe.views or 1) if view in ("val", "test") else 1
    layers, detail = job.recipe.probe.layers or [], job.recipe.probe.detail
    name = "-".join(["features", view, *(f"over-{views}-views" for _ in range(views > 1))])
    if layers:  # beside those that the encoder was trained through
        name += "-layers-" + ",".join(map(str, layers))
    if detail != "none":
        name += f"-with-{detail}"
    bank = FeatureBank(
        folder / name,
        job.feature_manifest(split, weights_fingerprint(folder), grid, views, layers, detail),
        "float16" if by_place else "float32",
    )
    device = job.accelerator.device

    def turned(batch: NDArray[np.int64]) -> Tensor:
        return dihedral(job.read_batch(batch), np.full(len(batch), turn))

    def fill(mine: NDArray[np.int64], out: NDArray[np.float32]) -> None:
        adapted = (load_adapted(job.encoder, folder) if encoder is None else encoder).to(device)
        with job.folder.costs(stage).measure(f"{view} features"):
            extract(
                adapted, turned if turn else job.read_batch, mine, out=out, device=device,
                progress=job.progress, title=f"{stage}: {view} features",
                model=_model(
                    job, seen_by_heads(adapted, job.recipe), views=views, by_place=by_place
                ),
            )  # fmt: skip

    width = job.head_encoder.features + (folded_width(job.stages, grid) if by_place else 0)
    return make_together(bank, samples, (*grid, width), fill, job.accelerator)


def _model(
    job: Job, adapted: AnyEncoder, *, views: int, by_place: bool
) -> Callable[[Tensor], Tensor]:
    if by_place:
        return job.task.model(adapted)
    return partial(over_views, adapted) if views > 1 else adapted
