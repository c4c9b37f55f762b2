"""One adapter trained on all classes: LoRA, or any other tuner of PEFT."""

import copy
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tailora.augment.nadir import Nadir
from tailora.config.recipe import Recipe, TrainOptions
from tailora.methods.job import Job
from tailora.methods.method import PLAIN, Method, find_method, seeing, starting_probe
from tailora.methods.stages import (
    drop_checkpoint,
    image_features,
    keep_detector,
    keep_image_history,
    keep_own_head,
    stage_folder,
    starting_detector,
)
from tailora.methods.training_objectives import Pretrained, base_training
from tailora.methods.training_parts import (
    drawn_by,
    early_stopping,
    needs_cosine,
    recipe_sampler,
    training_augmentation,
    training_optimizer,
)
from tailora.runs.weights import DETECTOR
from tailora.train.base_adaptation import AnyEncoder, adapt_base, run_training
from tailora.train.objectives import Detecting, detector_training
from tailora.train.subsets import thin, thinned_counts
from tailora.train.training_module import TrainingModule
from tailora.train.weight_averages import soup


class LoRA(Method):
    """An adapter trained on labels, then a linear probe."""

    name = "lora"
    title = "LoRA"
    summary = "an adapter trained on labels, then a linear probe"
    reference = "Hu et al., ICLR 2022"
    objectives = True
    layered = True
    detects = True
    style = ("#0072b2", "s")

    def has_own_head(self, recipe: Recipe) -> bool:
        """Whether it learns from labels by a loss that takes the logits of a linear head."""
        train = recipe.train
        return self.experts is None and train.objective == "labels" and not needs_cosine(train.loss)

    def train(self, job: Job) -> AnyEncoder:
        """Adapt with the recipe's objective, with or without labels."""
        train = job.recipe.train
        rows = _learnt_from(job)
        zero_shot = find_method("zero-shot")
        pretrained = Pretrained(
            head=lambda: starting_probe(job),
            features=lambda split: image_features(seeing(job, PLAIN), zero_shot.name, split),
        )
        learnt: list[TrainingModule] = []
        encoders: list[AnyEncoder] = []
        for number in range(1, train.soup + 1):
            own, own_rows = _portion(job, rows, number)
            title, training = base_training(own, self.experts, pretrained, own_rows)
            adapted = adapt_base(
                job.encoder,
                job.context,
                own_rows,
                training,
                spec=job.recipe.adapter if self.has_adapter else None,
                schedule=job.schedule,
                title=title if train.soup == 1 else f"{title} ({number} of {train.soup})",
                sampler=recipe_sampler(job.recipe, *drawn_by(job, own_rows)),
                optimizer=training_optimizer(train),
                sharded=job.recipe.compute.shard,
                stage=stage_folder(job, self._training(number)),
                stopping=early_stopping(job),
                keep=learnt.append,
                ingredient=number - 1,
                interpolation=train.interpolation,
            )
            encoders.append(adapted)
        heads = [one.head for one in learnt if one.head is not None]
        for alike in (encoders, heads):
            if len(alike) > 1:
                soup(alike)
        if heads:
            keep_own_head(job, self.name, heads[0])
        if learnt[0].detector is not None:
            keep_detector(job, self.name, learnt[0].detector)
        if learnt[0].history is not None:
            keep_image_history(job, self.name, learnt[0].history.seen())
        return encoders[0]

    def adapt(self, job: Job) -> None:
        """Train and save, unless already done; the checkpoints of a soup are kept until then."""
        super().adapt(job)
        for number in range(2, job.recipe.train.soup + 1):
            drop_checkpoint(job, self._training(number))

    def _training(self, number: int) -> str:
        """Name of one of the trainings of a soup, from 1."""
        return self.name if number == 1 else f"{self.name}/training-{number}"


def fit_detector(job: Job, stage: str) -> None:
    """Train the task's detector on the pretrained encoder and save it, unless already done.

    Images are drawn and turned, and the schedule is, as where an adapter learns with it.
    """
    if (job.folder.stage(stage) / DETECTOR).is_file():
        drop_checkpoint(job, stage)
        return
    detector, augment = starting_detector(job), training_augmentation(job.recipe)
    if detector is None or isinstance(augment, Nadir):
        raise TypeError(f"task {job.task.name!r} has no detector, or no crops of its images")
    rows, device = _learnt_from(job), job.accelerator.device
    encoder = copy.deepcopy(job.encoder).to(device).eval()
    training = detector_training(
        encoder, job.read_batch, rows_of=job.task,
        detecting=Detecting(detector.to(device), job.dataset), augment=augment, device=device,
    )  # fmt: skip
    with job.folder.costs(stage).measure("train"):
        run_training(
            training,
            rows,
            replace(job.context, compiled=False),  # nothing of the encoder learns
            job.schedule,
            "training the detector",
            stage_folder(job, stage),
            recipe_sampler(job.recipe, *drawn_by(job, rows)),
            stopping=early_stopping(job),
        )
    keep_detector(job, stage, detector)
    drop_checkpoint(job, stage)


def _portion(job: Job, rows: NDArray[np.int64], number: int) -> tuple[Job, NDArray[np.int64]]:
    """Training samples of one training of a soup, and the job with their class sizes."""
    ratios = job.recipe.train.soup_ratios
    if not ratios:
        return job, rows
    counts = thinned_counts(job.counts, ratios[number - 1])
    kept = thin(job.labels[rows], counts, seed=job.recipe.seed, number=number)
    return replace(job, counts=counts), rows[kept]


def _learnt_from(job: Job) -> NDArray[np.int64]:
    """Numbers of the images that stage 0 learns from; a detector learns from empty ones too."""
    train = job.recipe.train
    by_label = train.objective == "labels" or train.sampler != TrainOptions().sampler
    if by_label and not job.task.detects:
        return job.decisions("train").samples
    return job.dataset.indices("train")
