"""Pairs of dates from images of one date: change that is learnt without a second date.

Each labelled image is paired with an unrelated one of its split, of which a part in the form of
blobs takes the place of its own ground: there land cover changed where the two masks differ,
elsewhere nothing did. Masks of one image by several raters are never paired, since they differ
where opinions do. The light of the second date differs, since equal ground never has equal pixels.

Reference: Zheng et al., Change is Everywhere: Single-Temporal Supervised Object Change Detection in
Remote Sensing Imagery, ICCV 2021 (STAR).
"""

from collections.abc import Sequence
from dataclasses import replace
from threading import Lock
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.data.change_masks import ChangeMask, marks_together
from tailora.data.dataset import Dataset
from tailora.data.readers.pairs import assemble_changes
from tailora.data.sources import ImageSource, file_mark
from tailora.data.targets import Targets, pictures_of
from tailora.errors import DataError
from tailora.numbers import counted

_BLOBS: Final = 5  # along a side of the field that blobs are cut from
_LIGHT: Final = 0.12  # standard deviation of the gain of the second date


@final
class _Partners:
    """Which image each is paired with, and where that takes its place."""

    def __init__(self, partner: NDArray[np.int64], seed: int) -> None:
        self.partner, self.seed = partner, seed

    def swapped(self, i: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Half of the pixels, in blobs that are the same for any number of pixels (*shape)."""
        rng = np.random.default_rng([self.seed, i])
        field = rng.normal(size=(_BLOBS, _BLOBS))
        for axis, length in enumerate(shape):
            at = (np.arange(length) + 0.5) / length * (_BLOBS - 1)
            low = np.floor(at).astype(np.int64)
            share = np.expand_dims(at - low, 1 - axis)
            field = (1 - share) * field.take(low, axis) + share * field.take(low + 1, axis)
        return field > np.median(field)

    def together(self, i: int, own: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
        """`own` with the swapped pixels of `other`, both (..., rows, columns)."""
        shape = own.shape[-2:]
        rows, columns = (
            ((np.arange(n) + 0.5) / n * m).astype(np.int64)
            for n, m in zip(shape, other.shape[-2:], strict=True)
        )
        return np.where(self.swapped(i, shape), other[..., rows[:, None], columns], own)


@final
class _StarImages:
    def __init__(self, images: ImageSource, partners: _Partners) -> None:
        self.images, self.partners = images, partners

    def __len__(self) -> int:
        return len(self.images)

    def read(self, i: int) -> NDArray[Any]:
        j = int(self.partners.partner[i])
        own, other = self.images.read(i), self.images.read(j)
        if len(own) != len(other) or own.dtype != other.dtype:
            raise DataError(
                f"{self.images.id(i)!r} and {self.images.id(j)!r} have other bands or values, so "
                "they make no pair of dates; give images of one kind"
            )
        second = self.partners.together(i, own, other)
        if np.issubdtype(own.dtype, np.integer):
            limits = np.iinfo(own.dtype)
            gain = 1 + _LIGHT * np.random.default_rng([self.partners.seed, i, 1]).normal()
            second = (gain * second).round().clip(limits.min, limits.max).astype(own.dtype)
        return np.concatenate([own, second])

    def id(self, i: int) -> str:
        return self.images.id(i)

    def mark(self, i: int) -> tuple[int, int]:
        j = int(self.partners.partner[i])
        return marks_together([file_mark(self.images, i), file_mark(self.images, j)])


@final
class _StarMasks:
    def __init__(self, masks: Targets, partners: _Partners) -> None:
        self.masks, self.partners = masks, partners
        self.one_at_a_time = Lock()  # laying labels silences warnings, which threads share

    def __len__(self) -> int:
        return len(self.masks)

    def covers(self, i: int) -> NDArray[np.int16] | None:
        with self.one_at_a_time:
            own, other = (self.masks.read(k) for k in (i, int(self.partners.partner[i])))
        if own is None or other is None:
            return None
        first = np.where(own < 0, own, own + 1)
        second = np.where(other < 0, other, other + 1)
        return np.stack([first, self.partners.together(i, first, second)]).astype(np.int16)

    def mark(self, i: int) -> tuple[int, int]:
        return marks_together([self.masks.mark(k) for k in (i, int(self.partners.partner[i]))])


def pair_up(data: Dataset, *, seed: int = 0) -> Dataset:
    """Make pairs of dates from images with masks of land cover.

    Args:
        data: Of segmentation; its splits and groups stay.
        seed: Of partners, blobs and light.

    Raises:
        DataError: It has no masks, or nothing changes in any pair.
    """
    if data.targets is None:
        raise DataError(f"dataset {data.name!r} has no masks to make pairs of dates from")
    partners = _Partners(_drawn_partners(data, data.targets, seed), seed)
    masks: ChangeMask = _StarMasks(data.targets, partners)
    groups: Sequence[str] | None = None if data.groups is None else data.groups.tolist()
    labelled = int(data.targets.tally().any(axis=1).sum())
    made = assemble_changes(
        data.name, _StarImages(data.source, partners), masks, data.classes,
        splits=data.splits.tolist(), groups=groups, seed=seed, to_learn=data.to_learn,
        notes=(
            *data.notes,
            f"pairs made from images of one date, each half of another: "
            f"{counted(labelled, 'pair')}; their change is not that of real dates",
        ),
    )  # fmt: skip
    return replace(made, bands=data.bands, wavelengths=data.wavelengths)


def _drawn_partners(data: Dataset, masks: Targets, seed: int) -> NDArray[np.int64]:
    """Draw the mask that each is paired with: of another image, if its split has two with masks."""
    partner, rng = np.arange(len(data)), np.random.default_rng(seed)
    labelled, picture = masks.tally().sum(axis=1) > 0, pictures_of(masks)
    for split in ("train", "val", "test"):
        rows = np.flatnonzero(labelled & (data.splits == split))
        drawn = rng.permutation(np.unique(picture[rows]))
        for own, other in zip(drawn, np.roll(drawn, 1), strict=True):
            mine, theirs = rows[picture[rows] == own], rows[picture[rows] == other]
            partner[mine] = theirs[np.arange(len(mine)) % len(theirs)]
    return partner
