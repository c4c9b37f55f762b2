"""What is minimised: labels for the base adaptation, moved features for debLoRA."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tailora import processes
from tailora.augment.moved_objects import ImageObjects, MovedObjects, Stock, stock_of
from tailora.augment.nadir import Nadir
from tailora.augment.recut import DRAWS
from tailora.augment.speckle import speckle_factors
from tailora.backbones import AnyEncoder
from tailora.backbones.decibels import Decibels
from tailora.backbones.symmetries import VIEWS, dihedral
from tailora.data import Dataset
from tailora.decisions import Decisions
from tailora.errors import ConfigError, unknown_name
from tailora.experts.aggregation import combination
from tailora.features.rows import row_features
from tailora.losses.parts import note_part
from tailora.train.image_history import ImageHistory
from tailora.train.mixing import Mixing
from tailora.train.phases import LossOfEpoch
from tailora.train.recutting import Recutting
from tailora.train.training_module import Joint, Objective, TrainingModule, gathering

Images = Callable[[NDArray[np.int64]], Tensor]
AUGMENTATIONS = ("dihedral", "none", "speckle", "dihedral+speckle")


class RowsOf(Protocol):
    """How a batch becomes rows; a `tailora.tasks.Task` says it."""

    def model(self, encoder: AnyEncoder) -> Callable[[Tensor], Tensor]:
        """Give what turns images into features (batch, *grid, features)."""
        ...

    def turned(self, targets: Tensor, turns: NDArray[np.integer]) -> Tensor:
        """Move targets (batch, *grid) as their images were turned."""
        ...

    def extra_losses(
        self, features: Tensor, logits: Tensor, targets: Tensor
    ) -> Mapping[str, Tensor]:
        """Losses beside that of the rows, by name."""
        ...

    def objects(
        self,
        data: Dataset,
        samples: NDArray[np.int64],
        size: int,
        turns: NDArray[np.integer] | None = None,
    ) -> Sequence[ImageObjects]:
        """Objects of images of `size` pixels, turned with them."""
        ...

    def object_rows(
        self, features: Tensor, objects: Sequence[ImageObjects], size: int
    ) -> tuple[Tensor, Tensor]:
        """Features (rows, features) and class (rows,) of the objects of images that count."""
        ...

    def object_losses(
        self, detector: nn.Module, features: Tensor, objects: Sequence[ImageObjects]
    ) -> Mapping[str, Tensor]:
        """Losses of what is trained beside the head on images with these objects, by name."""
        ...

    def detector_losses(
        self,
        detector: nn.Module,
        features: Tensor,
        data: Dataset,
        samples: NDArray[np.int64],
        turns: NDArray[np.integer] | None,
    ) -> Mapping[str, Tensor]:
        """Losses of what is trained beside the head, by name."""
        ...


@dataclass(frozen=True)
class Detecting:
    """A detector that learns with the adapter.

    Args:
        detector: Of the task.
        data: The annotations it learns from.
    """

    detector: nn.Module
    data: Dataset

    def losses(
        self,
        rows_of: RowsOf,
        features: Tensor,
        samples: NDArray[np.int64],
        turns: NDArray[np.integer] | None = None,
        objects: Sequence[ImageObjects] | None = None,
    ) -> Mapping[str, Tensor]:
        """Losses by name of the features of some images: turned, with moved objects, or as is."""
        if objects is not None:
            return rows_of.object_losses(self.detector, features, objects)
        return rows_of.detector_losses(self.detector, features, self.data, samples, turns)


@dataclass(frozen=True)
class Moving:
    """Images with objects that augmentation moves.

    Args:
        how: What is done.
        rows_of: The task.
        data: The annotations.
        images: Gives images by sample number.
    """

    how: MovedObjects
    rows_of: RowsOf
    data: Dataset
    images: Images

    def look(
        self, batch: NDArray[np.int64], generator: np.random.Generator
    ) -> tuple[Tensor, list[ImageObjects]]:
        """Augmented images of a batch (batch, bands, size, size) and where their objects are."""
        pixels = self.images(batch)
        own = self.rows_of.objects(self.data, batch, pixels.shape[-1])
        stock = self._stock if self.how.paste else None
        return self.how(pixels, own, generator, stock)

    @cached_property
    def _stock(self) -> Stock | None:
        """Objects of the training images that no border cuts, to be pasted; None without any."""
        samples = self.data.indices("train")
        size = self.images(samples[:1]).shape[-1]
        return stock_of(self.images, samples, self.rows_of.objects(self.data, samples, size))


def row_objective(
    encoder: AnyEncoder,
    head: nn.Module,
    images: Images,
    targets: NDArray[np.integer],
    *,
    rows_of: RowsOf,
    loss: nn.Module,
    augment: str | MovedObjects,
    device: torch.device,
    detecting: Detecting | None = None,
    recutting: Recutting | None = None,
) -> Objective:
    """Loss of all labelled decisions of a batch of images, each weighing the same.

    Args:
        encoder: The adapted encoder.
        head: (rows, features) to (rows, classes), or to (experts, rows, classes).
        images: Gives images by sample number.
        targets: Class index of every decision (samples, *grid), negative without a label; with
            `detecting` the objects of the images decide.
        rows_of: The task.
        loss: Takes logits and targets of rows.
        augment: See `label_objective`; targets are turned with their images, or move with their
            objects.
        device: Where encoder and head lie.
        detecting: What learns beside the head, also from images without a labelled decision.
        recutting: How windows are re-cut before they are turned.

    Raises:
        ConfigError: See `label_objective`.
    """
    look = _looks(encoder, images, rows_of, augment, device, detecting, recutting)
    model = rows_of.model(encoder)

    def objective(batch: NDArray[np.int64], generator: np.random.Generator) -> Tensor:
        seen = look(batch, generator)
        features, turns, objects = model(seen.pixels), seen.turns, seen.objects
        more: dict[str, Tensor] = {}
        if detecting is None:
            known = targets[batch] if seen.targets is None else seen.targets
            wanted = torch.from_numpy(known.astype(np.int64)).to(device)
            wanted = wanted if turns is None else rows_of.turned(wanted, turns)
            labels = wanted[wanted >= 0]
            logits = head(features[wanted >= 0]) if len(labels) else None
            if logits is not None:
                more |= rows_of.extra_losses(features, logits, wanted)
        else:
            size = seen.pixels.shape[-1]
            if objects is None:
                objects = rows_of.objects(detecting.data, batch, size, turns)
            seen = features[..., : encoder.features]  # without what a detector alone sees
            pooled, labels = rows_of.object_rows(seen, objects, size)
            logits = head(pooled) if len(labels) else None
            more |= detecting.losses(rows_of, features, batch, turns, objects)
        # without any label every parameter still expects a gradient
        rows = features.sum() * 0 if logits is None else loss(logits, labels)
        rows = rows * _part_of_all(len(labels), device)
        return _summed("decisions", rows, more) if more else rows

    return Joint(objective)


def _part_of_all(count: int, device: torch.device) -> Tensor:
    """What the mean over this process's rows counts beside those of others; 1 if it is alone."""
    own = torch.tensor(float(count), device=device)
    return own / processes.of_all(own, least=1.0)


