"""Stages 2-5 of debLoRA: move features of the base adapter, and train a new one to produce them."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora.adapters import AdapterSpec, cut_ranks, freeze_beyond_features
from tailora.config.deblora_options import DebiasOptions, no_validation
from tailora.counts import ClassCounts, Groups
from tailora.decisions import Decisions
from tailora.errors import unknown_name
from tailora.heads.linear_probe import unit_spread
from tailora.methods.deblora.calibrate import Calibration, calibrate
from tailora.methods.deblora.chosen_pull import Validation, choose_pull
from tailora.train.base_adaptation import (
    AnyEncoder,
    TrainingContext,
    run_training,
    with_adapter,
)
from tailora.train.history import StageFolder
from tailora.train.objectives import Detecting, RowsOf, target_objective
from tailora.train.optimizers import ENCODER
from tailora.train.schedule import Schedule
from tailora.train.training_module import Objective, TrainingModule, alone


def calibrate_features(
    options: DebiasOptions,
    features: NDArray[np.floating],
    labels: NDArray[np.int64],
    *,
    names: Sequence[str],
    groups: Groups,
    seed: int,
    device: torch.device | None = None,
    validation: Validation | None = None,
    pull: Sequence[float] | None = None,
) -> Calibration:
    """Run stages 2-4 with the options of debLoRA.

    Args:
        options: Clusters, balance, pull and so on.
        features: Training features (rows, features).
        labels: Their class indices (rows,).
        names: Class names in index order.
        groups: Head, middle and tail.
        seed: Seed of the clustering.
        device: Device of the encoder; if it is CUDA, samples are clustered there, too.
        validation: Validation features and class indices, to choose pulls if the options say so.
        pull: A pull for each class, chosen before, instead of that in the options.

    Raises:
        ConfigError: A class to calibrate is unknown, an option does not fit the features, or there
            is no validation split to choose pulls by.
    """
    chosen = options.calibrate
    for name in [] if isinstance(chosen, str) else chosen:
        if name not in names:
            raise unknown_name("class in deblora.calibrate", name, names)
    with_pull = partial(
        calibrate,
        features,
        labels,
        clusters=options.clusters,
        balance=options.balance,
        classes=chosen if isinstance(chosen, str) else [names.index(name) for name in chosen],
        center_weights=options.center_weights,
        center_samples=options.center_samples,
        move=options.move,
        groups=groups,
        num_classes=len(names),
        standardize=options.standardize,
        pca=options.pca,
        seed=seed,
        device=str(device) if device is not None and device.type == "cuda" else None,
    )
    if pull is not None or options.pull != "validation":
        return with_pull(pull=options.pull if pull is None else pull)
    if validation is None or not len(validation[1]):
        raise no_validation()
    found, counts = with_pull(pull=1.0), ClassCounts.from_labels(labels, names=names)
    return with_pull(
        pull=choose_pull(found, features, labels, validation, counts=counts, move=options.move)
    )


def learn_calibrated(
    encoder: AnyEncoder,
    base: Callable[[], AnyEncoder],
    context: TrainingContext,
    decisions: Decisions,
    found: Calibration,
    source: NDArray[np.floating],
    *,
    options: DebiasOptions,
    spec: AdapterSpec,
    batch_size: int,
    micro_batch: int | None = None,
    stage: StageFolder | None = None,
    rows_of: RowsOf | None = None,
    detecting: Detecting | None = None,
) -> AnyEncoder:
    """Run stage 5: train an adapter so that features match their calibrated targets.

    *Reading*: the detector of the paper is not known. Here the one that the base adapter was
    trained with goes on learning beside the distance to the targets, from all training images, so
    that it fits the new adapter.

    Args:
        encoder: Pretrained encoder, for a fresh adapter.
        base: Returns a copy of the label-trained encoder with its adapter trainable.
        context: Images, device, progress, seed.
        decisions: Training rows: images and class indices.
        found: Calibration of these rows, in their order.
        source: The features that were calibrated (rows, features).
        options: Initialisation, training rows, loss, epochs and learning rate.
        spec: The adapter.
        batch_size: Images per step.
        micro_batch: Images per forward pass; None takes the whole batch.
        stage: Folder of the checkpoint and history.
        rows_of: How images become rows; None if each image is one decision.
        detecting: The detector that learns along, with all images that it learns from.

    Returns:
        The de-biased encoder. If no class is imbalanced enough to move and training starts from the
        base adapter, this is the base adapter itself: its loss is already zero, and an optimiser
        that normalises gradients would only drift. A fresh adapter then trains on all rows.
    """
    moving = found.keep[decisions.labels] < 1
    kept = moving if options.fit_on == "tail" and moving.any() else np.ones(len(moving), bool)
    wanted = decisions.select(kept)
    samples = wanted.samples if detecting is None else detecting.data.indices("train")
    schedule = Schedule(max(options.epochs, 1), batch_size, options.lr, micro_batch=micro_batch)
    if options.init == "from-base":
        start = base()
        if not moving.any() or not options.epochs:
            return start
        cut_ranks(start.backbone)
    else:
        # not the seed of the base adapter, or the module would start as that one did
        steps = schedule.steps(len(samples))
        start = with_adapter(encoder, spec, seed=context.seed + 1, total_steps=steps)
    freeze_beyond_features(start.backbone)
    device = context.accelerator.device

    def as_tensor(values: NDArray[np.floating]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(device)

    start.to(device)
    objective = target_objective(
        start if rows_of is None else rows_of.model(start),
        context.images,
        as_tensor(found.features[kept]),
        as_tensor(unit_spread(source)),
        device=device,
        decisions=wanted,
        mean=as_tensor(source.mean(axis=0, dtype=np.float64)),
        regression=options.regression,
        beside=None if detecting is None or rows_of is None else partial(detecting.losses, rows_of),
    )
    title = "learning the moved features"
    run_training(_learning(start, detecting, objective), samples, context, schedule, title, stage)
    return start


def _learning(
    encoder: AnyEncoder, detecting: Detecting | None, objective: Objective
) -> TrainingModule:
    if detecting is None:
        return alone(encoder, objective)
    both = nn.ModuleDict({ENCODER: encoder, "detector": detecting.detector})
    return TrainingModule(both, objective)
