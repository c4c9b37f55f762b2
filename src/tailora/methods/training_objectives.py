"""Training objectives of stage 0, one function each."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora.augment.nadir import Nadir
from tailora.heads.cosine import CosineHead
from tailora.heads.linear_probe import zero_linear
from tailora.methods.deblora.calibrate import calibrate
from tailora.methods.experts import Branches, Experts
from tailora.methods.job import Job
from tailora.methods.stages import starting_detector
from tailora.methods.training_parts import (
    cosine_scale,
    drawn_by,
    recipe_sampler,
    training_augmentation,
    training_loss,
    training_mix,
)
from tailora.train.base_adaptation import AnyEncoder, distillation_training
from tailora.train.contrastive_options import read_options
from tailora.train.denoising import DENOISING, denoising_objective
from tailora.train.label_free import rotation_training
from tailora.train.objectives import Detecting, label_training
from tailora.train.recutting import Recutting
from tailora.train.training_module import TrainingModule, alone
from tailora.train.two_views import TwoViewData, paco_training, sbcl_training, supcon_training
from tailora.train.variance_of_gradients import VarianceOfGradients, label_gradients


@dataclass(frozen=True)
class Pretrained:
    """Head and features of the pretrained encoder, computed only if an objective needs them.

    Args:
        head: Returns a linear probe on pretrained features.
        features: Returns pretrained features of a split (rows, features).
    """

    head: Callable[[], nn.Linear]
    features: Callable[[str], NDArray[np.float32]]


def base_training(
    job: Job, experts: Experts | None, pretrained: Pretrained, rows: NDArray[np.int64]
) -> tuple[str, Callable[[AnyEncoder], TrainingModule]]:
    """Return the training objective of stage 0.

    Args:
        job: The run, with the class sizes of `rows`.
        experts: Heads and loss of the method; None for those of the recipe.
        pretrained: Outputs of the pretrained encoder.
        rows: Numbers of the training samples.

    Returns:
        The title of the progress bar, and a function that builds the training module of an adapted
        encoder.
    """
    title, make = OBJECTIVES[job.recipe.train.objective]
    return title, partial(make, job, experts, pretrained, rows)


def starting_head(
    job: Job, experts: Experts | None, loss: nn.Module, pretrained: Pretrained
) -> nn.Module:
    """Build the head trained with the adapter: experts, a cosine head, or a linear one."""
    width, classes, seed = job.encoder.features, len(job.counts.names), job.recipe.seed
    if experts is not None:
        return Branches(experts.heads(width, classes, job.recipe.train.loss_options, seed))
    scale = cosine_scale(loss)
    if scale is not None:
        return CosineHead(width, classes, scale=scale, seed=seed)
    if job.recipe.train.head_start == "zero":
        return zero_linear(width, classes)
    return copy.deepcopy(pretrained.head())


def _labels(
    job: Job,
    experts: Experts | None,
    pretrained: Pretrained,
    rows: NDArray[np.int64],
    adapted: AnyEncoder,
) -> TrainingModule:
    device = job.accelerator.device
    loss = training_loss(job.recipe, experts, job.counts, job.groups)
    detector = starting_detector(job)
    training = label_training(
        adapted,
        starting_head(job, experts, loss.first, pretrained).to(device),
        job.read_batch,
        job.targets,
        loss=loss.to(device),
        augment=training_augmentation(job.recipe),
        device=device,
        mixing=training_mix(job.recipe, job.counts, rows, job.labels, loss),
        rows_of=None if job.task.per_image else job.task,
        detecting=None if detector is None else Detecting(detector.to(device), job.dataset),
        recutting=_recutting(job, rows),
        remember=True,
    )
    if job.recipe.train.vog and training.history is not None and training.head is not None:
        training.history.gradients = _gradients(job, adapted, training.head, rows).to(device)
    return training


def _recutting(job: Job, rows: NDArray[np.int64]) -> Recutting | None:
    """How windows of these rows are re-cut; None if they are not."""
    if not job.recipe.train.recut:
        return None
    labels, held = drawn_by(job, rows)
    assert held is not None
    return Recutting(
        job.task, job.dataset, rows, held, recipe_sampler(job.recipe, labels, held),
        grid=job.grid, reach=job.recipe.train.recut, fit=job.recipe.data.resize,
    )  # fmt: skip


def _gradients(
    job: Job, adapted: AnyEncoder, head: nn.Linear, rows: NDArray[np.int64]
) -> VarianceOfGradients:
    """Look at training images as they are, as many at once as a step does."""
    device = job.accelerator.device

    def gradient(batch: NDArray[np.int64]) -> Tensor:
        labels = torch.from_numpy(job.labels[batch]).to(device)
        return label_gradients(adapted, head, job.read_batch(batch).to(device), labels)

    size = job.recipe.compute.micro_batch or job.recipe.train.batch_size
    return VarianceOfGradients(rows, len(job.targets), gradient, size)


def _distillation(
    job: Job,
    _: Experts | None,
    pretrained: Pretrained,
    __: NDArray[np.int64],
    adapted: AnyEncoder,
) -> TrainingModule:
    validation = None
    if job.recipe.train.patience:
        validation = job.dataset.indices("val"), pretrained.features("val")
    return distillation_training(
        adapted,
        job.context,
        job.dataset.indices("train"),
        pretrained.features("train"),
        how=job.recipe.train.objective,
        validation=validation,
    )


def _denoising(
    job: Job, _: Experts | None, __: Pretrained, ___: NDArray[np.int64], adapted: AnyEncoder
) -> TrainingModule:
    objective = denoising_objective(adapted, job.read_batch, device=job.accelerator.device)
    return alone(adapted, objective)


def _rotation(
    job: Job, _: Experts | None, __: Pretrained, ___: NDArray[np.int64], adapted: AnyEncoder
) -> TrainingModule:
    return rotation_training(
        adapted,
        job.read_batch,
        width=job.encoder.features,
        seed=job.recipe.seed,
        device=job.accelerator.device,
    )


def _two_views(
    job: Job,
    _: Experts | None,
    pretrained: Pretrained,
    rows: NDArray[np.int64],
    adapted: AnyEncoder,
) -> TrainingModule:
    name = job.recipe.train.objective
    options = read_options(name, job.recipe.train.objective_options)
    augment = training_augmentation(job.recipe)
    data = TwoViewData(
        images=job.read_batch,
        rows=rows,
        labels=job.labels,
        counts=job.counts,
        width=job.encoder.features,
        device=job.accelerator.device,
        seed=job.recipe.seed,
        alter=augment if isinstance(augment, Nadir) else None,
    )
    if name == "paco":
        centers = copy.deepcopy(pretrained.head()).requires_grad_(requires_grad=True)
        debiased = partial(_debiased, job) if options["prototypes"] else None
        return paco_training(
            adapted, data, options, centers, tail=job.groups.tail, debiased=debiased
        )
    return {"supcon": supcon_training, "sbcl": sbcl_training}[name](adapted, data, options)


_CLUSTERS: Final = 32  # as debLoRA's


def _debiased(
    job: Job, features: NDArray[np.float32], labels: NDArray[np.int64]
) -> NDArray[np.floating]:
    """De-biased centres (classes, width), of clusters in which each class counts equally."""
    return calibrate(
        features,
        labels,
        clusters=min(_CLUSTERS, len(features)),
        center_samples="balanced",
        groups=job.groups,
        num_classes=len(job.counts.names),
        seed=job.recipe.seed,
    ).centers


_WITHOUT: Final = "adapting without labels"
_COMPARING: Final = "adapting by comparing views"
_MakeTraining = Callable[
    [Job, Experts | None, Pretrained, NDArray[np.int64], AnyEncoder], TrainingModule
]
OBJECTIVES: Final[dict[str, tuple[str, _MakeTraining]]] = {
    "labels": ("adapting to labels", _labels),
    "supcon": (_COMPARING, _two_views),
    "sbcl": (_COMPARING, _two_views),
    "paco": (_COMPARING, _two_views),
    "self-distillation": (_WITHOUT, _distillation),
    "masked": (_WITHOUT, _distillation),
    "rotation": (_WITHOUT, _rotation),
    DENOISING: (_WITHOUT, _denoising),
}
