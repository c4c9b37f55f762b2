"""Stage 0 of debLoRA: adapt a copy of the encoder, with labels or without.

The encoder that is given stays as it was to the bit: some tuners move frozen weights.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora.adapters import AdapterSpec, adapt
from tailora.backbones import Encoder, ModuleEncoder
from tailora.debias.calibrate import unit_spread
from tailora.progress import Progress
from tailora.samplers.epoch import EpochSampler
from tailora.train.denoising import DENOISING, denoising_objective
from tailora.train.label_free import label_free_objective
from tailora.train.loop import Objective, Schedule, draws, train
from tailora.train.objectives import Images, label_objective


@dataclass(frozen=True)
class Bench:
    """What every training stage works with.

    Args:
        images: Gives images (batch, bands, height, width) by sample number.
        accelerator: Device, precision and backward pass.
        progress: Shows how far a stage is.
        seed: Seeds initial weights, order, augmentation and dropout.
    """

    images: Images
    accelerator: Accelerator
    progress: Progress
    seed: int


AnyEncoder = Encoder | ModuleEncoder


def with_adapter(
    encoder: AnyEncoder, spec: AdapterSpec | None, *, seed: int, total_steps: int
) -> AnyEncoder:
    """Copy an encoder and make the copy trainable: an adapter on it, or all of it for None."""
    copied = copy.deepcopy(encoder)
    if spec is None:
        copied.backbone.requires_grad_(requires_grad=True)
    else:
        copied.backbone = adapt(copied.backbone, spec, seed=seed, total_steps=total_steps)
    return copied


def adapt_to_labels(
    encoder: AnyEncoder,
    bench: Bench,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    *,
    spec: AdapterSpec | None,
    schedule: Schedule,
    loss: nn.Module,
    head: nn.Module,
    augment: str,
    sampler: EpochSampler | None = None,
    checkpoint: Path | None = None,
) -> AnyEncoder:
    """Stage 0: adapt a copy of `encoder` by classification.

    Args:
        encoder: Pretrained and frozen.
        bench: Images, device, progress, seed.
        rows: Training sample numbers.
        labels: Class index of every sample, also of those not in `rows`.
        spec: The adapter; None trains the whole encoder (fine-tuning).
        schedule: How long and how fast.
        loss: Of what the head gives, and targets.
        head: Start of the head, e.g. the probe on pretrained features; it learns along and
            is dropped afterwards, because a head fitted to the end beats it.
        augment: See `label_objective`.
        sampler: See `train`.
        checkpoint: Where each epoch's state goes.

    Returns:
        The adapted copy, on the accelerator's device.
    """
    device = bench.accelerator.device
    steps = schedule.steps(draws(rows, sampler))
    adapted = with_adapter(encoder, spec, seed=bench.seed, total_steps=steps).to(device)
    learner = nn.ModuleDict({"encoder": adapted, "head": copy.deepcopy(head).to(device)})
    learner["head"].requires_grad_(requires_grad=True)
    objective = label_objective(
        adapted,
        learner["head"],
        bench.images,
        torch.from_numpy(labels).to(device),
        loss=loss.to(device),
        augment=augment,
        device=device,
    )
    run_training(
        learner, objective, rows, bench, schedule, "adapting to labels", checkpoint, sampler
    )
    return adapted


def adapt_without_labels(
    encoder: AnyEncoder,
    bench: Bench,
    rows: NDArray[np.int64],
    teacher: NDArray[np.floating],
    *,
    spec: AdapterSpec,
    schedule: Schedule,
    how: str,
    sampler: EpochSampler | None = None,
    checkpoint: Path | None = None,
) -> AnyEncoder:
    """Stage 0 without labels: adapt a copy of `encoder` to see the whole in altered images.

    Args:
        encoder: Pretrained and frozen.
        bench: Images, device, progress, seed.
        rows: Training sample numbers.
        teacher: Pretrained features of these rows, in their order (rows, features).
        spec: The adapter.
        schedule: How long and how fast.
        how: See `label_free_objective`; `"denoising"` is for diffusion models.
        sampler: See `train`.
        checkpoint: Where each epoch's state goes.
    """
    device = bench.accelerator.device
    steps = schedule.steps(draws(rows, sampler))
    adapted = with_adapter(encoder, spec, seed=bench.seed, total_steps=steps).to(device)
    objective = (
        denoising_objective(adapted, bench.images, device=device)
        if how == DENOISING
        else label_free_objective(
            adapted,
            bench.images,
            by_sample(rows, teacher).to(device),
            torch.from_numpy(unit_spread(teacher).astype(np.float32)).to(device),
            how=how,
            device=device,
        )
    )
    run_training(
        adapted, objective, rows, bench, schedule, "adapting without labels", checkpoint, sampler
    )
    return adapted


def by_sample(rows: NDArray[np.int64], targets: NDArray[np.floating]) -> Tensor:
    """Lay targets out by sample number, since batches are made of sample numbers."""
    table = np.zeros((int(rows.max()) + 1, targets.shape[1]), dtype=np.float32)
    table[rows] = targets
    return torch.from_numpy(table)


def run_training(
    module: nn.Module,
    objective: Objective,
    rows: NDArray[np.int64],
    bench: Bench,
    schedule: Schedule,
    title: str,
    checkpoint: Path | None,
    sampler: EpochSampler | None = None,
) -> None:
    """Train `module` to the schedule's end and leave it in evaluation mode; see `train`."""
    total = schedule.steps(draws(rows, sampler))
    with bench.progress(title, total) as advance:
        done = 0
        for step in train(
            module,
            objective,
            rows,
            schedule=schedule,
            seed=bench.seed,
            accelerator=bench.accelerator,
            checkpoint=checkpoint,
            sampler=sampler,
        ):
            advance(step.number - done)  # the first step of a resumed run jumps to its place
            done = step.number
    module.eval()
