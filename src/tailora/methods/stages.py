"""The stages of a run. Each leaves its result in the run folder and is skipped when it is there.

Whatever is evaluated has been read back from disk first: the saved run is the measured run.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from tailora import processes
from tailora.adapters import AdapterSpec, trained_parameters
from tailora.config.deblora_options import DebiasOptions
from tailora.heads.linear_probe import fit_linear_probe
from tailora.methods.deblora.calibrate import Calibration
from tailora.methods.deblora.stages import calibrate_features, learn_calibrated
from tailora.methods.expert_rows import EXPERT_ROWS
from tailora.methods.job import Job
from tailora.methods.lessons import Start, base_lesson
from tailora.methods.stage_features import features
from tailora.methods.training_parts import recipe_sampler, training_optimizer
from tailora.metrics import class_scores, confusion_matrix
from tailora.runs.weights import (
    is_saved,
    load_adapted,
    load_head,
    save_adapted,
    save_head,
)
from tailora.storage import read_json, typed, write_json
from tailora.train.adapter_spectrum import adapter_spectrum
from tailora.train.base_adaptation import AnyEncoder, adapt_base, with_adapter


def round_stage(options: DebiasOptions, number: int) -> str:
    """Name the stage that holds a round's adapter, from 1; before the first there is LoRA.

    Example:
        >>> [round_stage(DebiasOptions(rounds=3), number) for number in range(4)]
        ['lora', 'deblora/round-1', 'deblora/round-2', 'deblora']
    """
    if number == 0:
        return "lora"
    return "deblora" if number == options.rounds else f"deblora/round-{number}"


def source_stage(options: DebiasOptions, number: int) -> str:
    """Name the stage whose features a round clusters and moves.

    Example:
        >>> [source_stage(DebiasOptions(source="pretrained", rounds=2), n) for n in (1, 2)]
        ['zero-shot', 'deblora/round-1']
    """
    if number == 1 and options.source == "pretrained":
        return "zero-shot"
    return round_stage(options, number - 1)


# what is done before a method, in order
STANDS_ON: Final = {
    "zero-shot": (),
    "fine-tune": ("zero-shot",),
    "lora": ("zero-shot",),
    **dict.fromkeys(EXPERT_ROWS, ("zero-shot",)),
    "deblora": ("zero-shot", "lora"),
}


@dataclass(frozen=True)
class StageResult:
    """A finished row of the results: its encoder and its head."""

    method: str
    encoder: AnyEncoder
    head: nn.Linear


def run_stages(job: Job) -> list[StageResult]:
    """Do the stages of the recipe's method; debLoRA's baselines are rows of its results."""
    method = job.recipe.method
    results = [run_stage(job, name) for name in (*STANDS_ON[method], method)]
    return results if method == "deblora" else results[-1:]


def run_stage(job: Job, method: str) -> StageResult:
    """Adapt and fit the probe; what the method stands on must have been done."""
    adapt_stage(job, method)
    return with_probe(job, method)


def adapt_stage(job: Job, method: str) -> None:
    """Train the encoder of a method and save it, unless that was done before."""
    if method == "zero-shot":
        return
    spec = None if method == "fine-tune" else job.recipe.adapter
    train_once(
        job,
        method,
        lambda: _debiased(job) if method == "deblora" else _base(job, method),
        parameters=trainable(job, spec, len(job.counts.names)),
    )


def train_once(job: Job, stage: str, make: Callable[[], AnyEncoder], *, parameters: int) -> None:
    """Train an encoder and save it with its spectrum and cost, unless that was done before.

    Args:
        job: The run.
        stage: Name of its folder.
        make: Trains.
        parameters: How many learn.
    """
    folder = job.folder.stage(stage)
    if not is_saved(folder):
        with job.folder.costs(stage).measure("train", trained_parameters=parameters):
            adapted = make()
        # weights under their name end a stage, so what it cost is noted before
        processes.only_first(job.accelerator, partial(_keep, adapted, folder))
    # also that of a run killed right after its weights were saved
    processes.only_first(job.accelerator, partial(checkpoint(job, stage).unlink, missing_ok=True))


def _keep(adapted: AnyEncoder, folder: Path) -> None:
    found = adapter_spectrum(adapted.backbone)
    if found is not None:
        write_json(folder / "spectrum.json", found)
    save_adapted(adapted, folder)


def _base(job: Job, method: str) -> AnyEncoder:
    """Stage 0: adapt with labels or without, or train the whole encoder (`fine-tune`)."""
    rows = job.dataset.indices("train")
    start = Start(
        head=lambda: with_probe(job, "zero-shot").head,
        features=lambda: np.asarray(features(job, "zero-shot", "train")),
    )
    title, lesson = base_lesson(job, method, start)
    return adapt_base(
        job.encoder,
        job.bench,
        rows,
        lesson,
        spec=None if method == "fine-tune" else job.recipe.adapter,
        schedule=job.schedule,
        title=title,
        sampler=recipe_sampler(job.recipe, job.labels[rows]),
        optimizer=training_optimizer(job.recipe.train),
        sharded=job.recipe.compute.shard,
        checkpoint=checkpoint(job, method),
    )


def _debiased(job: Job) -> AnyEncoder:
    """Stages 2-5 in rounds; all but the last leave their adapter in a folder of their own."""
    options = job.recipe.deblora
    for number in range(1, options.rounds):
        stage = round_stage(options, number)
        folder = job.folder.stage(stage)
        if not is_saved(folder):
            adapted = _one_round(job, number)
            processes.only_first(job.accelerator, partial(save_adapted, adapted, folder))
        unlink = partial(checkpoint(job, stage).unlink, missing_ok=True)
        processes.only_first(job.accelerator, unlink)
    return _one_round(job, options.rounds)


def _one_round(job: Job, number: int) -> AnyEncoder:
    """Cluster, move, learn the moved features with a new adapter."""
    options, rows = job.recipe.deblora, job.dataset.indices("train")
    start = job.folder.stage(round_stage(options, number - 1))
    return learn_calibrated(
        job.encoder,
        lambda: load_adapted(job.encoder, start, trainable=True),
        job.bench,
        rows,
        calibration(job, number),
        np.asarray(features(job, source_stage(options, number), "train")),
        job.labels[rows],
        options=options,
        spec=job.recipe.adapter,
        batch_size=job.recipe.train.batch_size,
        micro_batch=job.recipe.compute.micro_batch,
        checkpoint=checkpoint(job, round_stage(options, number)),
    )


def calibration(job: Job, number: int | None = None) -> Calibration:
    """Stages 2-4 of a round, None for the last.

    Deterministic and short, so it is done anew where needed, not stored; all but the pulls that
    validation chose, which stand in the round's folder.
    """
    options = job.recipe.deblora
    number = options.rounds if number is None else number
    stage, source = round_stage(options, number), source_stage(options, number)
    chosen = job.folder.stage(stage) / "pulls.json"
    with job.folder.costs(stage).measure("cluster and move"):
        found = calibrate_features(
            options,
            np.asarray(features(job, source, "train")),
            job.labels[job.dataset.indices("train")],
            names=job.counts.names,
            groups=job.groups,
            seed=job.recipe.seed,
            device=job.accelerator.device,
            validation=_validation(job, source),
            pull=typed(list[float], read_json(chosen), chosen) if chosen.is_file() else None,
        )
    if options.pull == "validation" and job.folder.writes:
        write_json(chosen, (1 - found.keep).tolist())
    return found


def _validation(job: Job, source: str) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
    if job.recipe.deblora.pull != "validation":
        return None
    return np.asarray(features(job, source, "val")), job.labels[job.dataset.indices("val")]


def training_set(job: Job, method: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """What a head is fitted on: features (rows, width) and class indices (rows,).

    For debLoRA these are the new adapter's features, the targets it was to reach, or both.
    """
    own = np.asarray(features(job, method, "train"))
    labels = job.labels[job.dataset.indices("train")]
    chosen = job.recipe.deblora.head
    if method != "deblora" or chosen == "features":
        return own, labels
    targets = calibration(job).features.astype(np.float32)
    if chosen == "targets":
        return targets, labels
    return np.concatenate([own, targets]), np.concatenate([labels, labels])


def source_features(job: Job) -> NDArray[np.float32]:
    """Training features in the space that is de-biased, by the last round if there are several."""
    options = job.recipe.deblora
    return np.asarray(features(job, source_stage(options, options.rounds), "train"))


def group_macro_f1(job: Job, targets: NDArray[np.int64], predictions: NDArray[np.int64]) -> float:
    """Mean F1 over the classes that occur in `targets`: what the probe's penalty is chosen by."""
    scores = class_scores(confusion_matrix(targets, predictions, len(job.counts.names)))
    return float(np.nanmean(scores.f1))