@dataclass(frozen=True)
class _Look:
    """What is learnt from a batch.

    Args:
        pixels: Images (batch, bands, size, size).
        turns: How each was turned; None where none was.
        objects: Where moved objects are; None where none moved.
        targets: Classes of re-cut windows, before they are turned; None for those they always have.
    """

    pixels: Tensor
    turns: NDArray[np.integer] | None = None
    objects: list[ImageObjects] | None = None
    targets: NDArray[np.integer] | None = None


def _looks(
    encoder: AnyEncoder,
    images: Images,
    rows_of: RowsOf,
    augment: str | MovedObjects,
    device: torch.device,
    detecting: Detecting | None,
    recutting: Recutting | None = None,
) -> Callable[[NDArray[np.int64], np.random.Generator], _Look]:
    """Give what shows a batch."""
    if isinstance(augment, MovedObjects):
        if detecting is None:
            raise ConfigError("this augmentation moves objects, and nothing learns from them")
        moving = Moving(augment, rows_of, detecting.data, images)

        def moved(batch: NDArray[np.int64], generator: np.random.Generator) -> _Look:
            pixels, objects = moving.look(batch, generator)
            return _Look(pixels.to(device, non_blocking=True), objects=objects)

        return moved
    alter = augmentation(augment, getattr(encoder, "radar", None))

    def turned(batch: NDArray[np.int64], generator: np.random.Generator) -> _Look:
        pixels, targets, turns = images(batch).to(device, non_blocking=True), None, None
        if recutting is not None and recutting.chances is not None:
            # all draws of an image together, so that a batch may be drawn in parts
            draws = generator.random((len(batch), DRAWS + 1))
            pixels, targets = recutting(batch, pixels, draws[:, :DRAWS])
            turns = (draws[:, DRAWS] * VIEWS).astype(np.int64)
        if alter is not None:
            pixels, turns = alter.with_turns(pixels, generator, turns)
        return _Look(pixels, None if alter is None else turns, targets=targets)

    return turned


