"""Heads on maps: what sees all places of an image at once, and how it is trained.

Heads on rows are convex, or nearly so, and fitted to all rows at once. These are not: they take
steps over batches of images, with any loss of the shelf.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle

from tailora import registry
from tailora.backbones.encoder import PIXELS
from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.heads.linear_probe import unit_spread
from tailora.heads.probe import (
    CHOSEN,
    NO_OPTIONS,
    Maps,
    Options,
    Probe,
    ProbeData,
    best_of,
    choices_of,
)
from tailora.losses import haco
from tailora.losses.place_loss import PlaceLoss
from tailora.randomness import seeded

FINER: Final = 4
"""Places of a `FinerHead` along each side of a token."""
BANDS: Final = "bands"
"""What a `FinerHead` that sees pixels is built for, which is not chosen but follows the images."""
_STEM: Final = 32  # channels of what is seen in pixels
_BATCH: Final = 16  # images
_EPOCHS: Final = 20
_STEPS: Final = 500
_WARM_UP: Final = 0.1  # of the steps
_DECAY: Final = 0.05
_AXES: Final = 3  # rows, columns, width
_AT_ONCE: Final = 2**28  # bytes of cached features that are converted to float32 before training
_SOME_WIDTH: Final = 3  # of a module that is built to check its options


class MapHead(nn.Module, ABC):
    """A head that sees all places of an image at once, standardised.

    Args:
        width: Width of the features.
    """

    sees_maps = True
    mean: Tensor
    spread: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))

    @abstractmethod
    def logits(self, maps: Tensor) -> Tensor:
        """Map standardised maps (maps, width, rows, columns) to logits (maps, classes, ...)."""

    def said(self, features: Tensor) -> Tensor:
        """Map features (..., rows, columns, width) to logits of every place that the head has.

        Returns:
            (..., rows, columns, classes), of a `FinerHead` with `FINER` times the rows and columns.

        Raises:
            ValueError: The features are no maps of images.
        """
        if features.ndim <= _AXES:
            raise ValueError(f"it sees maps of features, got shape {tuple(features.shape)}")
        found = self.logits(self.standardised(features)).movedim(1, -1)
        return found.reshape(*features.shape[:-_AXES], *found.shape[1:])

    def standardised(self, features: Tensor) -> Tensor:
        """Bring features (..., rows, columns, width) to maps (maps, width, rows, columns)."""
        maps = ((features - self.mean) / self.spread).flatten(0, -_AXES - 1)
        return maps.movedim(-1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (..., rows, columns, width) to logits (..., rows, columns, classes).

        Raises:
            ValueError: The features are no maps of images.
        """
        return self.said(features)


class PixelStem(nn.Module):
    """Add to finer maps what three convolutions see in the pixels under them.

    Tokens say what is around a place, pixels where it ends: both meet before the classes.

    Args:
        bands: Of the pixels, at least 1.
        channels: Width of the finer maps.
    """

    def __init__(self, bands: int, channels: int) -> None:
        super().__init__()
        own = {"padding": 1, "padding_mode": "replicate"}
        self.see = nn.Sequential(
            nn.Conv2d(bands, _STEM, 3, **own),
            nn.GELU(),
            # an even kernel, so that its centre is that of the place, not half a pixel beside it
            nn.Conv2d(_STEM, _STEM, 4, stride=PIXELS // FINER, **own),
            nn.GELU(),
            nn.Conv2d(_STEM, _STEM, 3, **own),
            nn.GELU(),
        )
        self.join = nn.Sequential(
            nn.Conv2d(channels + _STEM, channels, 1),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, **own),
        )

    def forward(self, maps: Tensor, folded: Tensor) -> Tensor:
        """Add to maps of `FINER` places along a side of a token.

        Args:
            maps: (maps, channels, FINER * rows, FINER * columns).
            folded: Pixels of each token (maps, bands * PIXELS**2, rows, columns).
        """
        seen = self.see(pixel_shuffle(folded, PIXELS))
        return maps + self.join(torch.cat([maps, seen], dim=1))