def with_probe(job: Job, method: str) -> StageResult:
    """Fit the recipe's probe on a stage's features, or read the one that was fitted."""
    folder = job.folder.stage(method)
    encoder = load_adapted(job.encoder, folder)
    path = folder / "head.safetensors"
    together = ("test",) if job.accelerator.num_processes > 1 else ()  # while all are here
    _, found, *_ = [features(job, method, s, encoder) for s in ("train", "val", *together)]
    if job.folder.writes and not path.is_file():
        val = np.asarray(found)
        train, labels = training_set(job, method)
        with job.folder.costs(method).measure("probe"):
            head = _probe(job, train, labels, val)
        save_head(head, path)
    processes.wait(job.accelerator)
    return StageResult(method, encoder, load_head(path))


def costs(job: Job, method: str) -> list[dict[str, Any]]:
    """What was spent on a method, with the stages it stands on."""
    names = (*STANDS_ON[method], method)
    return [entry for name in names for entry in job.folder.costs(name).entries()]


def _probe(
    job: Job,
    train: NDArray[np.float32],
    labels: NDArray[np.int64],
    val: NDArray[np.float32],
) -> nn.Linear:
    probe = fit_linear_probe(
        train,
        labels,
        loss=job.loss(job.recipe.probe),
        num_classes=len(job.counts.names),
        l2=job.recipe.probe.l2,
        validation=(val, job.labels[job.dataset.indices("val")]) if len(val) else None,
        score=lambda targets, predictions: group_macro_f1(job, targets, predictions),
    )
    return probe.linear


def trainable(job: Job, spec: AdapterSpec | None, classes: int) -> int:
    """Count the parameters of an adapter, or of the whole encoder, and of a head on it."""
    adapted = with_adapter(job.encoder, spec, seed=job.recipe.seed, total_steps=1)
    return trained_parameters(adapted) + classes * (job.encoder.features + 1)


def checkpoint(job: Job, method: str) -> Path:
    """Where a stage keeps its state while it trains."""
    return job.folder.stage(method) / "checkpoint.pt"
