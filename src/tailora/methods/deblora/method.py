"""debLoRA in a run: LoRA, then a new adapter trained on features moved to shared clusters."""

from functools import partial
from typing import final

import numpy as np
from numpy.typing import NDArray

from tailora import processes
from tailora.backbones import LoadedBackbone
from tailora.config.deblora_options import DebiasOptions, no_validation
from tailora.config.recipe import Recipe
from tailora.counts import ClassCounts
from tailora.errors import ConfigError, unknown_name
from tailora.methods.deblora.calibrate import Calibration
from tailora.methods.deblora.object_rows import calibrate_objects, objects_of
from tailora.methods.deblora.stages import calibrate_features, learn_calibrated
from tailora.methods.job import Job
from tailora.methods.method import INPUT, Classes, Method, Rows
from tailora.methods.stages import (
    drop_checkpoint,
    keep_detector,
    stage_detector,
    stage_features,
    stage_folder,
)
from tailora.runs.weights import is_saved, load_adapted, save_adapted
from tailora.storage import read_json, typed, write_json
from tailora.tasks.task import find_task
from tailora.train.base_adaptation import AnyEncoder
from tailora.train.objectives import Detecting

_BEFORE, _BASE = "zero-shot", "lora"


@final
class DebLoRAMethod(Method):
    """LoRA, then features de-biased towards shared clusters and learnt by a new adapter.

    With several rounds, each de-biases the features of the previous round's adapter; all but the
    last save their adapter in a folder of their own.
    """

    name = "deblora"
    title = "debLoRA"
    summary = "LoRA, then features de-biased towards shared clusters and learnt by a new adapter"
    reference = "Tian et al., NeurIPS 2024"
    advice = (
        "features that are used without a head that corrects for class sizes: search by example, "
        "plain nearest neighbours, a cross-entropy head; under a logit-adjusted head it made no "
        "measurable difference (docs/where-the-gain-is.md)"
    )
    uses = (*INPUT, "adapter", "train", "deblora", "evaluate")  # groups decide what is moved
    stands_on = (_BEFORE, _BASE)
    baselines = True
    objectives = True
    detects = True
    rate_key = "deblora.lr"
    style = ("#009e73", "o")

    def check(self, recipe: Recipe, counts: ClassCounts, n_val: int) -> None:
        """Reject pulls without validation, too many clusters, and unknown classes."""
        options = recipe.deblora
        if options.pull == "validation" and not n_val:
            raise no_validation()
        if options.unit == "object" and not find_task(recipe.task).per_pixel:
            raise ConfigError(
                f"deblora.unit='object' needs classes of pixels, and task {recipe.task!r} has "
                "none: leave it out, or choose --task segment or change"
            )
        if options.clusters > counts.total:
            raise ConfigError(
                f"clusters={options.clusters} is more than the {counts.total} training samples; "
                "lower it with --clusters"
            )
        if not isinstance(options.calibrate, str):
            for name in options.calibrate:
                if name not in counts.names:
                    raise unknown_name("class in deblora.calibrate", name, counts.names)

    def check_encoder(self, recipe: Recipe, loaded: LoadedBackbone, rows: int, width: int) -> None:
        """Reject more principal components than the features have."""
        pca, largest = recipe.deblora.pca, min(rows, width)
        if pca is not None and not 1 <= pca <= largest:
            raise ConfigError(
                f"deblora.pca must lie in [1, {largest}] for these features, got {pca}"
            )

    def train(self, job: Job) -> AnyEncoder:
        """Run stages 2 to 5, in rounds."""
        options = job.recipe.deblora
        for number in range(1, options.rounds):
            stage = round_stage(options, number)
            folder = job.folder.stage(stage)
            if not is_saved(folder):
                adapted = self._round(job, number)
                processes.only_first(job.accelerator, partial(save_adapted, adapted, folder))
            drop_checkpoint(job, stage)
        return self._round(job, options.rounds)

    def feature_stage(self, job: Job) -> str:
        """The new adapter, or LoRA if stage 5 trains none."""
        return self.name if job.recipe.deblora.epochs else _BASE

    def training_set(self, job: Job) -> tuple[Rows, Classes]:
        """The new adapter's features, their targets, or both."""
        own, labels = super().training_set(job)
        chosen = job.recipe.deblora.head
        if chosen == "features":
            return own, labels
        targets = self.calibration(job).features.astype(np.float32)
        if chosen == "targets":
            return targets, labels
        return np.concatenate([own, targets]), np.concatenate([labels, labels])

    def moves(self, recipe: Recipe) -> bool:
        """Whether its targets are among the rows."""
        return recipe.deblora.head != "features"

    def calibration(self, job: Job) -> Calibration:
        """Clusters and moved features of the last round."""
        return self._calibration(job, job.recipe.deblora.rounds)

    def source_features(self, job: Job) -> Rows:
        """Training features that the last round de-biased (rows, width)."""
        options = job.recipe.deblora
        return np.asarray(stage_features(job, source_stage(options, options.rounds), "train"))

    def _round(self, job: Job, number: int) -> AnyEncoder:
        """Cluster and move features, and train an adapter to produce them, with its detector."""
        options = job.recipe.deblora
        before, own = (round_stage(options, n) for n in (number - 1, number))
        start = job.folder.stage(before)
        detector = stage_detector(job, before)
        if detector is not None:
            detector.requires_grad_(requires_grad=True).to(job.accelerator.device)
        learnt = learn_calibrated(
            job.encoder,
            lambda: load_adapted(job.encoder, start, trainable=True),
            job.context,
            job.decisions("train"),
            self._calibration(job, number),
            np.asarray(stage_features(job, source_stage(options, number), "train")),
            options=options,
            spec=job.recipe.adapter,
            batch_size=job.recipe.train.batch_size,
            micro_batch=job.recipe.compute.micro_batch,
            stage=stage_folder(job, own, rate=self.rate_key),
            rows_of=job.task,
            detecting=None if detector is None else Detecting(detector, job.dataset),
        )
        if detector is not None:
            keep_detector(job, own, detector)
        return learnt

    def _calibration(self, job: Job, number: int) -> Calibration:
        """Stages 2 to 4 of a round.

        Deterministic and fast, so they are repeated when needed, not stored; only pulls chosen on
        validation are saved, in the round's folder.
        """
        options = job.recipe.deblora
        stage, source = round_stage(options, number), source_stage(options, number)
        chosen = job.folder.stage(stage) / "pulls.json"
        calibrated = partial(
            calibrate_features,
            options,
            names=job.counts.names,
            groups=job.groups,
            seed=job.recipe.seed,
            device=job.accelerator.device,
            validation=_validation(job, source),
            pull=typed(list[float], read_json(chosen), chosen) if chosen.is_file() else None,
        )
        rows, train = np.asarray(stage_features(job, source, "train")), job.decisions("train")
        with job.folder.costs(stage).measure("cluster and move"):
            if options.unit == "object":
                objects = objects_of(train, job.grid)
                found = calibrate_objects(rows, train.labels, objects, calibrated)
            else:
                found = calibrated(rows, train.labels)
        if options.pull == "validation" and job.folder.writes:
            write_json(chosen, (1 - found.keep).tolist())
        return found


def _validation(job: Job, source: str) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
    if job.recipe.deblora.pull != "validation":
        return None
    val = np.asarray(stage_features(job, source, "val"))
    return val, job.decisions("val").labels


def round_stage(options: DebiasOptions, number: int) -> str:
    """Name the stage of a round's adapter, from 1; round 0 is LoRA.

    Example:
        >>> [round_stage(DebiasOptions(rounds=3), number) for number in range(4)]
        ['lora', 'deblora/round-1', 'deblora/round-2', 'deblora']
    """
    if number == 0:
        return _BASE
    own = DebLoRAMethod.name
    return own if number == options.rounds else f"{own}/round-{number}"


def source_stage(options: DebiasOptions, number: int) -> str:
    """Name the stage whose features a round clusters and moves.

    Example:
        >>> [source_stage(DebiasOptions(source="pretrained", rounds=2), n) for n in (1, 2)]
        ['zero-shot', 'deblora/round-1']
    """
    if number == 1 and options.source == "pretrained":
        return _BEFORE
    return round_stage(options, number - 1)