class FinerHead(MapHead):
    """A head whose places are finer than those of its features; subclasses define `decode`.

    What it says of a place of the features is what it says of its centre, as masks are read there.

    Args:
        width: Width of the features.
        bands: Bands of the pixels that are the last of them; 0 for tokens alone.

    Attributes:
        tokens: Width of the features without pixels.
        classify: From finer maps to logits.
        stem: What sees pixels; None for tokens alone.

    Raises:
        ConfigError: The features are too few to hold pixels of so many bands.
    """

    classify: nn.Conv2d
    stem: PixelStem | None

    def __init__(self, width: int, bands: int = 0) -> None:
        super().__init__(width)
        self.tokens = width - bands * PIXELS**2
        if self.tokens < 1:
            raise ConfigError(f"{width} features are no tokens beside pixels of {bands} bands")

    @abstractmethod
    def decode(self, maps: Tensor) -> Tensor:
        """Decode maps of tokens (maps, tokens, rows, columns) to (maps, channels, FINER * ...)."""

    def logits(self, maps: Tensor) -> Tensor:
        """Map standardised maps (maps, width, rows, columns) to logits on a finer grid."""
        return self.classify(self.decoded(maps))

    def decoded(self, maps: Tensor) -> Tensor:
        """Decode standardised maps, with what the stem sees: (maps, channels, FINER * ...)."""
        found = self.decode(maps[:, : self.tokens])
        return found if self.stem is None else self.stem(found, maps[:, self.tokens :])

    def forward(self, features: Tensor) -> Tensor:
        """Map features (..., rows, columns, width) to logits (..., rows, columns, classes).

        Raises:
            ValueError: The features are no maps of images.
        """
        found = self.said(features)
        size = list(features.shape[-_AXES:-1])
        maps = found.flatten(0, -_AXES - 1).movedim(-1, 1)
        centres = interpolate(maps, size, mode="bilinear", align_corners=False)
        return centres.movedim(1, -1).reshape(*features.shape[:-1], -1)


