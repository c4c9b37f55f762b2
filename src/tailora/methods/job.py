"""A job: everything a run needs, checked before anything is trained or replaced."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora import registry
from tailora.backbones import Encoder, LoadedBackbone
from tailora.backbones.stages import Stage
from tailora.config.recipe import BackboneOptions, ProbeOptions, Recipe, TrainOptions
from tailora.counts import ClassCounts, Groups
from tailora.data import Dataset, PreparedImages
from tailora.decisions import Decisions
from tailora.errors import ConfigError
from tailora.progress import Progress
from tailora.runs.folder import RunFolder
from tailora.runs.input_format import InputFormat
from tailora.runs.run import seen_by_heads
from tailora.tasks.task import Task
from tailora.train.base_adaptation import AnyEncoder, TrainingContext
from tailora.train.callbacks import Callback
from tailora.train.schedule import Schedule


def build_loss(section: TrainOptions | ProbeOptions, counts: ClassCounts) -> nn.Module:
    """Build the loss of a recipe section.

    Raises:
        ConfigError: The loss or an option is unknown.
    """
    loss = registry.find("losses", section.loss)
    return registry.build(loss, {"counts": counts}, section.loss_options)


@dataclass(frozen=True)
class Job:
    """A run that is ready to start: task, data, images, encoder, groups and resolved recipe.

    `fingerprint` is that of the dataset as given, including broken images.
    """

    recipe: Recipe
    task: Task
    dataset: Dataset
    fingerprint: str
    images: PreparedImages
    input: InputFormat
    loaded: LoadedBackbone
    encoder: Encoder
    counts: ClassCounts
    groups: Groups
    folder: RunFolder
    accelerator: Accelerator
    progress: Progress
    callbacks: tuple[Callback, ...] = ()

    def read_batch(self, rows: NDArray[np.int64]) -> Tensor:
        """Stored values of samples, by number, in the chosen bands (rows, bands, size, size)."""
        return self.input.select(self.images.batch(rows))

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class index of every image (images,): the rarest class in it, -1 if unlabelled."""
        return self.dataset.labels

    @property
    def head_encoder(self) -> AnyEncoder:
        """The pretrained encoder with what heads see."""
        return seen_by_heads(self.encoder, self.recipe)

    @cached_property
    def grid(self) -> tuple[int, ...]:
        """Shape of the decisions about one image; () if there is one."""
        if self.task.per_image:
            return ()
        return self.task.grid(self.encoder, self.input.image_size)

    @cached_property
    def stages(self) -> Sequence[Stage]:
        """Maps of the encoder that a detector sees beside its features; none as usual."""
        return self.task.stages(self.encoder, self.input.image_size)

    @cached_property
    def targets(self) -> NDArray[np.integer]:
        """Class index of every decision (images, *grid), negative if unlabelled."""
        return self.task.targets(self.dataset, self.grid, fit=self.recipe.data.resize)

    def held(self, samples: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Which classes the decisions about each image hold (samples, classes); None with one each.

        Args:
            samples: Numbers of images with some labelled decision.
        """
        if self.task.per_image:
            return None
        if self.recipe.train.recut:  # a pixel that is no token's will be the centre of one
            return self.task.held(self.dataset, samples, self.recipe.data.resize)
        found = self.targets[samples].reshape(len(samples), -1)
        return np.stack([(found == c).any(axis=1) for c in range(len(self.counts.names))], axis=1)

    def decisions(self, split: str) -> Decisions:
        """Labelled decisions of a split: the rows of features, heads and metrics."""
        samples = self.dataset.indices(split)
        return self.task.decisions(self.dataset, samples, self.targets[samples])

    def units(self, split: str) -> NDArray[Any] | None:
        """What the bootstrap resamples (rows,): groups, or images with several decisions.

        None to resample single decisions.
        """
        sample = self.decisions(split).sample
        if self.dataset.groups is not None:
            return self.dataset.groups[sample]
        return None if self.task.per_image else sample

    @property
    def context(self) -> TrainingContext:
        """Images, device, progress, seed and callbacks for training stages."""
        return TrainingContext(
            self.read_batch,
            self.accelerator,
            self.progress,
            self.recipe.seed,
            compiled=self.recipe.compute.compile,
            name=lambda row: self.dataset.ids()[row],
            callbacks=self.callbacks,
        )

    @property
    def schedule(self) -> Schedule:
        """Schedule of stage 0, or of fine-tuning."""
        train = self.recipe.train
        if train.lr is None:
            raise ConfigError("train.lr is not resolved yet")
        return Schedule(
            train.epochs,
            train.batch_size,
            train.lr,
            train.weight_decay,
            micro_batch=self.recipe.compute.micro_batch,
            ema=train.ema,
        )

    def loss(self, section: TrainOptions | ProbeOptions) -> nn.Module:
        """Build the loss of a recipe section for the training counts."""
        return build_loss(section, self.counts)

    def _input_facts(self) -> dict[str, Any]:
        """The input format without what changes no pixel: names, and wavelengths without a stem."""
        known = self.input.wavelengths if self.recipe.backbone.stem else None
        return replace(self.input, names=None, wavelengths=known).to_json()

    def feature_manifest(
        self,
        split: str,
        weights: str,
        grid: tuple[int, ...] = (),
        views: int = 1,
        layers: Sequence[int] = (),
        detail: str = "none",
    ) -> dict[str, Any]:
        """Everything that determines the features of a split: the key of a feature bank.

        Args:
            split: `"train"`, `"val"` or `"test"`.
            weights: Fingerprint of the trained weights.
            grid: Shape of the decisions about one image; () for features of images.
            views: Number of views that features are averaged over.
            layers: Layers that heads see, if others than the encoder was trained through.
            detail: See `ProbeOptions.detail`.
        """
        return {
            "dataset": self.dataset.fingerprint,
            "split": split,
            "rows": len(self.dataset.indices(split)),
            "backbone": self.loaded.sha256,
            "weights": weights,
            "pooling": self.recipe.backbone.pooling,
            # the weights count, not their path; defaults are left out, so that features stored
            # before an option existed are still found
            **{
                name: value
                for name, value in asdict(self.recipe.backbone).items()
                if name not in ("name", "pooling") and value != getattr(BackboneOptions(), name)
            },
            "input": self._input_facts(),
            "device": self.accelerator.device.type,
            **({} if (p := self.recipe.compute.precision) == "fp32" else {"precision": p}),
            **({"task": self.task.name, "grid": list(grid)} if grid else {}),
            **({"views": views} if views > 1 else {}),
            **({"head layers": list(layers)} if layers else {}),
            **({"detail": detail} if detail != "none" else {}),
            **({"stages": [asdict(one) for one in self.stages]} if grid and self.stages else {}),
        }