def _summed(name: str, first: Tensor, more: Mapping[str, Tensor]) -> Tensor:
    """Add losses up, and note each as a part."""
    total = first
    for other, part in more.items():
        total = total + part
        note_part(other, part)
    note_part(name, first)
    return total


def label_objective(
    encoder: nn.Module,
    head: nn.Module,
    images: Images,
    targets: Tensor,
    *,
    loss: nn.Module,
    augment: str | Nadir,
    device: torch.device,
    mixing: Mixing | None = None,
    history: ImageHistory | None = None,
) -> Objective:
    """Classification: loss of the head's logits on the encoder's features.

    Args:
        encoder: (batch, bands, height, width) to (batch, features).
        head: (batch, features) to (batch, classes), or to (experts, batch, classes).
        images: Gives images by sample number.
        targets: Class index of every sample (samples,), on `device`.
        loss: Takes logits and targets.
        augment: `"dihedral"` (the eight flips and quarter turns, all equally likely: imagery seen
            from above has no up), `"speckle"` (radar noise in linear power), `"dihedral+speckle"`
            or `"none"`; or a `Nadir`.
        device: Where encoder and head lie.
        mixing: Mixes images and shares labels, in the epochs it is active; alters by itself.
        history: Told what each image that is not mixed shows; its head is a linear layer.

    Raises:
        ConfigError: Unknown augmentation, or speckle for images that are not radar's.
    """
    alter = (
        augment
        if isinstance(augment, Nadir)
        else augmentation(augment, getattr(encoder, "radar", None))
    )

    def look(batch: NDArray[np.int64]) -> Tensor:
        return images(batch).to(device, non_blocking=True)

    def objective(batch: NDArray[np.int64], generator: np.random.Generator) -> Tensor:
        if mixing is not None and mixing.active:
            mixed = mixing(batch, look, generator)
            current = loss.current if isinstance(loss, LossOfEpoch) else loss
            return mixing.loss(current, head(encoder(mixed.images)), mixed)
        pixels = look(batch)
        if alter is not None:
            pixels = alter(pixels, generator)
        features, labels = encoder(pixels), targets[torch.from_numpy(batch).to(device)]
        logits = head(features)
        if history is not None:
            history.note(batch, features, logits, labels)
        return loss(logits, labels)

    return objective


def label_training(
    encoder: AnyEncoder,
    head: nn.Module,
    images: Images,
    targets: NDArray[np.integer],
    *,
    loss: nn.Module,
    augment: str | Nadir | MovedObjects,
    device: torch.device,
    mixing: Mixing | None = None,
    rows_of: RowsOf | None = None,
    detecting: Detecting | None = None,
    recutting: Recutting | None = None,
    remember: bool = False,
) -> TrainingModule:
    """Let encoder and head learn by `label_objective`, loss and mixing by the epoch.

    With `rows_of` by `row_objective`, which takes no mixing, with a detector beside the head and
    re-cut windows if asked for; validation is on windows as they are. Without it `remember` keeps a
    history of images, if the head is a linear layer.

    Raises:
        ConfigError: A `Nadir` with `rows_of`: its crops would move decisions; or objects that move
            without it.
    """
    head.requires_grad_(requires_grad=True)

    def start_epoch(epoch: int) -> None:
        for part in (loss, mixing, recutting):
            if isinstance(part, LossOfEpoch | Mixing | Recutting):
                part.start_epoch(epoch)

    detector = None if detecting is None else detecting.detector
    module = _learning(encoder, head, detector, loss)
    linear = head if type(head) is nn.Linear else None
    if rows_of is not None:
        turning = _of_rows(augment)

        def by_rows(augment: str | MovedObjects, recutting: Recutting | None = None) -> Objective:
            return row_objective(
                encoder, head, images, targets, rows_of=rows_of, loss=loss, augment=augment,
                device=device, detecting=detecting, recutting=recutting,
            )  # fmt: skip

        return TrainingModule(
            module, by_rows(turning, recutting), start_epoch, validation_loss=by_rows("none"),
            head=linear, detector=detector,
        )  # fmt: skip
    labels, history = torch.from_numpy(targets).to(device), None
    if remember and linear is not None:
        history = module["history"] = ImageHistory(len(targets)).to(device)
    objective = label_objective(
        encoder, head, images, labels, loss=loss, augment=of_images(augment), device=device,
        mixing=mixing, history=history,
    )  # fmt: skip

    def predict(batch: NDArray[np.int64]) -> Tensor:
        logits = head(encoder(images(batch).to(device, non_blocking=True)))
        return one_answer(logits, loss).argmax(dim=1)

    return TrainingModule(module, objective, start_epoch, predict, head=linear, history=history)


