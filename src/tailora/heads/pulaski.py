"""PULASki: a head that draws masks, spread as those of several raters are.

Reference: Chatterjee et al., PULASki: learning inter-rater variability using statistical distances
to improve probabilistic segmentation, arXiv 2312.15686; the model is the probabilistic U-Net of
Kohl et al., NeurIPS 2018, over maps of tokens.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import one_hot

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, unknown_name
from tailora.heads.dpt import DPTHead, DPTProbe
from tailora.heads.map_probe import (
    BANDS,
    FINER,
    FinerHead,
    MapHead,
    MapProbe,
    finest_targets,
    standardise,
    take_steps,
)
from tailora.heads.probe import Maps, Options, choices_of
from tailora.losses.set_distance import SET_DISTANCES

_LATENT: Final = 3  # dimensions of what tells one draw from another, as in the paper
_PREDICTED: Final = 16  # draws that a prediction is the mean of, in pairs of opposites
_LEAST_DRAWS: Final = 2  # that can be apart
_OF_LOSS: Final = ("distance", "draws", "kl", "tau")
_WIDEST: Final = 5.0  # of the logarithm of a deviation, so that none overflows


class Gaussian(NamedTuple):
    """Means and log deviations of what draws differ by, both (maps, dimensions)."""

    mean: Tensor
    spread: Tensor

    def divergence(self, other: "Gaussian") -> Tensor:
        """KL(self || other) of each map, (maps,)."""
        ratio = (2 * (self.spread - other.spread)).exp()
        apart = (self.mean - other.mean).square() * (-2 * other.spread).exp()
        return (ratio + apart - 1 - 2 * (self.spread - other.spread)).sum(dim=1) / 2

    def at(self, noise: Tensor) -> Tensor:
        """Move standard normal noise (..., maps, dimensions) to where this is."""
        return self.mean + self.spread.exp() * noise


class Belief(nn.Module):
    """What an image, and where it is known a mask of it, says about how draws differ.

    Args:
        width: Of tokens.
        classes: Of the mask; 0 without one.
        channels: Width in between.
    """

    def __init__(self, width: int, classes: int, channels: int) -> None:
        super().__init__()
        self.tokens = nn.Conv2d(width, channels, 1)
        self.mask = nn.Conv2d(classes, channels, FINER, stride=FINER) if classes else None
        self.told = nn.Linear(channels, 2 * _LATENT)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Gaussian:
        """Look at tokens (maps, width, rows, columns), masks (maps, classes, FINER * rows, ...)."""
        seen = self.tokens(tokens)
        if self.mask is not None and mask is not None:
            seen = seen + self.mask(mask)
        mean, spread = self.told(nn.functional.gelu(seen).mean(dim=(2, 3))).chunk(2, dim=1)
        return Gaussian(mean, spread.clamp(-_WIDEST, _WIDEST))


@final
class PulaskiHead(FinerHead):
    """The head `dpt`, to whose logits each draw adds its own; it predicts with their mean.

    Args:
        body: What the draws of an image have in common.
        width: Width of the features.
        classes: Number of classes.
        channels: Width in between, that of `body`.
        bands: See `FinerHead`.

    Attributes:
        noise: Of the draws that a prediction is the mean of, (draws, 3): equal for all images, so
            that neighbouring windows of a map are drawn alike.
    """

    noise: Tensor

    def __init__(
        self, body: DPTHead, width: int, classes: int, channels: int, bands: int = 0
    ) -> None:
        super().__init__(width, bands)
        self.body = body
        self.prior = Belief(self.tokens, 0, channels)
        self.posterior = Belief(self.tokens, classes, channels)
        self.places = nn.Conv2d(channels, channels, 1)
        self.draw = nn.Linear(_LATENT, channels)
        self.swing = nn.Conv2d(channels, classes, 1)
        half = torch.randn(_PREDICTED // 2, _LATENT)
        self.register_buffer("noise", torch.cat([half, -half]))

    def decode(self, maps: Tensor) -> Tensor:
        """Decode maps of tokens, see `FinerHead.decode`."""
        return self.body.decode(maps)

    def decoded(self, maps: Tensor) -> Tensor:
        """Decode standardised maps, see `FinerHead.decoded`."""
        return self.body.decoded(maps)

    def logits(self, maps: Tensor) -> Tensor:
        """Log of the mean probability over `noise`, see `FinerHead.logits`."""
        drawn = self.draws(maps)
        return drawn.log_softmax(dim=2).logsumexp(dim=0) - math.log(len(drawn))

    def draws(self, maps: Tensor) -> Tensor:
        """Logits of each draw that a prediction is the mean of.

        Args:
            maps: Standardised (maps, width, rows, columns).

        Returns:
            (draws, maps, classes, FINER * rows, FINER * columns).
        """
        belief = self.prior(maps[:, : self.tokens])
        noise = self.noise[:, None].expand(-1, len(maps), -1)
        return self.drawn(self.decoded(maps), belief.at(noise))

    def drawn(self, decoded: Tensor, latent: Tensor) -> Tensor:
        """Logits of some draws.

        Args:
            decoded: (maps, channels, rows, columns).
            latent: Of each draw and map (draws, maps, dimensions).

        Returns:
            (draws, maps, classes, rows, columns).
        """
        said, places = self.body.classify(decoded), self.places(decoded)
        added = (
            self.swing(nn.functional.gelu(places + move[..., None, None]))
            for move in self.draw(latent)
        )
        return torch.stack([said + more for more in added])

    def masks(self, features: Tensor) -> Tensor:
        """Logits of each draw from features (images, rows, columns, width).

        Returns:
            (images, draws, FINER * rows, FINER * columns, classes).
        """
        return self.draws(self.standardised(features)).movedim(2, -1).transpose(0, 1)


@final
class PulaskiLoss(nn.Module):
    """A distance between draws and the raters' masks, and what a mask tells beyond its image.

    Args:
        counts: Training decisions per class.
        distance: Name in `SET_DISTANCES`.
        draws: Of each image in a step, at least 2.
        kl: Weight of the divergence, at least 0.
        tau: Strength of logit adjustment, at least 0.

    Raises:
        ConfigError: A value is out of range or unknown.
    """

    log_prior: Tensor

    def __init__(
        self, counts: ClassCounts, *, distance: str, draws: int, kl: float, tau: float
    ) -> None:
        super().__init__()
        if not isinstance(draws, int) or draws < _LEAST_DRAWS:
            raise ConfigError(f"draws must be a whole number from {_LEAST_DRAWS}, got {draws!r}")
        if distance not in SET_DISTANCES:
            raise unknown_name("distance", str(distance), SET_DISTANCES)
        for name, value in (("kl", kl), ("tau", tau)):
            if not isinstance(value, float | int) or not 0 <= value < math.inf:
                raise ConfigError(f"{name} must be finite and at least 0, got {value!r}")
        self.distance, self.draws, self.kl = SET_DISTANCES[distance], draws, kl
        shift = torch.from_numpy(tau * np.log(counts.prior())).float()
        self.register_buffer("shift", shift[:, None, None])

    def forward(self, drawn: Tensor, masks: Sequence[Tensor], apart: Tensor) -> Tensor:
        """Return the mean over images.

        Args:
            drawn: Logits (draws, images, classes, rows, columns).
            masks: Of the raters of each image, see `points_of`.
            apart: Divergence of posterior and prior of each image (images,).
        """
        told = (drawn + cast("Tensor", self.shift)).softmax(dim=2)
        found = [self._of_image(told[:, i], masks[i]) for i in range(len(masks))]
        return torch.stack(found).mean() + self.kl * apart.mean()

    def _of_image(self, told: Tensor, masks: Tensor) -> Tensor:
        known = (masks >= 0).any(dim=0)
        return self.distance(
            as_points(told.movedim(1, -1)[:, known]),
            as_points(shares(masks[:, known], told.shape[1])),
        )


def shares(masks: Tensor, classes: int) -> Tensor:
    """Masks of several raters as shares of each class, of which each place has some.

    Where a rater names no class, the mean of those who do stands for it: nothing says that they
    differ there.

    Args:
        masks: Class of each place (raters, places), negative without one; one rater at least names
            a class of each place.
        classes: Number of classes.

    Returns:
        (raters, places, classes), adding up to 1.
    """
    known = (masks >= 0)[..., None]
    named = one_hot(masks.clamp_min(0), classes) * known
    return torch.where(known, named, named.sum(dim=0) / known.sum(dim=0))


def as_points(told: Tensor) -> Tensor:
    """Flatten shares (sets, places, classes); masks without a class in common are 1 apart."""
    return told.flatten(1) / math.sqrt(2 * told.shape[1])


def rater_sets(
    targets: NDArray[np.integer], pictures: NDArray[np.int64] | None
) -> list[NDArray[np.int64]]:
    """Maps of each image that have a place with a class.

    Args:
        targets: Class of each place (maps, rows, columns), negative without one.
        pictures: Image of each map (maps,); None for another each.
    """
    labelled = np.flatnonzero((targets >= 0).any(axis=(1, 2)))
    picture = labelled if pictures is None else pictures[labelled]
    return [labelled[picture == one] for one in np.unique(picture)]


def _sets(maps: Maps) -> tuple[NDArray[np.integer], NDArray[np.int64] | None]:
    """Targets (maps, rows, columns) as fine as there are, and the image of each."""
    targets = finest_targets(maps)
    return targets, maps.pictures if len(targets) == len(maps.features) else None


def train_draws(
    head: PulaskiHead, maps: Maps, *, loss: PulaskiLoss, epochs: int, rate: float
) -> None:
    """Train a head that knows how features are standardised on sets of masks.

    Args:
        head: See `PulaskiHead`.
        maps: Training images.
        loss: What is minimised.
        epochs: Passes over the images.
        rate: Peak learning rate.
    """
    width, grid = maps.features.shape[-1], maps.features.shape[-3:-1]
    features = maps.features.reshape(-1, *grid, width)
    targets, pictures = _sets(maps)
    sets = rater_sets(targets, pictures)
    classes = head.body.classify.out_channels

    def cost(images: NDArray[np.int64]) -> Tensor:
        seen = np.array([sets[i][0] for i in images])
        found = torch.from_numpy(np.asarray(features[seen], dtype=np.float32))
        standard = head.standardised(found)
        masks = [torch.from_numpy(targets[sets[i]].astype(np.int64)) for i in images]
        one = torch.stack([rated[int(torch.randint(len(rated), ()))] for rated in masks])
        told = (one_hot(one.clamp_min(0), classes) * (one >= 0)[..., None]).movedim(-1, 1).float()
        tokens = standard[:, : head.tokens]
        prior, posterior = head.prior(tokens), head.posterior(tokens, told)
        latent = posterior.at(torch.randn(loss.draws, len(images), _LATENT))
        drawn = head.drawn(head.decoded(standard), latent)
        return loss(drawn, masks, posterior.divergence(prior))

    take_steps(head.parameters(), np.arange(len(sets)), cost, epochs=epochs, rate=rate)


@final
class PulaskiProbe(MapProbe):
    """A head that draws masks, learnt from all raters of an image together; see `PulaskiHead`."""

    name = "pulaski"
    summary = (
        "dpt that draws masks, spread as those of several raters are, learnt by a distance between "
        "the sets (Chatterjee et al., 2023)"
    )
    fine = True

    @property
    def options(self) -> dict[str, Any]:
        """Its options with their defaults."""
        return {
            "channels": self.channels, "epochs": "auto", "rate": self.rate, "tau": 0.0,
            "distance": "energy", "draws": 4, "kl": 0.01,
        }  # fmt: skip

    def check_values(self, options: Options) -> None:
        """Reject values that are out of range, and layers that cannot be built."""
        for chosen in choices_of(self.options | dict(options)):
            PulaskiLoss(ClassCounts(("a",), (1,)), **{k: chosen[k] for k in _OF_LOSS})
        super().check_values(options)

    def whole_loss(self, chosen: Options, named: Options, counts: ClassCounts) -> nn.Module:
        """Build its loss on sets of masks, see `MapProbe.whole_loss`."""
        super(MapProbe, self).check(named, counts)
        return PulaskiLoss(counts, **{key: chosen[key] for key in _OF_LOSS})

    def module(self, width: int, classes: int, chosen: Options) -> PulaskiHead:
        """Build its module, see `MapProbe.module`."""
        body = DPTProbe().module(width, classes, chosen)
        return PulaskiHead(body, width, classes, chosen["channels"], chosen.get(BANDS, 0))

    def images(self, maps: Maps) -> int:
        """How many an epoch takes: one with several raters once."""
        return len(rater_sets(*_sets(maps)))

    def learn(self, head: MapHead, maps: Maps, counts: ClassCounts, **how: Any) -> None:
        """Train its module; see `MapProbe.learn`."""
        standardise(head, maps)
        train_draws(cast("PulaskiHead", head), maps, **how)
