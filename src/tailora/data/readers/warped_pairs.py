"""Pairs of files whose second date lies on another grid: brought to the pixels of the first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.warp import reproject

from tailora.data.change_masks import ChangeFiles
from tailora.data.masks import IGNORED, has_place, lies_on, picture_size, require_same_ground
from tailora.data.rasters.files import quietly
from tailora.data.rasters.values import fill_gaps
from tailora.data.scenes.scene import open_scene
from tailora.data.scenes.warped import Coverage, WarpedScene, warped_onto
from tailora.data.sources import ImageSource, file_mark
from tailora.errors import DataError

_BOTH: Final = 2  # masks of a pair, one of each date


@final
@dataclass(frozen=True)
class Warp:
    """How the second date of a pair is brought to the first.

    Args:
        scene: The second date on the pixels of the first.
        mask: Whether its mask lies on its own pixels, and is brought to the first with it.
    """

    scene: WarpedScene
    mask: bool


def warp_of(before: Path, after: Path, masks: Sequence[Path]) -> Warp | None:
    """Check where the files of a pair lie.

    A second date on other pixels is warped if both dates say where they lie. Its mask may lie on
    the pixels of either.

    Returns:
        None if all lie pixel on pixel.

    Raises:
        DataError: A file lies elsewhere, or the dates share less than 1 % of the ground.
    """
    warped = None
    if has_place(before) and has_place(after) and not lies_on(before, after):
        warped = warped_onto(*(open_scene([one], name=str(one)) for one in (before, after)))
    own_pixels = False
    for number, other in enumerate((after, *masks)):
        if warped and number == 0:
            continue
        if warped and number == _BOTH and _is_of_second(other, before, after):
            own_pixels = True
            continue
        size, found = picture_size(before), picture_size(other)
        if found != size:
            raise DataError(
                f"{str(other)!r} has {found[0]} x {found[1]} pixels, {str(before)!r} "
                f"{size[0]} x {size[1]}; images and masks of a pair must lie pixel on pixel, or "
                "both dates be georeferenced"
            )
        require_same_ground(before, other)
    return Warp(warped, own_pixels) if warped else None


def _is_of_second(mask: Path, before: Path, after: Path) -> bool:
    """Whether a mask lies on the second date; one that says nothing does if its size fits."""
    if has_place(mask) and lies_on(before, mask):
        return False
    return lies_on(after, mask)


@final
class WarpedImages:
    """Images of the second date, some of them warped.

    Args:
        images: As they are stored.
        warps: How some of them are brought to the first date.
    """

    def __init__(self, images: ImageSource, warps: Mapping[int, Warp]) -> None:
        self.images, self.warps = images, warps
        self._valid = Coverage(lambda i: _whole(warps[i])[1])

    def __len__(self) -> int:
        return len(self.images)

    def read(self, i: int) -> NDArray[Any]:
        """Read image `i`; pixels without data get the mean of the others of the band."""
        if i not in self.warps:
            return self.images.read(i)
        values, valid = _whole(self.warps[i])
        return fill_gaps(values, np.broadcast_to(~valid, values.shape))

    def valid(self, i: int) -> NDArray[np.bool_] | None:
        """Return which pixels the second date covers (rows, columns); None if it is not warped."""
        return self._valid(i) if i in self.warps else None

    def id(self, i: int) -> str:
        """Name of image `i`."""
        return self.images.id(i)

    def mark(self, i: int) -> tuple[int, int]:
        """Size and checksum of its file."""
        return file_mark(self.images, i)


@final
class WarpedMasks:
    """Masks of pairs of which some second dates are warped: see `ChangeMask`.

    Args:
        masks: As they are stored.
        warps: How some second dates are brought to the first.
    """

    def __init__(self, masks: ChangeFiles, warps: Mapping[int, Warp]) -> None:
        self.masks, self.warps = masks, warps
        self._valid = Coverage(lambda i: _whole(warps[i])[1])

    def __len__(self) -> int:
        return len(self.masks)

    def covers(self, i: int) -> NDArray[np.int16]:
        """Land cover at both dates; none where the second has no data."""
        if i not in self.warps:
            return self.masks.covers(i)
        warp = self.warps[i]
        own = [self.masks.reader(path) for path in self.masks.paths[i]]
        if warp.mask:
            own[1] = _warped(own[1], warp.scene)
        return np.where(self._valid(i), np.stack([own[0], own[-1]]), IGNORED).astype(np.int16)

    def mark(self, i: int) -> tuple[int, int]:
        """Size and checksum of their files."""
        return self.masks.mark(i)


def _whole(warp: Warp) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    grid = warp.scene.grid
    return warp.scene.read(0, 0, grid.height, grid.width)


def _warped(mask: NDArray[np.int16], scene: WarpedScene) -> NDArray[np.int16]:
    """Bring the mask of a second date to the pixels of the first, by its nearest pixel."""
    own, ground = scene.scene.grid, scene.grid
    found = np.full((ground.height, ground.width), IGNORED, dtype=np.int16)
    with quietly(NotGeoreferencedWarning):  # rasterio's arrays are, a moment after it warns
        reproject(
            mask, found, resampling=Resampling.nearest, src_nodata=IGNORED, dst_nodata=IGNORED,
            src_transform=own.transform, dst_transform=ground.transform,
            src_crs=own.crs, dst_crs=ground.crs,
        )  # fmt: skip
    return found
