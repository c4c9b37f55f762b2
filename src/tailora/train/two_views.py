"""Objectives that compare two altered views of an image: SupCon, SBCL and PaCo.

Features go through a small network of their own to where they are compared, as is usual; it is
dropped afterwards, and the probe is fitted on the encoder's features: decoupled training.

Reference: Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, section 3; Hou et al.,
SBCL, ICCV 2023; Cui et al., PaCo, ICCV 2021.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora.augment.nadir import Nadir
from tailora.contrastive.feature_queue import FeatureQueue, follow_tensors
from tailora.contrastive.sbcl import SBCLLoss
from tailora.contrastive.subclasses import balanced_subclasses, class_temperatures
from tailora.contrastive.supcon import SupConLoss
from tailora.counts import ClassCounts
from tailora.features import extract
from tailora.heads.classifier_retraining import fresh_linear
from tailora.train.contrastive_options import build_contrastive
from tailora.train.objectives import Images, random_turns
from tailora.train.training_module import TrainingModule

Debiased = Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.floating]]


@dataclass(frozen=True)
class TwoViewData:
    """What the objectives are made for.

    Args:
        images: Gives square images by sample number.
        rows: Training sample numbers.
        labels: Class index of every sample (samples,), also of those not in `rows`.
        counts: Training samples per class.
        width: Of a feature.
        device: Where the encoder lies.
        seed: Of projections and clusters.
        alter: What makes a view of an image; None for `view`.
    """

    images: Images
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    counts: ClassCounts
    width: int
    device: torch.device
    seed: int
    alter: Nadir | None = None

    def view(self, images: Tensor, generator: np.random.Generator, *, jitter: float) -> Tensor:
        """Make a view of each image; `jitter` is that of `view`."""
        if self.alter is None:
            return view(images, generator, jitter=jitter)
        return self.alter(images, generator)

    def look(self, batch: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return images (rows, bands, size, size) and classes (rows,) on the device."""
        classes = torch.from_numpy(self.labels[batch]).to(self.device)
        return self.images(batch).to(self.device, non_blocking=True), classes


def view(images: Tensor, generator: np.random.Generator, *, jitter: float) -> Tensor:
    """Turn square images, and change contrast and brightness mildly.

    Args:
        images: Stored values of any real type (rows, bands, size, size).
        generator: Source of all randomness.
        jitter: Contrast about an image's mean, and that mean, are each multiplied by up to 1 plus
            or minus this; 0 leaves values alone.

    Returns:
        Float images; values may leave the range that is stored.
    """
    turned = random_turns(images, generator).float()
    if jitter == 0:
        return turned
    factors = generator.uniform(1 - jitter, 1 + jitter, size=(2, len(images), 1, 1, 1))
    contrast, brightness = torch.from_numpy(factors).to(turned)
    mean = turned.mean(dim=(-2, -1), keepdim=True)
    return (turned - mean) * contrast + mean * brightness


def supcon_training(
    encoder: nn.Module, data: TwoViewData, options: Mapping[str, Any]
) -> TrainingModule:
    """Learn classes by comparing two views of each image with all others of the batch."""
    loss = build_contrastive("supcon", options, data.counts).to(data.device)
    parts = _parts(encoder, data, options)
    compared = _compare(parts, data, options)

    def objective(batch: NDArray[np.int64], generator: np.random.Generator) -> Tensor:
        return loss(*compared(batch, generator))

    return TrainingModule(parts, objective)