def finest(head: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return what gives the logits of every place that a head has, from features of images."""
    return head.said if isinstance(head, MapHead) else cast("Callable[[Tensor], Tensor]", head)


def drawn_by(head: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """Return what draws masks from features of images, of a head that does; see `PulaskiHead`."""
    return getattr(head, "masks", None)


class MapProbe(Probe):
    """A head on maps of tokens; subclasses define its module.

    Attributes:
        fine: Whether its module is a `FinerHead`.
        channels: Width of its layers, unless another is chosen.
        rate: Peak learning rate, unless another is chosen.
    """

    maps = True
    fine = False
    kept = (BANDS,)
    channels = 64
    rate = 2e-3

    @property
    def options(self) -> dict[str, Any]:
        """Its options with their defaults; those of the loss are others."""
        return {
            "channels": self.channels, "epochs": "auto", "rate": self.rate, "tau": 0.5,
            "loss": "logit-adjusted", "boundary": 0.0, "by_object": "none", "by_place": 0.0,
            "bins": False,
        }  # fmt: skip

    @abstractmethod
    def module(self, width: int, classes: int, chosen: Options) -> MapHead:
        """Build the module with weights from torch's generator.

        Args:
            width: Width of the features.
            classes: Number of classes.
            chosen: A value of each of its options.

        Raises:
            ConfigError: It has no layers of the width `channels`.
        """

    def check_values(self, options: Options) -> None:
        """Reject values that are out of range, and layers that cannot be built."""
        for chosen in choices_of(self.options | dict(options)):
            for key, others in (("channels", ()), ("epochs", ("auto",))):
                if chosen[key] in others:
                    continue
                if not isinstance(chosen[key], int) or chosen[key] < 1:
                    raise ConfigError(f"{key} must be a whole number from 1, got {chosen[key]!r}")
            if not isinstance(chosen.get("bins", False), bool):
                raise ConfigError(f"bins must be true or false, got {chosen['bins']!r}")
            if not isinstance(chosen["rate"], float | int) or not 0 < chosen["rate"] < np.inf:
                raise ConfigError(f"rate must be finite and above 0, got {chosen['rate']!r}")
            with torch.device("meta"):  # without memory or random numbers
                self.module(_SOME_WIDTH, 1, chosen | {BANDS: 0})

    def known(self, options: Options) -> set[str]:
        """Names of its options and of those of its loss."""
        own = self.options | dict(options)
        if "loss" not in own:
            return super().known(options)
        return (
            super().known(options) | registry.options(registry.find("losses", own["loss"])).keys()
        )

    def check(self, options: Options, counts: ClassCounts) -> None:
        """Reject options that neither it nor its loss has."""
        self.check_values(options)
        for chosen in choices_of(self.options | dict(options)):
            self.whole_loss(chosen, options, counts)

    def whole_loss(self, chosen: Options, named: Options, counts: ClassCounts) -> nn.Module:
        """Build what `learn` minimises, see `rows_loss`."""
        return PlaceLoss(
            self.rows_loss(chosen, named, counts),
            boundary=chosen["boundary"],
            by_object=chosen["by_object"],
            by_place=chosen["by_place"],
            least=FINER**2 if self.fine else 1,
        )

    def rows_loss(self, chosen: Options, named: Options, counts: ClassCounts) -> nn.Module:
        """Build the loss on rows; `tau` is left out for one without it, unless it was named.

        Args:
            chosen: A value of each of its options, and those of the loss.
            named: What the user chose.
            counts: Training decisions per class.

        Raises:
            ConfigError: The loss has no such option, or rejects a value.
        """
        loss = registry.find("losses", str(chosen["loss"]))
        known = registry.options(loss)
        of_head = self.options.keys() - {"tau"}
        own = {key: value for key, value in chosen.items() if key not in of_head}
        if unknown := sorted(key for key in own if key in named and key not in known):
            if reason := registry.refusal(loss, unknown[0]):
                raise ConfigError(reason)
            raise ConfigError(
                f"probe {self.name!r} has no option {unknown[0]!r}; it has "
                f"{', '.join(self.options)}, and those of its loss: {', '.join(known)}"
            )
        given = {key: value for key, value in own.items() if key in known}
        return registry.build(loss, {"counts": counts}, given)

    def fit(self, data: ProbeData, options: Options = NO_OPTIONS) -> nn.Module:
        """Train it, see `Probe.fit`."""
        self.check(options, data.counts)
        maps = data.maps
        if maps is None:
            raise ConfigError(
                f"probe {self.name!r} sees maps of tokens, and there are none: it is for tasks "
                "that decide about every place, such as segmentation"
            )

        given = {BANDS: maps.bands} if self.fine and maps.bands else {}

        def fitted(chosen: dict[str, Any]) -> nn.Module:
            known = self.options | chosen | given
            loss = self.whole_loss(known, options, data.counts)
            with seeded(data.seed):
                width, classes = maps.features.shape[-1], len(data.counts.names)
                head = self.module(width, classes, known)
                epochs = known["epochs"]
                if epochs == "auto":
                    epochs = enough_epochs(self.images(maps))
                how = {"loss": loss, "epochs": epochs, "rate": known["rate"]}
                if known.get("bins"):
                    how["bins"] = True
                if data.moved and self.learns_moved:
                    how["moved"] = data.features, data.labels
                self.learn(head, maps, data.counts, **how)
            return head.eval()

        head = best_of(self.name, data, options, fitted)
        setattr(head, CHOSEN, getattr(head, CHOSEN) | given)
        return head

    def empty(self, width: int, classes: int, options: Options = NO_OPTIONS) -> nn.Module:
        """Build it without its state, see `Probe.empty`."""
        return self.module(width, classes, self.options | dict(options))

    def images(self, maps: Maps) -> int:
        """How many an epoch takes."""
        return len(labelled_images(maps.targets))

    def learn(self, head: MapHead, maps: Maps, counts: ClassCounts, **how: Any) -> None:
        """Train its module.

        Args:
            head: From `module`.
            maps: Training images.
            counts: Training samples per class.
            how: Loss, epochs and rate, see `train_map_head`; `moved` features and classes for heads
                that have `learns_moved`.
        """
        del counts  # for heads whose classes have a meaning
        train_map_head(head, maps, **how)


def enough_epochs(images: int) -> int:
    """How often training images are passed over: 20 times, or as often as 500 steps take.

    Of 36 images, 20 epochs are 60 steps, after which `dpt` was below a linear head on validation
    windows of bluemarble-dense; after 500 it was not. Of 447 they are 560.

    Example:
        >>> enough_epochs(447), enough_epochs(90), enough_epochs(36), enough_epochs(0)
        (20, 84, 167, 500)
    """
    return max(_EPOCHS, math.ceil(_STEPS / max(1, math.ceil(images / _BATCH))))


def train_map_head(
    head: MapHead,
    maps: Maps,
    *,
    loss: Callable[[Tensor, Tensor], Tensor],
    epochs: int,
    rate: float,
    bins: bool = False,
) -> None:
    """Train a head with AdamW; its rate rises for a tenth of the steps, then falls.

    Args:
        head: The module to train; order and dropped channels come from torch's generator.
        maps: Training images; those without any class are left out.
        loss: Takes logits (maps, rows, columns, classes) and targets (maps, rows, columns),
            negative ones ignored.
        epochs: Passes over the images.
        rate: Peak learning rate.
        bins: Draw images whose classes are unusual for their places more often, see
            `haco.balanced_order`.
    """
    standardise(head, maps)
    said, targets = head, maps.targets
    if isinstance(head, FinerHead) and maps.finer is not None:
        said, targets = head.said, maps.finer
    features = maps.features
    if features.nbytes <= _AT_ONCE:  # else converted batch by batch
        features = features.astype(np.float32)

    def cost(images: NDArray[np.int64]) -> Tensor:
        wanted = torch.from_numpy(targets[images].astype(np.int64))
        return loss(said(_tensor(features[images])), wanted)

    images, classes = labelled_images(targets), int(targets.max()) + 1
    scores = haco.unusual(targets[images], classes) if bins else None
    begun = loss.begin(targets, classes) if isinstance(loss, PlaceLoss) else None
    take_steps(
        head.parameters(), images, cost, epochs=epochs, rate=rate, scores=scores, begun=begun
    )


def finest_targets(maps: Maps) -> NDArray[np.integer]:
    """Class of each place (maps, rows, columns) as fine as it is known, one map after the other."""
    known = maps.targets if maps.finer is None else maps.finer
    return known.reshape(-1, *known.shape[-2:])


def labelled_images(targets: NDArray[np.integer]) -> NDArray[np.int64]:
    """Which of some images have a place with a class.

    Args:
        targets: Class index of each place (images, ..., rows, columns), negative without one.
    """
    return np.flatnonzero((targets.reshape(len(targets), -1) >= 0).any(axis=1))


def take_steps(
    parameters: Iterable[nn.Parameter],
    images: NDArray[np.int64],
    cost: Callable[[NDArray[np.int64]], Tensor],
    *,
    epochs: int,
    rate: float,
    scores: NDArray[np.float64] | None = None,
    begun: Callable[[float], None] | None = None,
) -> None:
    """Train by steps over batches of images, with AdamW; see `train_map_head`.

    Args:
        parameters: What learns.
        images: Numbers of the images; their order comes from torch's generator.
        cost: The loss of some of them, in ascending order.
        epochs: Passes over the images.
        rate: Peak learning rate.
        scores: How unusual each image is; None takes each once an epoch.
        begun: Takes the share of the epochs that are over before each of them; the last has 1.
    """
    drawn = images if scores is None else haco.balanced_order(scores, np.random.default_rng(0))
    steps = epochs * -(-len(drawn) // _BATCH)
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_share_of_rate, steps))
    for epoch in range(epochs):
        if begun is not None:
            begun(epoch / max(1, epochs - 1))
        for batch in _order(images, scores).split(_BATCH):
            optimizer.zero_grad()
            cost(np.sort(batch.numpy())).backward()
            optimizer.step()
            schedule.step()


def _order(images: NDArray[np.int64], scores: NDArray[np.float64] | None) -> Tensor:
    """Images of an epoch, from torch's generator."""
    if scores is None:
        return torch.from_numpy(images)[torch.randperm(len(images))]
    seed = int(torch.randint(2**31, ()))
    return torch.from_numpy(images[haco.balanced_order(scores, np.random.default_rng(seed))])


def _share_of_rate(steps: int, step: int) -> float:
    """Rise for a tenth of the steps, then fall to 0 along a cosine."""
    rising = max(1.0, _WARM_UP * steps)
    if step + 1 <= rising:
        return (step + 1) / rising
    return (1 + math.cos(math.pi * (step + 1 - rising) / max(1.0, steps - rising))) / 2


def standardise(head: MapHead, maps: Maps) -> None:
    """Take mean and spread from the places with a class, as other heads do."""
    known = maps.features[maps.targets >= 0].astype(np.float32)
    head.mean.copy_(torch.from_numpy(known.mean(axis=0, dtype=np.float64)))
    head.spread.copy_(torch.from_numpy(unit_spread(known)))


def _tensor(maps: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.asarray(maps, dtype=np.float32))
