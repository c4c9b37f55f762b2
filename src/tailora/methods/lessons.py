"""What stage 0 learns, by the recipe's objective: one function an objective."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tailora.heads.cosine import CosineHead
from tailora.methods.experts import Branches, Experts
from tailora.methods.job import Job
from tailora.methods.training_parts import cosine_scale, training_loss, training_mix
from tailora.train.base_adaptation import AnyEncoder, distillation_lesson
from tailora.train.contrastive_options import read_options
from tailora.train.denoising import DENOISING, denoising_objective
from tailora.train.label_free import rotation_lesson
from tailora.train.lesson import Lesson, alone
from tailora.train.objectives import label_lesson
from tailora.train.two_views import TwoViewData, paco_lesson, sbcl_lesson, supcon_lesson


@dataclass(frozen=True)
class Start:
    """What a lesson may start from; asked for only where it is needed.

    Args:
        head: Gives a linear probe on pretrained features.
        features: Gives pretrained features of the training rows (rows, features).
    """

    head: Callable[[], nn.Linear]
    features: Callable[[], NDArray[np.float32]]


def base_lesson(
    job: Job, experts: Experts | None, start: Start
) -> tuple[str, Callable[[AnyEncoder], Lesson]]:
    """Say what stage 0 of a method learns.

    Args:
        job: The run.
        experts: Heads and loss of its own; None for those of the recipe.
        start: What it may start from.

    Returns:
        What the progress bar says, and the lesson of an adapted encoder.
    """
    title, make = OBJECTIVES[job.recipe.train.objective]
    return title, partial(make, job, experts, start)


def starting_head(job: Job, experts: Experts | None, loss: nn.Module, start: Start) -> nn.Module:
    """Make the head that learns along: experts, a cosine head, or the probe's."""
    width, classes, seed = job.encoder.features, len(job.counts.names), job.recipe.seed
    if experts is not None:
        return Branches(experts.heads(width, classes, job.recipe.train.loss_options, seed))
    scale = cosine_scale(loss)
    if scale is not None:
        return CosineHead(width, classes, scale=scale, seed=seed)
    return copy.deepcopy(start.head())


def _labels(job: Job, experts: Experts | None, start: Start, adapted: AnyEncoder) -> Lesson:
    device, rows = job.accelerator.device, job.dataset.indices("train")
    loss = training_loss(job.recipe, experts, job.counts, job.groups)
    return label_lesson(
        adapted,
        starting_head(job, experts, loss.first, start).to(device),
        job.read_batch,
        torch.from_numpy(job.labels).to(device),
        loss=loss.to(device),
        augment=job.recipe.train.augment,
        device=device,
        mixing=training_mix(job.recipe, job.counts, rows, job.labels, loss),
    )


def _distillation(job: Job, _: Experts | None, start: Start, adapted: AnyEncoder) -> Lesson:
    rows, how = job.dataset.indices("train"), job.recipe.train.objective
    return distillation_lesson(adapted, job.bench, rows, start.features(), how=how)


def _denoising(job: Job, _: Experts | None, __: Start, adapted: AnyEncoder) -> Lesson:
    objective = denoising_objective(adapted, job.read_batch, device=job.accelerator.device)
    return alone(adapted, objective)


def _rotation(job: Job, _: Experts | None, __: Start, adapted: AnyEncoder) -> Lesson:
    return rotation_lesson(
        adapted,
        job.read_batch,
        width=job.encoder.features,
        seed=job.recipe.seed,
        device=job.accelerator.device,
    )


def _two_views(job: Job, _: Experts | None, start: Start, adapted: AnyEncoder) -> Lesson:
    name = job.recipe.train.objective
    options = read_options(name, job.recipe.train.objective_options)
    data = TwoViewData(
        images=job.read_batch,
        rows=job.dataset.indices("train"),
        labels=job.labels,
        counts=job.counts,
        width=job.encoder.features,
        device=job.accelerator.device,
        seed=job.recipe.seed,
    )
    if name == "paco":
        centers = copy.deepcopy(start.head()).requires_grad_(requires_grad=True)
        return paco_lesson(adapted, data, options, centers)
    return {"supcon": supcon_lesson, "sbcl": sbcl_lesson}[name](adapted, data, options)


_WITHOUT: Final = "adapting without labels"
_COMPARING: Final = "adapting by comparing views"
_MakeLesson = Callable[[Job, Experts | None, Start, AnyEncoder], Lesson]
OBJECTIVES: Final[dict[str, tuple[str, _MakeLesson]]] = {
    "labels": ("adapting to labels", _labels),
    "supcon": (_COMPARING, _two_views),
    "sbcl": (_COMPARING, _two_views),
    "paco": (_COMPARING, _two_views),
    "self-distillation": (_WITHOUT, _distillation),
    "masked": (_WITHOUT, _distillation),
    "rotation": (_WITHOUT, _rotation),
    DENOISING: (_WITHOUT, _denoising),
}