@final
class Subclasses(nn.Module):
    """Which subclass a sample is in, and how loose its class is; kept by a checkpoint.

    Args:
        samples: Number of samples, also of those that are not learnt from.
        classes: Number of classes.
    """

    of_sample: Tensor
    temperatures: Tensor

    def __init__(self, samples: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("of_sample", torch.zeros(samples, dtype=torch.long))
        self.register_buffer("temperatures", torch.ones(classes))

    def divide(
        self, features: NDArray[np.float32], data: TwoViewData, options: Mapping[str, Any]
    ) -> None:
        """Cluster the classes anew by `features` (rows, width) of the training rows."""
        labels, minimum = data.labels[data.rows], options["minimum"]
        parts = balanced_subclasses(features, labels, data.counts, minimum=minimum, seed=data.seed)
        loose = class_temperatures(
            features,
            labels,
            data.counts,
            temperature=options["temperature"],
            minimum=minimum,
            percentile=options["percentile"],
        )
        rows = torch.from_numpy(data.rows).to(self.of_sample.device)
        self.of_sample[rows] = torch.from_numpy(parts).to(self.of_sample)
        self.temperatures.copy_(torch.from_numpy(loose))


def sbcl_training(
    encoder: nn.Module, data: TwoViewData, options: Mapping[str, Any]
) -> TrainingModule:
    """Learn by SupCon first, then compare subclasses that are clustered anew every few epochs."""
    plain = SupConLoss(temperature=options["temperature"])
    loss: SBCLLoss = build_contrastive("sbcl", options, data.counts)
    parts = _parts(encoder, data, options)
    divided = Subclasses(len(data.labels), len(data.counts.names)).to(data.device)
    parts["subclasses"] = divided
    compared = _compare(parts, data, options)
    begun = 0

    def start_epoch(epoch: int) -> None:
        nonlocal begun
        begun = epoch
        since = epoch - options["warmup"]
        if since >= 0 and since % options["every"] == 0:
            whole = nn.Sequential(parts["encoder"], parts["projection"])
            found = extract(whole, data.images, data.rows, device=data.device)
            divided.divide(found, data, options)

    def objective(batch: NDArray[np.int64], generator: np.random.Generator) -> Tensor:
        features, classes = compared(batch, generator)
        if begun < options["warmup"]:
            return plain(features, classes)
        parts_of_batch = divided.of_sample[torch.from_numpy(batch).to(data.device)]
        return loss(features, classes, parts_of_batch, divided.temperatures)

    def validation_loss(batch: NDArray[np.int64], generator: np.random.Generator) -> Tensor:
        return plain(*compared(batch, generator))  # only training rows are in a subclass

    return TrainingModule(parts, objective, start_epoch, validation_loss=validation_loss)


@final
class Follower(nn.Module):
    """The same network with weights that follow slowly (MoCo's key encoder), without a copy of it.

    Only what is trained has a second value; it is a buffer, so that a checkpoint keeps it.

    Args:
        fast: The network that is trained.
    """

    def __init__(self, fast: nn.Module) -> None:
        super().__init__()
        self.names = [name for name, p in fast.named_parameters() if p.requires_grad]
        for place, tensor in enumerate(self._of(fast)):
            self.register_buffer(f"slow_{place}", tensor.detach().clone())

    def follow(self, fast: nn.Module, *, momentum: float) -> None:
        """Move towards `fast`; `momentum` is the share that stays."""
        follow_tensors(self.buffers(), self._of(fast), momentum=momentum)

    @torch.no_grad()
    def look(self, fast: nn.Module, images: Tensor) -> Tensor:
        """Run `fast` with the slow weights: features (rows, width)."""
        slow = dict(zip(self.names, self.buffers(), strict=True))
        return torch.func.functional_call(fast, slow, (images,))

    def _of(self, fast: nn.Module) -> list[Tensor]:
        learning = dict(fast.named_parameters())
        return [learning[name] for name in self.names]


@final
class Prototypes(nn.Module):
    """De-biased centres of some classes among PaCo's keys; kept by a checkpoint.

    Args:
        classes: Their class indices.
        copies: How often each stands among the keys.
        width: Of a key.
    """

    keys: Tensor
    targets: Tensor

    def __init__(self, classes: Sequence[int], copies: int, width: int) -> None:
        super().__init__()
        self.classes, self.copies = list(classes), copies
        self.register_buffer("keys", torch.zeros(len(classes) * copies, width))
        self.register_buffer("targets", torch.tensor(self.classes * copies))

    def place(self, centers: NDArray[np.floating]) -> None:
        """Take the centres of all classes (classes, width)."""
        chosen = torch.from_numpy(centers[self.classes]).to(self.keys)
        self.keys.copy_(chosen.repeat(self.copies, 1))


def paco_training(
    encoder: nn.Module,
    data: TwoViewData,
    options: Mapping[str, Any],
    centers: nn.Linear,
    *,
    tail: Sequence[int] = (),
    debiased: Debiased | None = None,
) -> TrainingModule:
    """Learn class centres that compete with rows of a slowly following encoder and a queue.

    Args:
        encoder: As adapted.
        data: Images and labels.
        options: From `read_options`.
        centers: Start of the class centres, (batch, features) to (batch, classes).
        tail: Classes whose de-biased centres are keys too, as often as the option `prototypes`.
        debiased: Gives de-biased centres (classes, width) of training rows (rows, width) and their
            class indices (rows,); called every epoch with the slow encoder's features.
    """
    loss = build_contrastive("paco", options, data.counts).to(data.device)
    parts = _parts(encoder, data, options)
    whole = nn.Sequential(parts["encoder"], parts["projection"])
    slow = Follower(whole)
    queue = FeatureQueue(options["queue"], options["projection"]).to(data.device)
    parts.update({"centers": centers.to(data.device), "slow": slow, "queue": queue})
    prototypes = Prototypes(tail, options["prototypes"], options["projection"]).to(data.device)
    if debiased is not None:
        parts["prototypes"] = prototypes

    def start_epoch(_: int) -> None:
        if debiased is not None:
            look = partial(slow.look, whole)
            found = extract(whole, data.images, data.rows, device=data.device, model=look)
            directions = found / np.linalg.norm(found, axis=1, keepdims=True).clip(min=1e-12)
            prototypes.place(debiased(directions, data.labels[data.rows]))

    def objective(batch: NDArray[np.int64], generator: np.random.Generator) -> Tensor:
        images, classes = data.look(batch)
        slow.follow(whole, momentum=options["momentum"])
        first = data.view(images, generator, jitter=options["jitter"])
        keys = slow.look(whole, data.view(images, generator, jitter=options["jitter"]))
        features = parts["encoder"](first)
        value = loss(
            parts["centers"](features),
            parts["projection"](features),
            classes,
            torch.cat([keys, queue.features(), prototypes.keys]),
            torch.cat([classes, queue.targets(), prototypes.targets]),
        )
        queue.push(keys, classes)
        return value

    def predict(batch: NDArray[np.int64]) -> Tensor:
        images, _ = data.look(batch)
        return parts["centers"](parts["encoder"](images)).argmax(dim=1)

    return TrainingModule(parts, objective, start_epoch, predict=predict)


_HIDDEN_SEED: Final = 1


def _parts(encoder: nn.Module, data: TwoViewData, options: Mapping[str, Any]) -> nn.ModuleDict:
    """Put a projection of two layers beside the encoder."""
    projection = nn.Sequential(
        fresh_linear(data.width, data.width, seed=data.seed),
        nn.ReLU(),
        fresh_linear(data.width, options["projection"], seed=data.seed + _HIDDEN_SEED),
    )
    return nn.ModuleDict({"encoder": encoder, "projection": projection.to(data.device)})


def _compare(
    parts: nn.ModuleDict, data: TwoViewData, options: Mapping[str, Any]
) -> Callable[[NDArray[np.int64], np.random.Generator], tuple[Tensor, Tensor]]:
    """Return projected features of two views (rows, 2, width) and classes (rows,) of a batch."""

    def compared(batch: NDArray[np.int64], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        images, classes = data.look(batch)
        views = [data.view(images, generator, jitter=options["jitter"]) for _ in range(2)]
        features = parts["projection"](parts["encoder"](torch.cat(views)))
        return features.unflatten(0, (2, len(batch))).transpose(0, 1), classes

    return compared
