"""debLoRA: an adapter that makes an encoder's features fairer to rare classes.

Cluster features without labels, move tail features towards a centre rebuilt from shared clusters,
train a new adapter to produce the moved features. At test time there is one encoder, one adapter
and a linear head: no clusters and no labels.

Reference: Tian, Chen, Sun, "Learning De-Biased Representations for Remote-Sensing Imagery",
NeurIPS 2024, arXiv 2410.04546, Algorithm 1.
"""

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, final

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora.adapters import AdapterSpec
from tailora.backbones import Encoder, ModuleEncoder
from tailora.config.deblora_options import DebiasOptions, no_validation
from tailora.config.recipe import AUTO, Recipe, TrainOptions
from tailora.counts import ClassCounts, Groups, make_groups
from tailora.decisions import labelled
from tailora.errors import BackboneError, ConfigError, DataError
from tailora.features import extract
from tailora.heads.linear_probe import L2_GRID, fit_linear_probe
from tailora.losses import LogitAdjustedLoss
from tailora.methods.auto_training import with_training
from tailora.methods.deblora.calibrate import Calibration
from tailora.methods.deblora.chosen_pull import Validation
from tailora.methods.deblora.stages import calibrate_features, learn_calibrated
from tailora.methods.training_parts import training_augmentation, training_optimizer
from tailora.metrics.confusion import present_macro_f1
from tailora.progress import Progress, silent
from tailora.train.base_adaptation import AnyEncoder, TrainingContext, adapt_to_labels
from tailora.train.objectives import Images, of_images
from tailora.train.schedule import Schedule

_USUAL_L2: Final = 1e-2