def _of_rows(augment: str | Nadir | MovedObjects) -> str | MovedObjects:
    if isinstance(augment, Nadir):
        raise ConfigError("this augmentation crops images, but not the decisions about them")
    return augment


def of_images(augment: str | Nadir | MovedObjects) -> str | Nadir:
    """Return an augmentation of images with one label each.

    Raises:
        ConfigError: It moves objects.
    """
    if isinstance(augment, MovedObjects):
        raise ConfigError("this augmentation moves objects, and these images have one label each")
    return augment


def _learning(
    encoder: nn.Module, head: nn.Module, detector: nn.Module | None, loss: nn.Module
) -> nn.ModuleDict:
    """All that learns, and a loss that follows it, so that checkpoints have what that has seen."""
    parts = {"encoder": encoder, "head": head}
    if detector is not None:
        parts["detector"] = detector
    return nn.ModuleDict(parts | ({"loss": loss} if gathering(loss) else {}))


def detector_training(
    encoder: AnyEncoder,
    images: Images,
    *,
    rows_of: RowsOf,
    detecting: Detecting,
    augment: str | MovedObjects,
    device: torch.device,
) -> TrainingModule:
    """Let a detector learn alone from an encoder that stays as it is.

    Args:
        encoder: Frozen and in evaluation mode; it is no part of what learns.
        images: Gives images by sample number.
        rows_of: The task.
        detecting: The detector, on `device`.
        augment: See `label_objective`.
        device: Where encoder and detector lie.

    Raises:
        ConfigError: See `label_objective`.
    """
    model = rows_of.model(encoder)

    def by(augment: str | MovedObjects) -> Objective:
        look = _looks(encoder, images, rows_of, augment, device, detecting)

        def objective(batch: NDArray[np.int64], generator: np.random.Generator) -> Tensor:
            seen = look(batch, generator)
            with torch.no_grad():
                features = model(seen.pixels)
            found = detecting.losses(rows_of, features, batch, seen.turns, seen.objects)
            (name, first), *others = found.items()
            return _summed(name, first, dict(others))

        return Joint(objective)

    return TrainingModule(
        nn.ModuleDict({"detector": detecting.detector}), by(augment), validation_loss=by("none"),
        detector=detecting.detector,
    )  # fmt: skip


def one_answer(logits: Tensor, loss: nn.Module) -> Tensor:
    """Combine the logits of experts (experts, rows, classes) as their loss says, or evenly.

    Args:
        logits: Of experts, or of one head (rows, classes), which are given back.
        loss: That they learn under; its `combine`, if it has one, is the rule.
    """
    if logits.ndim == 2:
        return logits
    return combination(loss.first if isinstance(loss, LossOfEpoch) else loss)(logits)


def augmentation(augment: str, radar: object = None) -> "Augmentation | None":
    """Return what `augment` does to a batch, None for `"none"`.

    Args:
        augment: One of `AUGMENTATIONS`.
        radar: How radar images are stored, where they are radar's.

    Raises:
        ConfigError: Unknown augmentation, or speckle for images that are not radar's.
    """
    if augment not in AUGMENTATIONS:
        raise unknown_name("augmentation", augment, AUGMENTATIONS)
    if "speckle" in augment and not isinstance(radar, Decibels):
        raise ConfigError(
            f"augment {augment!r} is for radar images; say how yours are stored by data.radar"
        )
    if augment == "none":
        return None
    noisy = radar if isinstance(radar, Decibels) and "speckle" in augment else None
    return Augmentation(turns="dihedral" in augment, radar=noisy)


