"""ViT-P: a head proposes segments, and one point of each says what class they have.

Reference: Shahabodini et al., The Missing Point in Vision Transformers for Universal Image
Segmentation, arXiv 2505.19795.
"""

from collections.abc import Callable
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from tailora.connected_areas import connected_areas
from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.heads.dpt import DPTHead, DPTProbe
from tailora.heads.map_probe import (
    BANDS,
    FinerHead,
    MapHead,
    MapProbe,
    finest_targets,
    labelled_images,
    take_steps,
)
from tailora.heads.probe import Maps, Options, Rows, choices_of

Draw = Callable[[NDArray[np.int64]], tuple[Tensor, Tensor]]

_POINTS: Final = 64  # of each image in a step


def fuse(inside: Tensor, point: Tensor, share: float) -> Tensor:
    """Return logits of p_inside ** (1 - share) * p_point ** share.

    Args:
        inside: Logits of the proposer (..., classes).
        point: Logits of the point's classifier, of a shape that fits.
        share: Of the point, in [0, 1].
    """
    return (1 - share) * log_softmax(inside, dim=-1) + share * log_softmax(point, dim=-1)


def segments(logits: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide a map into connected areas of one class, and name the surest place of each.

    Args:
        logits: (classes, rows, columns).

    Returns:
        Number of the segment of each place (rows, columns), from 0; flat place of the largest
        probability of its class for each segment (segments,). Corners do not connect.
    """
    surest, said = (found.cpu().numpy() for found in logits.softmax(dim=0).max(dim=0))
    number, classes = connected_areas(said)
    every = np.arange(len(classes))
    points = np.array(ndimage.maximum_position(surest, number, every), dtype=np.int64)
    return number, points[:, 0] * said.shape[1] + points[:, 1]


@final
class ViTPHead(FinerHead):
    """A DPT head whose segments get a part of their class from a classifier of their surest point.

    The classifier sees the token at the point, and has learnt from points of each class of an image
    alike, however few places a class has there: what a segment is does not depend on how large
    others are, and where it ends stays the proposer's.

    Args:
        proposer: Of the same features.
        width: Width of the features.
        classes: Number of classes.
        share: Of the point, in [0, 1].
        bands: See `FinerHead`.
    """

    def __init__(
        self, proposer: DPTHead, width: int, classes: int, share: float, bands: int = 0
    ) -> None:
        super().__init__(width, bands)
        self.proposer = proposer
        self.point = nn.Linear(self.tokens, classes)
        self.share = share

    def decode(self, maps: Tensor) -> Tensor:
        """Decode maps of tokens, see `FinerHead.decode`."""
        return self.proposer.decode(maps)

    def logits(self, maps: Tensor) -> Tensor:
        """Map standardised maps (maps, width, rows, columns) to logits on a finer grid.

        While training they are those of the proposer, which learns alone.
        """
        said = self.proposer.logits(maps)
        if self.training:
            return said
        return torch.stack([self._fused(*one) for one in zip(said, maps, strict=True)])

    def _fused(self, said: Tensor, tokens: Tensor) -> Tensor:
        """Fuse logits of a map (classes, rows, columns) with those of the points of its segments.

        Args:
            said: Of the proposer.
            tokens: Standardised features (width, rows, columns) of its coarser grid.
        """
        number, points = segments(said)
        under = tokens_under(points, said.shape[1:], tokens.shape[1:])
        seen = tokens[: self.tokens].flatten(1)[:, torch.from_numpy(under).to(tokens.device)]
        of_segment = self.point(seen.T)[torch.from_numpy(number).to(tokens.device)]
        return fuse(said.movedim(0, -1), of_segment, self.share).movedim(-1, 0)


def tokens_under(
    places: NDArray[np.int64], fine: tuple[int, ...], grid: tuple[int, ...]
) -> NDArray[np.int64]:
    """Flat number of the token that each flat place of a finer grid lies in.

    Args:
        places: In a grid of the shape `fine`.
        fine: Rows and columns, multiples of those of `grid`.
        grid: Rows and columns of tokens.
    """
    row, column = np.divmod(places, fine[1])
    return row // (fine[0] // grid[0]) * grid[1] + column // (fine[1] // grid[1])


def draw_points(targets: Tensor, points: int) -> Tensor:
    """Draw a class of each map, all that it has alike, and then a place of it; flat places.

    Args:
        targets: Class of each place (maps, places), negative without one; at least one with a class
            in each map.
        points: Draws for each map, with replacement, from torch's generator.

    Returns:
        (maps, points).
    """
    return torch.multinomial(_chances(targets), points, replacement=True)


def _chances(targets: Tensor) -> Tensor:
    """Weight of each place (maps, places), so that each class of a map has the same in all."""
    same = nn.functional.one_hot(targets.clamp_min(0)).float() * (targets >= 0)[..., None]
    of_class = (same * same.sum(dim=1, keepdim=True)).sum(dim=-1)
    return torch.where(targets >= 0, 1 / of_class.clamp_min(1), 0.0)


def of_maps(maps: Maps, width: int) -> Draw:
    """Return what draws points of images, see `draw_points`.

    Args:
        maps: Training images.
        width: Of the tokens: the first of the features.
    """
    grid = maps.features.shape[-3:-1]
    features = maps.features.reshape(-1, *grid, maps.features.shape[-1])
    targets = finest_targets(maps)

    def draw(images: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        wanted = torch.from_numpy(targets[images].astype(np.int64)).flatten(1)
        points = draw_points(wanted, _POINTS)
        under = torch.from_numpy(tokens_under(points.numpy(), targets.shape[1:], grid))
        tokens = torch.from_numpy(features[images][..., :width].astype(np.float32)).flatten(1, 2)
        rows = torch.take_along_dim(tokens, under[..., None], dim=1)
        return rows.flatten(0, 1), wanted.gather(1, points).flatten()

    return draw


def of_rows(rows: Rows, labels: NDArray[np.int64]) -> Draw:
    """Return what draws a class of the rows, all alike, and then a row of it: as many as of images.

    Args:
        rows: Tokens (rows, width).
        labels: Their class indices (rows,).
    """
    chances = _chances(torch.from_numpy(labels)[None])[0]

    def draw(images: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        drawn = torch.multinomial(chances, _POINTS * len(images), replacement=True).numpy()
        return torch.from_numpy(rows[drawn]), torch.from_numpy(labels[drawn])

    return draw


def train_points(
    head: ViTPHead, images: NDArray[np.int64], draw: Draw, *, epochs: int, rate: float
) -> None:
    """Train the classifier of points, of a head that knows how features are standardised.

    Args:
        head: See `ViTPHead`.
        images: Numbers of the training images that have a class.
        draw: Gives tokens (points, width) and their classes (points,), for some of the images.
        epochs: Passes over the images, with some points for each.
        rate: Peak learning rate.
    """
    seen = slice(head.tokens)

    def cost(some: NDArray[np.int64]) -> Tensor:
        rows, classes = draw(some)
        return cross_entropy(head.point((rows - head.mean[seen]) / head.spread[seen]), classes)

    take_steps(head.point.parameters(), images, cost, epochs=epochs, rate=rate)


@final
class ViTPProbe(MapProbe):
    """A head whose segments are classified again by one point of each; see `ViTPHead`.

    Where a method moved the features of training (`deblora.head = "targets"` or `"both"`), the
    classifier of points learns from those rows, all classes alike; the proposer from maps as ever.
    """

    name = "vit-p"
    summary = (
        "dpt, whose segments are classified again by one point of each, learnt from all classes "
        "of an image alike (Shahabodini et al., 2025)"
    )
    fine = True
    learns_moved = True

    @property
    def options(self) -> dict[str, Any]:
        """Its options with their defaults; those of the loss are others."""
        return {**super().options, "share": 0.4}

    def check_values(self, options: Options) -> None:
        """Reject values that are out of range, and layers that cannot be built."""
        for chosen in choices_of(self.options | dict(options)):
            if not isinstance(chosen["share"], float | int) or not 0 <= chosen["share"] <= 1:
                raise ConfigError(f"share must lie in [0, 1], got {chosen['share']!r}")
        super().check_values(options)

    def module(self, width: int, classes: int, chosen: Options) -> ViTPHead:
        """Build its module, see `MapProbe.module`."""
        proposer = DPTProbe().module(width, classes, chosen)
        return ViTPHead(proposer, width, classes, chosen["share"], chosen.get(BANDS, 0))

    def learn(self, head: MapHead, maps: Maps, counts: ClassCounts, **how: Any) -> None:
        """Train its proposer, then its classifier of points; see `MapProbe.learn`."""
        moved = how.pop("moved", None)
        super().learn(head, maps, counts, **how)
        if isinstance(head, ViTPHead):
            draw = of_maps(maps, head.tokens) if moved is None else of_rows(*moved)
            images = labelled_images(finest_targets(maps))
            train_points(head, images, draw, epochs=how["epochs"], rate=how["rate"])