@final
@dataclass(frozen=True, kw_only=True)
class DebLoRA(DebiasOptions):
    """The method as one object: options in, adapted encoder out.

    Args:
        tuner: Any PEFT tuner by name, for the base adapter and the new one.
        rank: Rank of the adapter; None is 8 for tuners that have one.
        targets: Suffixes of the layer names to adapt; empty selects them automatically.
        tuner_options: Passed to the tuner's PEFT configuration.

    The other options are those of `DebiasOptions`.

    Example:
        >>> DebLoRA(rank=4, clusters=16, pull=0.5).clusters
        16
    """

    tuner: str = "lora"
    rank: int | None = None
    targets: list[str] = field(default_factory=list)
    tuner_options: dict[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> AdapterSpec:
        """Options of the adapter."""
        return AdapterSpec(self.tuner, self.rank, self.targets, self.tuner_options)

    @property
    def options(self) -> DebiasOptions:
        """Options of the de-biasing."""
        names = [item.name for item in dataclasses.fields(DebiasOptions)]
        return DebiasOptions(**{name: getattr(self, name) for name in names})

    def fit(
        self,
        encoder: nn.Module,
        images: Tensor,
        labels: NDArray[np.int64],
        *,
        base_epochs: int = 3,
        base_lr: float = 1e-3,
        batch_size: int = 32,
        optimizer: str = AUTO,
        augment: str = AUTO,
        groups: Groups | None = None,
        validation: tuple[Tensor, NDArray[np.int64]] | None = None,
        l2: Sequence[float] = L2_GRID,
        seed: int = 0,
        progress: Progress = silent,
        accelerator: Accelerator | None = None,
    ) -> "DebLoRAResult":
        """Run stages 0-6 on images in memory.

        `tailora.fit` gives the same result to the bit, and adds files, splits, resuming and
        evaluation.

        Args:
            encoder: Maps (batch, bands, height, width) to (batch, features) and has layers PEFT can
                adapt; not changed.
            images: (rows, bands, height, width), training samples only.
            labels: (rows,) class indices from 0; a class's name is its index as text.
            base_epochs: Epochs of the base adapter, which is trained on labels.
            base_lr: Its peak learning rate.
            batch_size: Images per step.
            optimizer: Of the base adapter: `"adamw"` or `"muon"`; `"auto"` is Muon for LoRA.
            augment: Augmentation of the base adapter: `"nadir"` or `"dihedral"` (square images), or
                `"none"`; `"auto"` is `"nadir"` for LoRA, else `"dihedral"`.
            groups: Head, middle and tail; None takes thirds of the classes.
            validation: Images and labels of held-out samples, for the head's penalty and
                `pull="validation"`.
            l2: Candidate penalties of the head, chosen by macro-F1 on validation; without
                validation it is 0.01.
            seed: Seeds everything.
            progress: Shows progress.
            accelerator: Device and precision; None lets Accelerate choose.

        Raises:
            DataError: Images and labels disagree in number, or a class has no sample.
            ConfigError: An option does not fit the encoder or the data.
            BackboneError: The encoder does not return (batch, features).
        """
        train = TrainOptions(optimizer=optimizer, augment=augment)
        recipe = with_training(Recipe("deblora", adapter=self.spec, train=train))
        counts = self._check(images, np.asarray(labels), recipe.train.augment)
        if self.unit == "object":
            raise ConfigError(
                "unit='object' needs classes of pixels, and these images have one label each: "
                "leave it out"
            )
        if self.pull == "validation" and (validation is None or not len(validation[1])):
            raise no_validation()
        accelerator = accelerator or Accelerator()
        plain = _as_encoder(encoder, images[:1].to(accelerator.device))
        work = _Work(
            method=dataclasses.replace(self, rank=recipe.adapter.rank),
            encoder=plain,
            context=TrainingContext(_reader(images), accelerator, progress, seed),
            labels=np.asarray(labels, dtype=np.int64),
            counts=counts,
            batch_size=batch_size,
            groups=make_groups(counts) if groups is None else groups,
            validation=validation,
            l2=tuple(l2),
        )
        base = work.base(Schedule(base_epochs, batch_size, base_lr), recipe)
        adapted, found = work.round(base, base if self.source == "adapted" else plain)
        for _ in range(1, self.rounds):
            adapted, found = work.round(adapted, adapted)
        return DebLoRAResult(adapted, work.head(adapted, found), found, base)

    def _check(self, images: Tensor, labels: NDArray[np.int64], augment: str) -> ClassCounts:
        if len(images) != len(labels) or not len(labels):
            raise DataError(f"{len(images)} images but {len(labels)} labels; give each image one")
        if self.clusters > len(labels):
            raise ConfigError(f"{self.clusters} clusters need as many images, got {len(labels)}")
        shape = tuple(images.shape)
        if augment != "none" and (len(shape) != 4 or shape[2] != shape[3]):
            raise ConfigError(
                f"augment {augment!r} rotates square images (rows, bands, size, size), got "
                f"{shape}; choose 'none'"
            )
        classes = range(max(int(labels.max()) + 1, 0))
        return ClassCounts.from_labels(labels, names=[str(c) for c in classes])


def _reader(images: Tensor) -> Images:
    return lambda rows: images[torch.from_numpy(rows)]


def _as_encoder(encoder: nn.Module, image: Tensor) -> AnyEncoder:
    if isinstance(encoder, Encoder | ModuleEncoder):
        return encoder
    with torch.inference_mode():  # on a copy, since a forward pass may change its buffers
        output = copy.deepcopy(encoder).eval().to(image.device)(image)
    if not isinstance(output, Tensor) or output.ndim != 2:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise BackboneError(
            f"the encoder returned {got!r} where (batch, features) was expected; return one "
            "feature vector per image"
        )
    return ModuleEncoder(encoder, features=output.shape[1])


@final
@dataclass(frozen=True)
class DebLoRAResult:
    """Result of `DebLoRA.fit`.

    Attributes:
        encoder: The de-biased encoder; `encoder.backbone` is the `peft.PeftModel` to save.
        head: Linear head on its features, (batch, features) to (batch, classes).
        calibration: Clusters, centres and moved features of the last round.
        base: The label-trained encoder that was de-biased.
    """

    encoder: AnyEncoder
    head: nn.Linear
    calibration: Calibration
    base: AnyEncoder


@dataclass(frozen=True)
class _Work:
    """The stages on data in memory."""

    method: DebLoRA
    encoder: AnyEncoder
    context: TrainingContext
    labels: NDArray[np.int64]
    counts: ClassCounts
    batch_size: int
    groups: Groups
    validation: tuple[Tensor, NDArray[np.int64]] | None
    l2: tuple[float, ...]

    @property
    def rows(self) -> NDArray[np.int64]:
        return np.arange(len(self.labels))

    def base(self, schedule: Schedule, recipe: Recipe) -> AnyEncoder:
        return adapt_to_labels(
            self.encoder,
            self.context,
            self.rows,
            self.labels,
            spec=self.method.spec,
            schedule=schedule,
            loss=nn.CrossEntropyLoss(),
            head=self.probe(self.encoder, self.features(self.encoder), self.labels),
            augment=of_images(training_augmentation(recipe)),
            optimizer=training_optimizer(recipe.train),
        )

    def features(self, encoder: AnyEncoder, images: Tensor | None = None) -> NDArray[np.float32]:
        """Features of the training images, or of others."""
        device = self.context.accelerator.device
        return extract(
            encoder.to(device),
            self.context.images if images is None else _reader(images),
            self.rows if images is None else np.arange(len(images)),
            device=device,
            progress=self.context.progress,
        )

    def round(self, start: AnyEncoder, space: AnyEncoder) -> tuple[AnyEncoder, Calibration]:
        """Stages 1-5: de-bias the features of `space`; train `start` further, or a new adapter."""
        source = self.features(space)
        found = calibrate_features(
            self.method,
            source,
            self.labels,
            names=self.counts.names,
            groups=self.groups,
            seed=self.context.seed,
            device=self.context.accelerator.device,
            validation=self._validation(space),
        )
        adapted = learn_calibrated(
            self.encoder,
            lambda: copy.deepcopy(start),
            self.context,
            labelled(self.rows, self.labels),
            found,
            source,
            options=self.method,
            spec=self.method.spec,
            batch_size=self.batch_size,
        )
        return adapted, found

    def _validation(self, space: AnyEncoder) -> Validation | None:
        return self._seen(space) if self.method.pull == "validation" else None

    def _seen(self, encoder: AnyEncoder) -> Validation | None:
        """Features and labels of the validation images, if there are any."""
        if self.validation is None or not len(self.validation[1]):
            return None
        images, labels = self.validation
        return self.features(encoder, images), np.asarray(labels, dtype=np.int64)

    def head(self, encoder: AnyEncoder, found: Calibration) -> nn.Linear:
        """Stage 6: fit the head on features, on their targets, or on both."""
        parts = []
        if self.method.head != "targets":
            parts.append(self.features(encoder))
        if self.method.head != "features":
            parts.append(found.features.astype(np.float32))
        return self.probe(encoder, np.concatenate(parts), np.tile(self.labels, len(parts)))

    def probe(
        self, encoder: AnyEncoder, features: NDArray[np.float32], labels: NDArray[np.int64]
    ) -> nn.Linear:
        """Fit a linear head on features; its penalty is chosen on validation."""
        classes, validation = len(self.counts.names), self._seen(encoder)
        return fit_linear_probe(
            features,
            labels,
            loss=LogitAdjustedLoss(self.counts),
            num_classes=classes,
            l2=_USUAL_L2 if validation is None else self.l2,
            validation=validation,
            score=partial(present_macro_f1, num_classes=classes),
        ).linear