@dataclass(frozen=True)
class Augmentation:
    """What happens to a batch of images before it is learnt from.

    Args:
        turns: Turn each image by one of the eight symmetries, all equally likely.
        radar: How images are stored that receive speckle; None for none.
    """

    turns: bool
    radar: Decibels | None

    def __call__(self, pixels: Tensor, generator: np.random.Generator) -> Tensor:
        """Augment images (batch, bands, size, size)."""
        return self.with_turns(pixels, generator)[0]

    def with_turns(
        self,
        pixels: Tensor,
        generator: np.random.Generator,
        turns: NDArray[np.int64] | None = None,
    ) -> tuple[Tensor, NDArray[np.int64] | None]:
        """Augment, and say how each image was turned (batch,); None where none was.

        Args:
            pixels: Images.
            generator: Of what is not drawn yet.
            turns: As drawn for images that may be turned; None draws them.
        """
        if not self.turns:
            turns = None
        else:
            turns = generator.integers(VIEWS, size=len(pixels)) if turns is None else turns
            pixels = dihedral(pixels, turns)
        if self.radar is not None:
            factors = speckle_factors(tuple(pixels.shape), generator, looks=self.radar.looks)
            pixels = self.radar.multiply_power(pixels, factors.to(pixels.device))
        return pixels, turns


def random_turns(images: Tensor, generator: np.random.Generator) -> Tensor:
    """Turn each square image by one of the eight symmetries, all equally likely."""
    return dihedral(images, generator.integers(8, size=len(images)))


def target_objective(
    encoder: Callable[[Tensor], Tensor],
    images: Images,
    targets: Tensor,
    scale: Tensor,
    *,
    device: torch.device,
    decisions: Decisions | None = None,
    mean: Tensor | float = 0.0,
    regression: str = "squared",
    beside: Callable[[Tensor, NDArray[np.int64]], Mapping[str, Tensor]] | None = None,
) -> Objective:
    """Stage 5 of debLoRA: how far features are from the calibrated ones.

    Everything is taken per dimension in units of `scale`, the spread of the features that were
    clustered, so that no dimension rules by its unit alone. Images are not augmented: a target
    belongs to the image as it is.

    Args:
        encoder: (batch, bands, height, width) to (batch, *grid, features).
        images: Gives images by sample number.
        targets: Calibrated feature of every sample (samples, features), on `device`; with
            `decisions` of each of them (rows, features).
        scale: Positive spread of each dimension (features,), on `device`.
        device: Where the encoder lies.
        decisions: Which decision each row of `targets` belongs to, sorted by image; a batch
            without any has a distance of 0. None where each sample is one.
        mean: Of the features that were clustered (features,), on `device`; what angles are seen
            from, since a constant offset would make all of them small.
        regression: `"squared"`: mean squared distance. `"cosine"`: 1 - cosine of feature and target
            as seen from `mean`; only directions count, and lengths may drift. `"smooth-l1"`:
            squared below a distance of 1 and linear above, so that targets far away pull less.
            None is stated by the paper (*reading*).
        beside: Gives losses that are added, by name, of the features of a batch and its sample
            numbers.

    Raises:
        ConfigError: Unknown regression.
    """
    if regression not in REGRESSIONS:
        raise unknown_name("regression", regression, REGRESSIONS)
    distance = REGRESSIONS[regression]

    def objective(batch: NDArray[np.int64], _: np.random.Generator) -> Tensor:
        reached = features = encoder(images(batch).to(device, non_blocking=True))
        rows = batch
        if decisions is not None:
            rows, image = decisions.of(batch)
            seen = features[..., : targets.shape[1]]  # without what a detector alone sees
            reached = row_features(seen, image, decisions, rows)
        wanted = targets[torch.from_numpy(rows).to(device)]
        # every parameter expects a gradient
        apart = distance(reached, wanted, mean, scale) if len(rows) else features.sum() * 0
        if decisions is not None:
            apart = apart * _part_of_all(len(rows), device)
        return (
            apart if beside is None else _summed("moved features", apart, beside(features, batch))
        )

    return objective if decisions is None else Joint(objective)


def _squared(features: Tensor, targets: Tensor, _: Tensor | float, scale: Tensor) -> Tensor:
    return ((features - targets) / scale).square().mean()


def _cosine(features: Tensor, targets: Tensor, mean: Tensor | float, scale: Tensor) -> Tensor:
    seen, aim = (features - mean) / scale, (targets - mean) / scale
    return 1 - functional.cosine_similarity(seen, aim, dim=1).mean()


def _smooth_l1(features: Tensor, targets: Tensor, _: Tensor | float, scale: Tensor) -> Tensor:
    apart = (features - targets) / scale
    return functional.smooth_l1_loss(apart, torch.zeros_like(apart))


REGRESSIONS: Final[dict[str, Callable[[Tensor, Tensor, Tensor | float, Tensor], Tensor]]] = {
    "squared": _squared,
    "cosine": _cosine,
    "smooth-l1": _smooth_l1,
}
